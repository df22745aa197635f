"""What the file says of a service: its backends, how they are chosen, and how their health is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hasyncd import addresses
from hasyncd.config_health import Health, PassiveChoice, check_dns_name
from hasyncd.config_section import Commit, Name, Network, Section, Socket, Some, Unit
from hasyncd.config_values import Endpoint, read_absolute_path

Algorithm = Literal["consistent-hash", "maglev", "ecmp", "round-robin", "weighted-round-robin"]


class Backend(Section):
    """A real server."""

    id: int = Field(ge=1, le=0xFFFF_FFFF)
    """Its name in the tables, the same on both nodes; with the weight it decides which keys are its own."""
    address: Socket
    """Where it serves; inside, with the inside VIP as its way out."""
    weight: int = Field(1, ge=1, le=256)
    """Its share of the keys, beside the other backends' weights."""
    health_timeout_ms: int | None = Field(None, ge=1, le=600_000)
    """Where its checks may take longer, or less long, than those of the others."""


def any_client(service: dict[str, Any]) -> tuple[addresses.Network, ...]:
    """Everybody of the family of the service's VIP."""
    vip = service.get("vip")
    return (IPv6Network("::/0") if vip and vip.address.version == 6 else IPv4Network("0.0.0.0/0"),)


class Source(Section):
    """Where the backends of a service are looked up while the program runs, by the primary."""

    file: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """A backend a line: `ID ADDRESS:PORT [WEIGHT]`; `#` begins a comment. Looked at once a second."""
    dns: Annotated[str, AfterValidator(check_dns_name)] | None = None
    """Each address of this name is a backend of weight 1; a name that cannot be resolved changes nothing."""
    port: int | None = Field(None, ge=1, le=65_535)
    """Where the addresses of `dns` serve; without it, the VIP's port."""
    interval_s: Annotated[float, Field(strict=False, ge=0.1, le=86_400)] = 5.0
    """Between two questions to the DNS."""

    def contradictions(self, key: str) -> Iterator[tuple[str, str]]:
        """Yields (key, message) of what single values cannot show."""
        if (self.file is None) == (self.dns is None):
            yield key, "either file or dns, please"
        if self.dns is None:
            for name in ("port", "interval_s"):
                if name in self.model_fields_set:
                    yield f"{key}.{name}", "is for dns"


class Service(Section):
    """A port of a VIP whose flows are balanced over backends."""

    name: Name
    """What status, logs and commands call it."""
    vip: Socket
    """What clients connect to; its address is a VIP."""
    protocol: Literal["tcp", "udp"]
    """Of its flows."""
    algorithm: Algorithm = "consistent-hash"
    """How a flow's backend is chosen (hasyncd/balance/README.md compares them)."""
    key: Literal["tuple", "source", "source-port"] = "tuple"
    """What of a flow decides on its backend."""
    load_limit: Annotated[float, Field(strict=False, ge=1.1, le=100)] | None = None
    """A backend has at most so many times its fair share of the flows; then the next one on the ring is asked."""
    allow: Some[Network] = Field(default_factory=any_client)
    """Who may be a client; without the key, everybody."""
    backends: Annotated[tuple[Backend, ...], Field(strict=False, max_length=1024)] = ()
    """The real servers; each id and each address once. One at least, but with a `source`."""
    source: Source | None = None
    """Who else says which backends there are, while the program runs: a file, or the DNS."""
    health: Health | None = None
    """Without it every backend counts as up."""
    passive: PassiveChoice = None
    """What clients meet speaks too: `true`, or limits of one's own."""
    panic_threshold: Annotated[int, Unit("%")] = Field(0, ge=0, le=100)
    """When fewer of the backends are healthy, the checks are believed no more, and all are used that are not drained;
    0: never."""
    slow_start_s: Annotated[float, Field(strict=False, ge=0, le=3600)] = 0.0
    """A backend that comes (back) gets a quarter of its weight, then two, then three, each for a third of this time."""
    drain_timeout_s: Annotated[float, Field(strict=False, ge=0, le=86_400)] = 0.0
    """So long after `hasyncd drain`, or after it is listed no more, a backend's flows are ended; 0: they end by
    themselves."""
    on_down: Literal["keep", "reset", "reselect"] = "keep"
    """What becomes of the flows of a backend that goes down: nothing; resets to both ends of TCP, while UDP goes
    elsewhere with its next datagram; or UDP goes elsewhere at once, and TCP is left alone."""
    on_empty: Literal["drop", "reject"] = "drop"
    """What a client hears where no backend is left: nothing, or a reset (TCP) and port unreachable (UDP)."""
    commit: Commit | None = None
    """Before a new flow's first packets leave; without it, sync.commit."""


def with_backends(service: Service, members: Iterable[tuple[int, Endpoint, int]]) -> Service:
    """The service with the backends (id, address, weight) that its source has named."""
    backends = tuple(
        Backend.model_validate({"id": id, "address": str(address), "weight": weight})
        for id, address, weight in members
    )
    return service.model_copy(update={"backends": backends})
