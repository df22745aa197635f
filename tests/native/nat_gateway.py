"""An engine without sockets, for tests of NAT: private hosts inside, servers outside, every neighbour known.

inside 10.0.1.0/24 (VIP .1) ── engine ── outside 203.0.113.0/24 (VIP .5), default by .254
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native.frames import Seen, number, read

SECOND = 10**9
INSIDE_VIP, OUTSIDE_VIP, PUBLIC = "10.0.1.1", "203.0.113.5", "203.0.113.6"
MACS = (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")
ROUTER = "203.0.113.254"

Rule = tuple[list[tuple[int, int]], list[tuple[int, int]], list[int], int, int]


def nat_rule(*publics: str, first: int = 1024, last: int = 65535) -> Rule:
    """10.0.0.0/16 leaves by these public addresses."""
    return [(number("10.0.0.0"), 16)], [], [number(public) for public in publics or (PUBLIC,)], first, last


@dataclass
class Gateway:
    """An armed engine and its clock, which tests move."""

    capacity: int = 4096
    rules: list[Rule] = field(default_factory=lambda: [nat_rule()])
    seed: bytes = b"tests of the NAT"
    now: int = 1000 * SECOND

    def __post_init__(self) -> None:
        self.engine = Engine(capacity=self.capacity, seed=self.seed)
        for side, mac in enumerate(MACS):
            self.engine.attach(side, mac, 1500)
        self.engine.set_vips([(INSIDE, number(INSIDE_VIP)), (OUTSIDE, number(OUTSIDE_VIP))])
        self.engine.set_routes(
            [
                (number("10.0.0.0"), 16, INSIDE, number("10.0.1.254")),
                (number("203.0.113.0"), 24, OUTSIDE, number(ROUTER)),
                (0, 0, OUTSIDE, number(ROUTER)),
            ]
        )
        self.engine.set_neighbours(
            [(INSIDE, number("10.0.1.254"), b"\x06" * 6), (OUTSIDE, number(ROUTER), b"\x08" * 6)]
        )
        self.engine.set_nat_rules(self.rules)
        self.engine.set_lease(1 << 62)
        self.engine.arm(self.now - 200 * SECOND)  # the grace after a takeover is over

    def send(self, side: int, frame: bytes) -> list[tuple[int, Seen]]:
        """What leaves for a frame, taken apart."""
        self.engine.inject(side, frame, self.now)
        return [(out, read(sent)) for out, sent in self.engine.take_sent()]

    def out(self, frame: bytes) -> Seen | None:
        """A frame from inside: what leaves outside, if anything does."""
        left = self.send(INSIDE, frame)
        assert all(side == OUTSIDE for side, _ in left)
        return left[0][1] if left else None

    def back(self, frame: bytes) -> Seen | None:
        """A frame from outside: what arrives inside, if anything does."""
        left = self.send(OUTSIDE, frame)
        assert all(side == INSIDE for side, _ in left)
        return left[0][1] if left else None

    def wait(self, seconds: float) -> None:
        """Time passes, housekeeping included."""
        self.now += int(seconds * SECOND)
        for _ in range(4):
            self.engine.tick(self.now)

    def count(self, name: str) -> int:
        return self.engine.counters()[name]

    @property
    def flows(self) -> int:
        return self.engine.flow_counts()[0]

    def loop(self, frame: bytes) -> Seen | None:
        """A frame from inside that is to come back inside."""
        left = self.send(INSIDE, frame)
        assert all(side == INSIDE for side, _ in left)
        return left[0][1] if left else None

    def copy(self) -> Gateway:
        """A backup that holds what this one has told, ready to take over."""
        other = Gateway(self.capacity, self.rules, self.seed, self.now)
        _, rejection = other.engine.install(self.engine.drain()[2], self.now)
        assert rejection is None
        return other
