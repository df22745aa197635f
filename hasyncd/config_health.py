"""`health` and `passive` of a `[[service]]`: how its backends are checked, and what their own traffic says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from hasyncd.config_section import AsText, Section, Some
from hasyncd.config_values import read_absolute_path, show

_TIMEOUT_MS_MAX: Final = 5000
"""Of a check without a timeout of its own, where its interval is longer."""
_PAYLOAD_BYTES_MAX: Final = 512
_LABEL_BYTES_MAX: Final = 63
_NAME_BYTES_MAX: Final = 253
Kind = Literal["tcp", "http", "tls", "udp", "dns", "command"]
_TABLES: Final = ("http", "tls", "udp", "dns", "command")
_NEEDS_TABLE: Final = frozenset({"dns", "command"})
"""A name and a command cannot be guessed."""


class StatusRange(NamedTuple):
    """HTTP statuses from the first to the last, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def read_statuses(value: object) -> StatusRange:
    """`200` or `"200-399"`, both included."""
    first, dash, last = str(value).partition("-")
    words = (first, last if dash else first)
    if isinstance(value, bool) or not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(f'must be a status such as 200 or a range such as "200-399", not {show(value)}')
    low, high = map(int, words)
    if not 100 <= low <= high <= 599:
        raise ValueError(f"{value} is no range of HTTP statuses (100 to 599)")
    return StatusRange(low, high)


def _check_path(path: str) -> str:
    if not path.startswith("/") or not path.isascii() or any(not " " < letter < "\x7f" for letter in path):
        raise ValueError(f"must begin with '/' and be of visible ASCII characters, not {path!r}")
    return path


def _check_host(host: str) -> str:
    """What stands in a `Host` header or an SNI: never a line end, never a space."""
    if not host.isascii() or not host or any(not (letter.isalnum() or letter in ".-_:[]") for letter in host):
        raise ValueError(f"must be a host's name such as www.example.org, not {host!r}")
    return host


def check_dns_name(name: str) -> str:
    """A domain name in its ASCII form, with or without the last dot; `.` is the root (RFC 1035 2.3.4)."""
    labels = name.removesuffix(".").split(".") if name != "." else []
    if (
        not name.isascii()
        or len(name.removesuffix(".")) > _NAME_BYTES_MAX
        or any(not 0 < len(label) <= _LABEL_BYTES_MAX for label in labels)
        or any(not "!" <= letter <= "~" for letter in name)
    ):
        raise ValueError(f"must be a domain name such as example.org, not {name!r}")
    return name


def _check_hex(text: str) -> str:
    try:
        payload = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"must be pairs of hexadecimal digits, not {text!r}") from None
    if len(payload) > _PAYLOAD_BYTES_MAX:
        raise ValueError(f"must not be longer than {_PAYLOAD_BYTES_MAX} bytes")
    return text


Host = Annotated[str, AfterValidator(_check_host), Field(max_length=_NAME_BYTES_MAX)]
File = Annotated[Path, BeforeValidator(read_absolute_path)]
Hex = Annotated[str, AfterValidator(_check_hex)]
Statuses = Annotated[StatusRange, BeforeValidator(read_statuses), AsText]
Rcode = Literal["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]
RecordType = Literal["A", "AAAA", "NS", "SOA", "MX", "TXT", "PTR"]


class TlsProbe(Section):
    """A handshake; nothing is said after it."""

    verify: bool = True
    """The certificate has to be signed by somebody who is trusted, valid now, and `server_name`'s."""
    server_name: Host | None = None
    """Without it, the backend's address, which hardly any certificate has."""
    ca: File | None = None
    """Who is trusted; without it, whom the machine trusts."""


class HttpProbe(Section):
    """A GET, its answer's status, and words that its body must have."""

    path: Annotated[str, AfterValidator(_check_path), Field(max_length=2048)] = "/"
    """With its query, as it stands in the request."""
    host: Host | None = None
    """Without it, the backend's address and port."""
    status: Some[Statuses] = (StatusRange(200, 299),)
    """Redirections are not followed: their status is judged like any other."""
    contains: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Words that the body must have."""
    body_bytes_max: int = Field(65_536, ge=1, le=1 << 20)
    """So much of a body is read to find the words; the rest is not."""
    tls: TlsProbe | None = None
    """An empty table is enough for https; without it, http."""


class UdpProbe(Section):
    """A datagram, and what is to come of it."""

    send: Annotated[str, Field(max_length=_PAYLOAD_BYTES_MAX)] | None = None
    """Text; `send_hex` for other bytes. Neither: an empty datagram."""
    send_hex: Hex | None = None
    """The datagram in hexadecimal digits."""
    expect: Literal["answer", "no-refusal"] = "answer"
    """`no-refusal`: silence is good, and only what ICMP says is bad. A dead machine is silent too."""
    contains: Annotated[str, Field(min_length=1, max_length=_PAYLOAD_BYTES_MAX)] | None = None
    """What the answer must have in it: text, or `contains_hex`."""
    contains_hex: Hex | None = None
    """The same in hexadecimal digits."""

    @property
    def payload(self) -> bytes:
        return bytes.fromhex(self.send_hex) if self.send_hex else (self.send or "").encode()

    @property
    def wanted(self) -> bytes:
        """Empty: any answer will do."""
        return bytes.fromhex(self.contains_hex) if self.contains_hex else (self.contains or "").encode()


class DnsProbe(Section):
    """A question; over TCP where the service is TCP's."""

    name: Annotated[str, AfterValidator(check_dns_name)]
    """What is asked for; `.` is the root, which every resolver knows."""
    type: RecordType = "A"
    """Of the records asked for; that there are any is not asked."""
    rcodes: Some[Rcode] = ("NOERROR",)
    """The response codes that are good."""


class CommandProbe(Section):
    """A program that ends with 0 where the backend is well. No shell reads it."""

    run: Some[Annotated[str, Field(min_length=1, max_length=4096)]]
    """Its words; `{address}` and `{port}` in them are the backend's."""
    env: dict[str, str] = Field(default_factory=dict, max_length=64)
    """Beside PATH and HASYNCD_SERVICE, _BACKEND, _ADDRESS and _PORT, which is all of its environment."""


class Health(Section):
    """How the backends of a service are checked."""

    kind: Kind = "tcp"
    """What a backend is asked (hasyncd/balance/README.md)."""
    interval_ms: int = Field(1000, ge=10, le=3_600_000)
    """Between the beginnings of two checks of one backend."""
    timeout_ms: int | None = Field(None, ge=1, le=600_000)
    """Without it, the interval, 5 s at most."""
    rise: int = Field(2, ge=1, le=1000)
    """So many successes in a row bring a backend up."""
    fall: int = Field(3, ge=1, le=1000)
    """So many failures in a row take it down."""
    jitter: Annotated[float, Field(strict=False, ge=0, le=1)] = 0.1
    """By up to this part of the interval a check comes sooner or later than the one before it says."""
    port: int | None = Field(None, ge=1, le=65_535)
    """Without it, the backend's own."""
    http: HttpProbe = HttpProbe()
    """Of kind `http`."""
    tls: TlsProbe = TlsProbe()
    """Of kind `tls`."""
    udp: UdpProbe = UdpProbe()
    """Of kind `udp`."""
    dns: DnsProbe | None = None
    """Of kind `dns`, which needs it."""
    command: CommandProbe | None = None
    """Of kind `command`, which needs it."""

    def timeout_s(self, override_ms: int | None = None) -> float:
        """Of one check; `override_ms` is a backend's own."""
        timeout_ms = override_ms or self.timeout_ms or min(self.interval_ms, _TIMEOUT_MS_MAX)
        return timeout_ms / 1000

    def contradictions(self, key: str) -> Iterator[tuple[str, str]]:
        """Yields (key, message) of what single values cannot show."""
        for table in _TABLES:
            if table in self.model_fields_set and table != self.kind:
                yield f"{key}.{table}", f"is for kind = {table!r}, and this is {self.kind!r}"
        if self.kind in _NEEDS_TABLE and getattr(self, self.kind) is None:
            yield f"{key}.{self.kind}", f"is missing: kind = {self.kind!r} needs it"
        if self.timeout_ms is not None and self.timeout_ms > self.interval_ms:
            yield f"{key}.timeout_ms", f"{self.timeout_ms} is longer than interval_ms ({self.interval_ms})"
        if self.kind == "udp":
            for text in ("send", "contains"):
                if {text, f"{text}_hex"} <= self.udp.model_fields_set:
                    yield f"{key}.udp.{text}_hex", f"there is {text} already"
            if self.udp.expect == "no-refusal" and self.udp.wanted:
                yield f"{key}.udp.contains", 'is for expect = "answer"'


class Passive(Section):
    """When what clients meet says that a backend is dead (hasyncd/balance/passive.py)."""

    window_s: int = Field(10, ge=2, le=600)
    """How far back is looked."""
    min_flows: int = Field(20, ge=1, le=1_000_000)
    """So many new flows a window must have had before anything is said of them."""
    unanswered: Annotated[float, Field(strict=False, ge=0.01, le=1)] = 0.5
    """Connections whose SYN nobody answered, of all that were opened, above which a backend looks dead."""
    refused: Annotated[float, Field(strict=False, ge=0.01, le=1)] = 0.5
    """The same of connections whose SYN the backend answered with a reset."""
    resets: Annotated[float, Field(strict=False, ge=0.01, le=1)] = 0.9
    """The same of all resets by the backend; some servers end good connections so."""
    down_s: int = Field(30, ge=1, le=86_400)
    """So long a backend without health checks is left alone then."""


def read_passive(value: object) -> Any:
    """`true` stands for the defaults, `false` for none."""
    if isinstance(value, bool):
        return Passive() if value else None
    return value


PassiveChoice = Annotated[Passive | None, BeforeValidator(read_passive)]
HEALTH_MODELS: Final[dict[str, type[BaseModel]]] = {
    "health": Health,
    "http": HttpProbe,
    "tls": TlsProbe,
    "udp": UdpProbe,
    "dns": DnsProbe,
    "command": CommandProbe,
    "passive": Passive,
}
"""What stands under a name, for `config_errors`."""
