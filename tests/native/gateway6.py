"""An engine without sockets that speaks both families, and its clock.

hosts 2001:db8:1::7 …, backends ::21 ::22 ── 2001:db8:1::1 [engine] 2001:db8:2::5 ── clients ::100 …, router fe80::1
beside it IPv4 as in engines.py: NAT for 10.0.1.0/24 behind 203.0.113.5, a service there
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import engines
from tests.native.engines import publish_ring
from tests.native.frames6 import Seen6, number6, read6

SECOND = 10**9
INSIDE_VIP6, OUTSIDE_VIP6 = "2001:db8:1::1", "2001:db8:2::5"
HOST, OTHER_HOST, CLIENT = "2001:db8:1::7", "2001:db8:1::8", "2001:db8:2::100"
SERVER = "2001:4860:4860::8888"
ROUTER = "fe80::1"
BACKENDS6 = {1: "2001:db8:1::21", 2: "2001:db8:1::22"}
INSIDE_NET, OUTSIDE_NET, ANY = (
    (number6("2001:db8:1::"), 64),
    (number6("2001:db8:2::"), 64),
    (bytes(16), 0),
)
WEB6, NAMES6 = 2, 3
"""Services, behind the two of IPv4."""
NEIGHBOURS = [
    *((INSIDE, address) for address in (HOST, OTHER_HOST, "2001:db8:1::9", *BACKENDS6.values())),
    *((OUTSIDE, f"2001:db8:2::{host}") for host in range(100, 110)),
    (OUTSIDE, ROUTER),
    (INSIDE, ROUTER),  # the same address on another link is another neighbour
]


def mac6_of(side: int, address: str) -> bytes:
    return bytes([2, side]) + number6(address)[12:]


Pass = tuple[list[tuple[bytes, int]], list[tuple[bytes, int]], bool]
OUTWARDS: Pass = ([INSIDE_NET], [], False)


def make_engine(
    *, passes: list[Pass] | None = None, armed: bool = True, mtu: int = 1500, **limits: int
) -> Engine:
    engine = engines.make_engine(armed=False, **limits)
    for side, mac in ((INSIDE, engines.INSIDE_MAC), (OUTSIDE, engines.OUTSIDE_MAC)):
        engine.attach(side, mac, mtu)
    vips: list[tuple[int, int | bytes]] = [
        (INSIDE, engines.number(engines.INSIDE_VIP)), (OUTSIDE, engines.number(engines.OUTSIDE_VIP)),
        (INSIDE, number6(INSIDE_VIP6)), (OUTSIDE, number6(OUTSIDE_VIP6)),
    ]  # fmt: skip
    engine.set_vips(vips)
    engine.set_routes(
        [
            (*engines.PRIVATE_NET, INSIDE, 0),
            (engines.number("203.0.113.0"), 24, OUTSIDE, 0),
            (0, 0, OUTSIDE, engines.number(engines.ROUTER)),
            (*INSIDE_NET, INSIDE, 0),
            (number6("2001:db8:9::"), 48, INSIDE, number6(ROUTER)),
            (*OUTSIDE_NET, OUTSIDE, bytes(16)),
            (*ANY, OUTSIDE, number6(ROUTER)),
        ]
    )
    engine.set_neighbours([(side, number6(address), mac6_of(side, address)) for side, address in NEIGHBOURS])
    backends = [(server_id, number6(address), 8080, 1) for server_id, address in BACKENDS6.items()]
    for index, (port, protocol) in {WEB6: (80, 6), NAMES6: (53, 17)}.items():
        engine.set_service(index, number6(OUTSIDE_VIP6), port, protocol, [ANY])
        publish_ring(engine, index, backends, 1)
    engine.set_passes([OUTWARDS] if passes is None else passes)
    if armed:
        engines.arm(engine, 1)
    return engine


@dataclass
class Gateway6:
    """An armed engine and its clock, which tests move."""

    passes: list[Pass] = field(default_factory=lambda: [OUTWARDS])
    capacity: int = 1024
    mtu: int = 1500
    now: int = 1000 * SECOND

    def __post_init__(self) -> None:
        self.engine = make_engine(passes=self.passes, capacity=self.capacity, mtu=self.mtu)
        self.before = self.engine.counters()

    def frames(self, side: int, frame: bytes) -> list[tuple[int, bytes]]:
        self.engine.inject(side, frame, self.now)
        return self.engine.take_sent()

    def send(self, side: int, frame: bytes) -> list[tuple[int, Seen6]]:
        """What leaves for a frame, and where, taken apart."""
        return [(out, read6(sent)) for out, sent in self.frames(side, frame)]

    def crosses(self, side: int, frame: bytes) -> Seen6:
        """The one packet that leaves on the other side."""
        [(out, seen)] = self.send(side, frame)
        assert out != side
        return seen

    def returns(self, side: int, frame: bytes) -> Seen6:
        """The one packet that comes back."""
        [(out, seen)] = self.send(side, frame)
        assert out == side
        return seen

    def drops(self, side: int, frame: bytes) -> str:
        """The name of the one reason for which the frame was dropped; nothing left."""
        before = self.engine.counters()
        assert self.frames(side, frame) == []
        moved = engines.moved(self.engine.counters(), before)
        [reason] = [name for name in moved if name.startswith("drop_")]
        assert moved[reason] == 1
        return reason

    def count(self, name: str) -> int:
        return self.engine.counters()[name] - self.before[name]

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        for _ in range(4):
            self.engine.tick(self.now)

    def flows(self) -> list[tuple[object, ...]]:
        return self.engine.list_flows(0, 1 << 20, self.now)[1]
