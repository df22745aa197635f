"""The configuration: one TOML file in, frozen settings out.

`load` is the only door. It judges the file alone (what needs the machine, such as whether an interface
exists, is judged by the daemon at its start) and names every error it finds, each as
`FILE: key.path: message`. Only this module and `config_errors.py` know pydantic; others read the attributes of
`Settings` and never construct its parts.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from hasyncd import addresses
from hasyncd.config_checks import Parts
from hasyncd.config_errors import describe, is_echo
from hasyncd.config_routes import Routes
from hasyncd.config_section import AsText as _As
from hasyncd.config_section import Name, Several, Some
from hasyncd.config_section import Section as _Section
from hasyncd.config_tracks import Fitness, Track
from hasyncd.config_values import (
    NAME,
    Endpoint,
    PortRange,
    read_absolute_path,
    read_endpoint,
    read_engine,
    read_interface,
    read_interface_choice,
    read_ipv4_address,
    read_ipv4_endpoint,
    read_ipv4_network,
    read_ipv6_network,
    read_network,
    read_port_range,
    read_socket_path,
    refuse,
)
from hasyncd.config_witness import Witness

FILE_BYTES_MAX: Final = 1 << 20


class ConfigError(Exception):
    """The file cannot be used; `errors` says why, one complete line each."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


Network = Annotated[addresses.Network, BeforeValidator(read_network), _As]
Socket = Annotated[Endpoint, BeforeValidator(read_endpoint), _As]
AddressV4 = Annotated[IPv4Address, BeforeValidator(read_ipv4_address), _As]
NetworkV4 = Annotated[IPv4Network, BeforeValidator(read_ipv4_network), _As]
NetworkV6 = Annotated[IPv6Network, BeforeValidator(read_ipv6_network), _As]
SocketV4 = Annotated[Endpoint, BeforeValidator(read_ipv4_endpoint), _As]
Ports = Annotated[PortRange, BeforeValidator(read_port_range), _As]
Commit = Literal["ack", "emit"]
Algorithm = Literal["consistent-hash", "maglev", "ecmp", "round-robin", "weighted-round-robin"]
"""What must be true before the first packets of a new flow leave: proto/sync.md §6."""


# --- the sections -----------------------------------------------------------------------------------------


class Node(_Section):
    name: Name
    priority: int = Field(100, ge=0, le=65535)
    state_dir: Annotated[Path, BeforeValidator(read_absolute_path)] = Path("/var/lib/hasyncd")
    engine: Annotated[Literal["auto", "packet"], BeforeValidator(read_engine)] = "auto"
    capacity: int = Field(1 << 20, ge=1024, le=8 << 20)
    """Flows; fixed for the life of the process."""
    nice: int = Field(-10, ge=-20, le=19)
    packet_thread: bool | None = None
    """Packets move in a thread of their own; by default where there is more than one core."""
    packet_io: Literal["auto", "ring", "mmsg"] = "auto"
    """How packets come in: a ring shared with the kernel, or recvmmsg; `auto`: the ring where the kernel has room for
    it (hasyncd/native/README.md says what was measured)."""


class Interfaces(_Section):
    inside: Annotated[str, BeforeValidator(read_interface_choice)]
    outside: Annotated[str, BeforeValidator(read_interface_choice)]


class Vip(_Section):
    address: Annotated[addresses.Interface, BeforeValidator(read_interface), _As]
    interface: Literal["inside", "outside"]


class LanPath(_Section):
    """Heartbeats over a service LAN, from and to the two machines' own addresses on it."""

    listen: Socket
    address: Socket


class Peer(_Section):
    listen: Socket
    address: Socket
    keys: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """What `hasyncd keygen` made for this node; the only other way is `insecure`."""
    insecure: bool = False
    key_log: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """For debugging: the stream's TLS secrets are written here, for Wireshark (proto/README.md)."""
    protocol: int = Field(2, ge=1, le=2)
    """The newest version of proto/sync.md §4.1 that is spoken: an older one keeps the way back to an older program."""
    heartbeat_ms: int = Field(50, ge=1, le=60_000)
    dead_after_ms: int = Field(150, ge=3, le=600_000)
    paths: Some[Literal["sync", "inside", "outside"]] = ("sync",)
    inside: LanPath | None = None
    outside: LanPath | None = None
    prefer: Literal["availability", "safety"] = "availability"
    on_vip_owned: Literal["wait", "take"] = "wait"
    """Nobody is heard, but somebody else answers for a VIP on its LAN (proto/pair.md §4c)."""
    wait_ms: int = Field(0, ge=0, le=600_000)
    witness: Witness | None = None

    @property
    def has_upper_ports(self) -> bool:
        """Which half of the public ports is this node's while it is alone: proto/pair.md P20."""
        return (int(self.listen.address), self.listen.port) > (int(self.address.address), self.address.port)

    def lan(self, name: str) -> LanPath | None:
        """The path over the service LAN `inside` or `outside`, where it is configured."""
        return self.inside if name == "inside" else self.outside


class Sync(_Section):
    enabled: bool = True
    commit: Commit = "ack"
    """Of every rule that has none of its own."""
    commit_timeout_ms: int = Field(50, ge=1, le=60_000)
    on_commit_timeout: Literal["fail_open", "fail_closed"] = "fail_open"
    log_records: int = Field(262_144, ge=1024, le=1 << 24)
    scrub_s: int = Field(30, ge=0, le=86_400)
    """Memory is compared with what was written there, the whole table once in so many seconds; 0: never."""


class Flows(_Section):
    """What new flows may cost."""

    half_open_per_source: int = Field(0, ge=0, le=8 << 20)
    """Half-open TCP flows of one source; 0: no limit but the one for all, a quarter of the capacity."""
    loose: bool = False
    """An ACK without a flow makes one where the rules lead it to the same host."""
    early_drop: bool = False
    """A full table drops flows that are unanswered or over (RFC 6888 would have them stay)."""


class NatRule(_Section):
    source: Some[NetworkV4]
    destination: Several[NetworkV4] = ()
    """No networks: any destination."""
    public: Some[AddressV4]
    ports: Ports = PortRange(1024, 65535)
    reserved: Several[Ports] = ()
    """Ports of the range that are never given out."""
    exempt: Several[NetworkV4] = ()
    """Destinations to which a source goes with its own address and port."""
    max_flows_per_source: int = Field(0, ge=0, le=8 << 20)
    """Flows that one source may have at a time; 0: no limit."""
    hold_down_s: int = Field(120, ge=0, le=3600)
    """A freed public port serves no other endpoint towards the same destination for so long (RFC 6888 REQ-8)."""
    preserve_parity: bool = False
    port_classes: bool = True
    on_exhaustion: Literal["drop", "icmp"] = "drop"
    log: Literal["off", "flows"] = "off"
    """A line for each mapping that is made or ended, into log.mappings."""
    commit: Commit | None = None


class Forward(_Section):
    """A port of a public address that is an inside host's."""

    public: SocketV4
    protocol: Literal["tcp", "udp"]
    to: SocketV4
    allow: Some[NetworkV4] = (IPv4Network("0.0.0.0/0"),)
    commit: Commit | None = None


class OneToOne(_Section):
    """A public address that is an inside host's own, both ways."""

    public: AddressV4
    inside: AddressV4
    allow: Some[NetworkV4] = (IPv4Network("0.0.0.0/0"),)
    commit: Commit | None = None


class Pass(_Section):
    """IPv6 that is forwarded as it is: hosts inside and whom they may reach."""

    source: Some[NetworkV6]
    destination: Several[NetworkV6] = ()
    """No networks: any destination."""
    inbound: bool = False
    """Flows may be opened from outside too, from a destination to a source."""
    commit: Commit | None = None


class Backend(_Section):
    id: int = Field(ge=1, le=0xFFFF_FFFF)
    address: Socket
    weight: int = Field(1, ge=1, le=256)


class Health(_Section):
    kind: Literal["tcp"] = "tcp"
    interval_ms: int = Field(1000, ge=10, le=3_600_000)
    rise: int = Field(2, ge=1, le=1000)
    fall: int = Field(3, ge=1, le=1000)


def any_client(service: dict[str, Any]) -> tuple[addresses.Network, ...]:
    """Everybody of the family of the service's VIP."""
    vip = service.get("vip")
    return (IPv6Network("::/0") if vip and vip.address.version == 6 else IPv4Network("0.0.0.0/0"),)


class Service(_Section):
    name: Name
    vip: Socket
    protocol: Literal["tcp", "udp"]
    algorithm: Algorithm = "consistent-hash"
    key: Literal["tuple", "source", "source-port"] = "tuple"
    """What of a flow decides on its backend."""
    load_limit: Annotated[float, Field(strict=False, ge=1.1, le=100)] | None = None
    """A backend has at most so many times its fair share of the flows; then the next one on the ring is asked."""
    allow: Some[Network] = Field(default_factory=any_client)
    backends: Annotated[tuple[Backend, ...], Field(strict=False, min_length=1, max_length=1024)]
    health: Health | None = None
    commit: Commit | None = None


class Log(_Section):
    mappings: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """The file for the mappings of NAT rules with log = "flows"."""
    log_destinations: bool = False
    """Tells whom each mapping was made for (RFC 6888 REQ-12 would have it not)."""


class Control(_Section):
    socket: Annotated[Path, BeforeValidator(read_socket_path)]
    last_word: Path | None = None
    """Where the delta log lies in memory (proto/last_word.md); None: beside the socket."""

    @property
    def last_word_path(self) -> Path:
        """As configured, or beside the socket."""
        return self.last_word or self.socket.with_suffix(".lastword")


class Settings(_Section):
    """Everything the file says. Frozen; equal files give equal settings."""

    node: Node
    interfaces: Interfaces
    vip: Some[Vip]
    peer: Peer
    sync: Sync = Sync()
    fitness: Fitness = Fitness()
    track: Several[Track] = ()
    flows: Flows = Flows()
    nat: Several[NatRule] = ()
    forward: Annotated[tuple[Forward, ...], Field(strict=False, max_length=128)] = ()
    one_to_one: Annotated[tuple[OneToOne, ...], Field(strict=False, max_length=128)] = ()
    passes: Several[Pass] = Field((), alias="pass")
    service: Annotated[tuple[Service, ...], Field(strict=False, max_length=256)] = ()
    routes: Routes | None = None
    control: Control
    log: Log = Log()
    metrics: Annotated[None, BeforeValidator(refuse)] = None

    @property
    def speaks_ipv6(self) -> bool:
        """Whether any IPv6 is to be forwarded or answered for."""
        return bool(self.passes) or any(vip.address.version == 6 for vip in self.vip)

    @property
    def witness_key(self) -> str | None:
        """Where the witness keeps this pair's register; None without one."""
        if self.peer.witness is None:
            return None
        by_side = sorted((vip.interface != "outside", str(vip.address.ip)) for vip in self.vip)
        return f"/hasyncd/{self.peer.witness.pair or by_side[0][1]}"

    def config_hash(self) -> bytes:
        """8 bytes over what both nodes must have alike, as proto/sync.md §4.3 writes it down.

        What has its default value is left out: a newer program with one more key and an older one without it agree.
        """
        tables = {
            "vip": sorted(self.vip, key=lambda vip: str(vip.address)),
            "nat": self.nat,
            "forward": self.forward,
            "one_to_one": self.one_to_one,
            "pass": self.passes,
            "service": self.service,
        }
        shared: dict[str, object] = {
            name: [section.model_dump(mode="json", exclude_defaults=True) for section in sections]
            for name, sections in tables.items()
            if sections
        }
        shared["commit"] = self.sync.commit
        if self.witness_key is not None:
            shared["witness"] = self.witness_key
        text = json.dumps(shared, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:8]


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Settings,
    "node": Node,
    "interfaces": Interfaces,
    "vip": Vip,
    "peer": Peer,
    "witness": Witness,
    "inside": LanPath,
    "outside": LanPath,
    "fitness": Fitness,
    "track": Track,
    "sync": Sync,
    "flows": Flows,
    "nat": NatRule,
    "forward": Forward,
    "one_to_one": OneToOne,
    "pass": Pass,
    "service": Service,
    "routes": Routes,
    "control": Control,
    "log": Log,
    "backends": Backend,
    "health": Health,
}


# --- the door ---------------------------------------------------------------------------------------------


def load(path: Path) -> Settings:
    """Reads and judges a configuration file.

    Raises:
        ConfigError: naming every error found, not only the first.
    """
    document = _read(path)
    settings: Settings | None = None
    errors: list[tuple[str, str]] = []
    try:
        settings = Settings.model_validate(_with_defaults(document))
    except ValidationError as error:
        findings = (detail for detail in error.errors(include_url=False) if not is_echo(detail))
        errors += (describe(detail, _MODELS) for detail in findings)
    errors += _parts(document).contradictions()
    if settings is None or errors:
        raise ConfigError([f"{path}: {key}: {message}" for key, message in dict.fromkeys(errors)])
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}: is larger than {FILE_BYTES_MAX} bytes"])
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from None
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        raise ConfigError([f"{path}: {where.rstrip(')') or 'TOML'}: {what[:1].lower()}{what[1:]}"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: TOML: nested too deeply"]) from None


def _with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Fills in what a default takes from another section: the socket's path from the node's name."""
    control = document.get("control", {})
    if not isinstance(control, dict) or "socket" in control:
        return document
    node = document.get("node")
    name = node.get("name") if isinstance(node, dict) else None
    # Without a name there is an error already; the stand-in only keeps a second one from being told.
    socket = f"/run/hasyncd/{name if isinstance(name, str) and NAME.fullmatch(name) else 'node'}.sock"
    return {**document, "control": {**control, "socket": socket}}


# --- the parts that are good by themselves, to be judged against each other -------------------------------

_Model = TypeVar("_Model", bound=_Section)


def _valid(model: type[_Model], value: object) -> _Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _all_valid(model: type[_Model], values: object) -> dict[int, _Model]:
    """The elements of an array of tables that are good by themselves, by their place."""
    if not isinstance(values, list):
        return {}
    judged = ((place, _valid(model, value)) for place, value in enumerate(values))
    return {place: section for place, section in judged if section is not None}


def _parts(document: Mapping[str, Any]) -> Parts:
    written = document.get("vip")
    vips = _all_valid(Vip, written)
    return Parts(
        interfaces=_valid(Interfaces, document.get("interfaces")),
        peer=_valid(Peer, document.get("peer")),
        vips=vips,
        tracks=_all_valid(Track, document.get("track")),
        nats=_all_valid(NatRule, document.get("nat")),
        routes=_valid(Routes, document.get("routes")),
        log=_valid(Log, document.get("log", {})),
        forwards=_all_valid(Forward, document.get("forward")),
        one_to_ones=_all_valid(OneToOne, document.get("one_to_one")),
        services=_all_valid(Service, document.get("service")),
        vips_whole=isinstance(written, list) and len(vips) == len(written),
    )
