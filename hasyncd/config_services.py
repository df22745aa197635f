"""What the file says of a service: its backends, how they are chosen, and how their health is found."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import Field

from hasyncd import addresses
from hasyncd.config_health import Health, PassiveChoice
from hasyncd.config_section import Commit, Name, Network, Section, Socket, Some

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
    backends: Annotated[tuple[Backend, ...], Field(strict=False, min_length=1, max_length=1024)]
    """The real servers; each id and each address once."""
    health: Health | None = None
    """Without it every backend counts as up."""
    passive: PassiveChoice = None
    """What clients meet speaks too: `true`, or limits of one's own."""
    commit: Commit | None = None
    """Before a new flow's first packets leave; without it, sync.commit."""
