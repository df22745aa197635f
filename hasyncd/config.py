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
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from hasyncd.config_checks import Parts
from hasyncd.config_errors import describe, is_echo
from hasyncd.config_health import HEALTH_MODELS
from hasyncd.config_metrics import Metrics
from hasyncd.config_pair import Interfaces, LanPath, Node, Peer, Sync, Vip
from hasyncd.config_routes import Routes
from hasyncd.config_rules import Flows, Forward, NatRule, OneToOne, Pass
from hasyncd.config_section import Section as _Section
from hasyncd.config_section import Several, Some
from hasyncd.config_services import Backend, Service, Source
from hasyncd.config_tracks import Fitness, Track
from hasyncd.config_values import (
    NAME,
    read_absolute_path,
    read_socket_path,
)
from hasyncd.config_witness import Witness

FILE_BYTES_MAX: Final = 1 << 20


class ConfigError(Exception):
    """The file cannot be used; `errors` says why, one complete line each."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


# --- the sections -----------------------------------------------------------------------------------------


class Log(_Section):
    """What is written down of each mapping. The daemon's own log goes to standard error."""

    mappings: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """The file for the mappings of NAT rules with log = "flows"; may be renamed away at any time, a new one is made."""
    log_destinations: bool = False
    """Tells whom each mapping was made for (RFC 6888 REQ-12 would have it not)."""


class Control(_Section):
    """Where operators reach the daemon."""

    socket: Annotated[Path, BeforeValidator(read_socket_path)]
    """The control socket, mode 0600. Default: `/run/hasyncd/NAME.sock`."""
    last_word: Path | None = None
    """Where the delta log lies in memory (proto/last_word.md); default: beside the socket. A tmpfs, please."""

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
    metrics: Metrics | None = None

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
            "service": [
                each.model_copy(update={"backends": tuple(sorted(each.backends, key=lambda one: one.id))})
                for each in self.service
            ],
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
    "metrics": Metrics,
    "backends": Backend,
    "source": Source,
    **HEALTH_MODELS,
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
        metrics=_valid(Metrics, document.get("metrics")),
        forwards=_all_valid(Forward, document.get("forward")),
        one_to_ones=_all_valid(OneToOne, document.get("one_to_one")),
        services=_all_valid(Service, document.get("service")),
        vips_whole=isinstance(written, list) and len(vips) == len(written),
    )
