"""What the model knows before the first packet: TCP's transitions, tuples, packets, and the rules.

TCP's transitions are read from the one table that there is, in test_tcp_state.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.frames import ACK, FIN, ICMP, RST, SYN, TCP, UDP

ORIGINAL, REPLY = 0, 1
URG = 0x20

# --- TCP, as test_tcp_state.c has it ------------------------------------------------------------------------

STATES: Final = "NsrEFCLTX2"
SYN_SENT, SYN_RECV, ESTABLISHED, TIME_WAIT, CLOSE, SYN_SENT2 = 1, 2, 3, 7, 8, 9
HALF_OPEN: Final = (SYN_SENT, SYN_RECV, SYN_SENT2)
OVER: Final = (6, TIME_WAIT, CLOSE)
IGNORED, INVALID = "i", "-"

_ROW = re.compile(r'\{HS_(ORIGINAL|REPLY), HS_CLASS_(\w+), "[^"]{10}", "([^"]{10})"\}')
_TABLE: Final = {
    (REPLY if direction == "REPLY" else ORIGINAL, kind): cells
    for direction, kind, cells in _ROW.findall((Path(__file__).parent / "test_tcp_state.c").read_text())
}
assert len(_TABLE) == 12, "the table of test_tcp_state.c"


def tcp_class(flags: int) -> str:
    """What a segment is (Linux: tcp_get_conntrack_index), NONE for what no TCP sends (tcp_valid_flags)."""
    named = flags & (FIN | SYN | RST | ACK | URG)
    if named in (SYN, SYN | URG):
        return "SYN"
    if named == SYN | ACK:
        return "SYNACK"
    if named in (FIN | ACK, FIN | ACK | URG):
        return "FIN"
    if named in (ACK, ACK | URG):
        return "ACK"
    return "RST" if named in (RST, RST | ACK) else "NONE"


def tcp_next(direction: int, flags: int, state: int, *, liberal: bool = False) -> str:
    """The next state's letter, IGNORED or INVALID. `liberal`: after a takeover, until both directions were seen."""
    kind = tcp_class(flags)
    letter = _TABLE[direction, kind][state]
    if liberal and state in HALF_OPEN and kind in ("ACK", "FIN"):
        return "E" if kind == "ACK" else "F"
    return IGNORED if liberal and letter == INVALID and kind != "NONE" else letter


# --- packets and rules --------------------------------------------------------------------------------------


class Ends(NamedTuple):
    """A tuple. ICMP: `sport` is the identifier and `dport` 0."""

    proto: int
    src: str
    sport: int
    dst: str
    dport: int

    def __repr__(self) -> str:
        name = {ICMP: "icmp", TCP: "tcp", UDP: "udp"}[self.proto]
        return f"{name} {self.src}:{self.sport}>{self.dst}:{self.dport}"

    @property
    def inverted(self) -> Ends:
        if self.proto == ICMP:
            return Ends(ICMP, self.dst, self.sport, self.src, 0)
        return Ends(self.proto, self.dst, self.dport, self.src, self.sport)


@dataclass(frozen=True)
class Packet:
    ends: Ends
    flags: int = 0
    sequence: int = 1
    answers: bool = False
    """ICMP: an echo reply, not a request."""

    @property
    def is_first(self) -> bool:
        if self.ends.proto == TCP:
            return tcp_class(self.flags) == "SYN"
        return not self.answers


@dataclass(frozen=True)
class Forward:
    """A way in; `proto` 0 maps whole addresses, both ways."""

    public: str
    port: int
    proto: int
    inside: str
    inside_port: int
    allow: tuple[str, ...] = ("",)

    def takes(self, ends: Ends) -> bool:
        return self.public == ends.dst and self.proto in (0, ends.proto) and self.port in (0, ends.dport)


@dataclass
class Rules:
    """One NAT rule, its options, and the ways in. Prefixes are what the dotted address begins with."""

    inside: str
    vips: tuple[str, ...]
    publics: tuple[str, ...]
    ports: tuple[int, int]
    reserved: tuple[int, ...]
    exempt: str
    quota: int
    hold_down_s: int
    half_open_per_source: int
    early_drop: bool
    forwards: tuple[Forward, ...]
    services: tuple[tuple[int, str, int], ...]
    backends: dict[int, tuple[str, int]]
    """By server id; every service has them all."""
    homes: dict[str, str]
    """The public address that each private host prefers."""

    def side_of(self, address: str) -> int:
        return INSIDE if address.startswith(self.inside) else OUTSIDE

    def service_at(self, proto: int, address: str, port: int) -> int:
        ways = enumerate(self.services)
        return next((index for index, way in ways if proto != ICMP and way == (proto, address, port)), -1)

    def own_public(self, address: str) -> str | None:
        return next((way.public for way in self.forwards if not way.proto and way.inside == address), None)

    def eligible(self, public: str, ends: Ends) -> list[int]:
        """The public ports that a flow may get there: in range, not reserved, nobody's way in, of its parity (UDP)."""
        first, last = self.ports
        listens = [Ends(ends.proto, ends.dst, ends.dport, public, port) for port in range(first, last + 1)]
        return [
            way.dport
            for way in listens
            if way.dport not in self.reserved
            and (ends.proto != UDP or way.dport % 2 == ends.sport % 2)
            and self.service_at(way.proto, way.dst, way.dport) < 0
            and (ends.proto == ICMP or not any(forward.takes(way) for forward in self.forwards))
        ]
