"""Two engines of one history, of which one has its flows in the kernel's cache too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from hasyncd._native import INSIDE, OUTSIDE, Engine
from hasyncd.datapath.tc import FlowCache
from tests.datapath.namespaces import Namespace, namespaces
from tests.datapath.program_run import Verdict, run_program
from tests.native import engines, frames, frames6, gateway6
from tests.native.frames import ACK, SYN
from tests.native.frames6 import tcp6

HOST, SERVER = engines.PRIVATE, "198.51.100.9"
CLIENT6, VIP6 = "2001:db8:2::100", gateway6.OUTSIDE_VIP6
ETHERNET = 12
"""Bytes of MAC addresses, which the kernel writes behind the program."""
SECOND = 10**9


@dataclass
class Twins:
    """Two engines of one history; the first one's flows are in the kernel's cache too."""

    cache: FlowCache
    interfaces: tuple[int, int]
    cached: Engine = field(init=False)
    plain: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.cached, self.plain = gateway6.make_engine(), gateway6.make_engine()
        self.now = engines.now_ns()
        maps = self.cache.maps
        self.cached.use_cache(
            (maps["flows"], maps["flows6"], maps["uses"], maps["control"], maps["counters"]),
            maps["cpus"],
            self.interfaces,
        )
        self.cache.keep(
            [ip_address("10.0.1.2")],
            [ip_network("203.0.113.5/32"), ip_network(f"{VIP6}/128")],
            [ip_network("10.0.1.0/24"), ip_network("2001:db8:1::/64")],
        )

    def both(self, side: int, frame: bytes) -> bytes | None:
        """The frame goes through both engines; what left, which is the same."""
        left = []
        for engine in (self.cached, self.plain):
            engine.inject(side, frame, engines.now_ns())
            left.append(engine.take_sent())
        assert left[0] == left[1]
        return left[0][0][1] if left[0] else None

    def program(self, side: int, frame: bytes) -> Verdict:
        macs = b"".join((MACS[side], b"\x06" * 6))
        return run_program(self.cache.program, self.interfaces[side], macs + frame[ETHERNET:])

    def count(self, name: str) -> int:
        return self.cached.counters()[name]

    def open_tcp(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """A translated connection with some packets behind it; (public end, server) as outside sees it."""
        sent = self.both(INSIDE, frames.tcp(HOST, 40000, SERVER, 443, SYN))
        assert sent
        seen = frames.read(sent)
        public = (seen.source, seen.sport)
        assert self.both(OUTSIDE, frames.tcp(SERVER, 443, *public, SYN | ACK))
        for _ in range(8):
            assert self.both(INSIDE, frames.tcp(HOST, 40000, SERVER, 443, ACK))
        return public, (SERVER, 443)

    def open_udp(self) -> tuple[str, int]:
        sent = self.both(INSIDE, frames.udp(HOST, 40001, SERVER, 53, b"?"))
        assert sent
        seen = frames.read(sent)
        for _ in range(5):
            assert self.both(OUTSIDE, frames.udp(SERVER, 53, seen.source, seen.sport, b"!"))
            assert self.both(INSIDE, frames.udp(HOST, 40001, SERVER, 53, b"?"))
        return seen.source, seen.sport

    def open_tcp6(self) -> tuple[str, int]:
        """A balanced IPv6 connection; its backend."""
        sent = self.both(OUTSIDE, tcp6(CLIENT6, 50000, VIP6, 80, SYN))
        assert sent
        seen = frames6.read6(sent)
        assert self.both(INSIDE, tcp6(seen.target, 8080, CLIENT6, 50000, SYN | ACK))
        for _ in range(8):
            assert self.both(OUTSIDE, tcp6(CLIENT6, 50000, VIP6, 80, ACK))
        return seen.target, 8080


MACS: list[bytes] = []


@contextmanager
def make_twins() -> Iterator[Twins]:
    with namespaces(1) as (here,), here.entered():
        MACS[:] = [make_interface(here, "inside", 11), make_interface(here, "outside", 12)]
        cache = FlowCache(1024)
        try:
            yield Twins(cache, (11, 12))
        finally:
            cache.close()


def make_interface(here: Namespace, name: str, index: int) -> bytes:
    mac = bytes([2, 0, 0, 0, 0, index])
    here.ip("link", "add", name, "index", str(index), "address", mac.hex(":"), "type", "bridge")
    here.ip("link", "set", name, "up")
    return mac
