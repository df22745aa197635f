"""The same IPv6 packets through the kernel and through ours: what comes out is the same, byte for byte.

tester in ── inside [kernel: forwarding, in one test nft dnat too] outside ── tester out
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.datapath.namespaces import Namespace, join, namespaces
from tests.native.engines import publish_ring
from tests.native.frames import ACK, FIN, PSH, SYN, TCP, UDP
from tests.native.frames6 import (
    DESTINATION_OPTIONS,
    ECHO_REPLY,
    ECHO_REQUEST,
    FRAGMENT,
    ICMPV6,
    TIME_EXCEEDED,
    TOO_BIG,
    UNREACHABLE,
    datagram6,
    extension,
    fragment_header,
    ipv6,
    message6,
    number6,
    segment6,
)

pytestmark = pytest.mark.e2e

HOST, BACKEND, VIP = "2001:db8:1::7", "2001:db8:1::21", "2001:db8:2::5"
ROUTER, SERVERS = "2001:db8:2::fe", "2001:db8:9::"
_MAC = "02:00:00:00:00:{:02x}"
_ETHERTYPE = 0x86DD
DNAT = f"""
table ip6 nat {{
  chain incoming {{
    type nat hook prerouting priority dstnat
    ip6 daddr {VIP} tcp dport 80 dnat to [{BACKEND}]:8080
    ip6 daddr {VIP} udp dport 80 dnat to [{BACKEND}]:8080
  }}
}}
"""
Compare = Callable[[int, bytes], bytes]
"""Sends an IPv6 packet into a side of both; what left, alike."""


class Kernel:
    """A namespace that forwards, and a packet socket on each side of it."""

    def __init__(self, gateway: Namespace, tester: Namespace, rules: str = "") -> None:
        gateway.speak_ipv6()
        join(tester, "in", gateway, "inside")
        join(tester, "out", gateway, "outside")
        gateway.sysctl("ipv6/conf/all/forwarding", "1")
        gateway.ip("address", "add", "2001:db8:1::1/64", "dev", "inside", "nodad")
        gateway.ip("address", "add", "2001:db8:2::1/64", "dev", "outside", "nodad")
        gateway.ip("-6", "route", "add", "default", "via", ROUTER)
        for host, address, side in ((7, HOST, "inside"), (21, BACKEND, "inside"), (254, ROUTER, "outside")):
            gateway.ip("neigh", "add", address, "lladdr", _MAC.format(host), "dev", side, "nud", "permanent")
        if rules:
            gateway.run("nft", rules)
        names = ("inside", "outside")
        self.macs = [gateway.run("cat", f"/sys/class/net/{name}/address").strip() for name in names]
        self.sockets = []
        with tester.entered():
            for name in ("in", "out"):
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
                made.bind((name, _ETHERTYPE))
                made.settimeout(0.1)
                self.sockets.append(made)

    def through(self, side: int, packet: bytes) -> bytes:
        """What leaves the other side: the packet with the same flow label, which nobody changes."""
        mac = bytes.fromhex(self.macs[side].replace(":", ""))
        self.sockets[side].send(mac + b"\x02\0\0\0\0\x07" + struct.pack("!H", _ETHERTYPE) + packet)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                frame, (_, _, kind, _, _) = self.sockets[1 - side].recvfrom(65535)
            except TimeoutError:
                continue
            if (
                kind != socket.PACKET_OUTGOING
                and frame[15] & 15 == packet[1] & 15
                and frame[16:18] == packet[2:4]
            ):
                return frame[14 : 14 + 40 + int.from_bytes(frame[18:20], "big")]
        raise AssertionError(f"the kernel let nothing through for {packet.hex()}")

    def close(self) -> None:
        for made in self.sockets:
            made.close()


def ours() -> Engine:
    """Pass rules both ways for everything, and a service with one backend."""
    engine = Engine(capacity=4096, seed=b"beside the kernel"[:16])
    for side in (INSIDE, OUTSIDE):
        engine.attach(side, bytes([2, 0, 0, 0, 1, side]), 1500)
    engine.set_vips([(INSIDE, number6("2001:db8:1::1")), (OUTSIDE, number6(VIP))])
    engine.set_routes([(number6("2001:db8:1::"), 64, INSIDE, 0), (bytes(16), 0, OUTSIDE, number6(ROUTER))])
    inside = [(INSIDE, number6(address), b"\x02\0\0\0\0\x07") for address in (HOST, BACKEND)]
    engine.set_neighbours([*inside, (OUTSIDE, number6(ROUTER), b"\x02\0\0\0\0\xfe")])
    engine.set_passes([([(number6("2001:db8:1::"), 64)], [], True)])
    for index, protocol in enumerate((TCP, UDP)):
        engine.set_service(index, number6(VIP), 80, protocol, [(bytes(16), 0)])
        publish_ring(engine, index, [(1, number6(BACKEND), 8080, 1)], 1)
    engine.set_lease(1 << 62)
    engine.arm(10**9)
    return engine


@contextmanager
def beside(rules: str = "") -> Iterator[Compare]:
    with namespaces(2) as (gateway, tester):
        kernel, engine = Kernel(gateway, tester, rules), ours()

        def compare(side: int, packet: bytes) -> bytes:
            engine.inject(side, b"\x02\0\0\0\1" + bytes([side]) + b"\2" * 6 + b"\x86\xdd" + packet, 10**12)
            left = engine.take_sent()
            assert [out for out, _ in left] == [1 - side], {
                name: count for name, count in engine.counters().items() if name.startswith("drop_") and count
            }
            assert left[0][1][14:].hex() == kernel.through(side, packet).hex()
            return left[0][1][14:]

        try:
            yield compare
        finally:
            kernel.close()


@pytest.fixture(scope="module")
def forwarded() -> Iterator[Compare]:
    with beside() as compare:
        yield compare


@pytest.fixture(scope="module")
def translated() -> Iterator[Compare]:
    with beside(DNAT) as compare:
        yield compare


_labels = iter(range(1, 1 << 20))


def dressed(packet: bytes, chance: random.Random) -> bytes:
    """The packet with a flow label of its own, another traffic class and hop limit."""
    word = 6 << 28 | chance.choice((0, 0x10, 0xB9)) << 20 | next(_labels)
    return struct.pack("!I", word) + packet[4:7] + bytes([chance.choice((2, 64, 255))]) + packet[8:]


def server(number: int) -> str:
    return f"{SERVERS}{number + 1:x}"


def test_udp_alike(forwarded: Compare) -> None:
    chance = random.Random(1)
    for number in range(40):
        data = chance.randbytes(chance.choice((0, 1, 2, 33, 512, 1400)))
        there = ipv6(HOST, server(number), UDP, datagram6(HOST, 5000, server(number), 53, data))
        forwarded(INSIDE, dressed(there, chance))
        back = ipv6(server(number), HOST, UDP, datagram6(server(number), 53, HOST, 5000, data[::-1]))
        forwarded(OUTSIDE, dressed(back, chance))


def test_what_outside_begins_alike(forwarded: Compare) -> None:
    chance = random.Random(2)
    for number in range(100, 110):
        begun = ipv6(server(number), HOST, TCP, segment6(server(number), 4000, HOST, 80, SYN))
        forwarded(OUTSIDE, dressed(begun, chance))
        answer = ipv6(HOST, server(number), TCP, segment6(HOST, 80, server(number), 4000, SYN | ACK))
        forwarded(INSIDE, dressed(answer, chance))


def talk(
    compare: Compare, chance: random.Random, ends: tuple[str, int, str, int], seen: tuple[str, int]
) -> None:
    """A TCP conversation; (client, port, target, port), and who answers from the other side."""
    client, sport = ends[:2]
    first = INSIDE if client == HOST else OUTSIDE
    for side, flags, length in (
        (first, SYN, 0),
        (1 - first, SYN | ACK, 0),
        (first, ACK, 0),
        (first, PSH | ACK, chance.randrange(1, 1200)),
        (1 - first, PSH | ACK, chance.randrange(1, 1200)),
        (first, FIN | ACK, 0),
    ):
        data = chance.randbytes(length)
        source, sent_from, to, port = ends if side == first else (*seen, client, sport)
        packet = ipv6(source, to, TCP, segment6(source, sent_from, to, port, flags, data))
        compare(side, dressed(packet, chance))


def test_tcp_alike(forwarded: Compare) -> None:
    chance = random.Random(3)
    for number in range(20):
        talk(forwarded, chance, (HOST, 6000, server(number), 80), (server(number), 80))


def test_balanced_alike(translated: Compare) -> None:
    """The kernel's destination NAT with one target is what a service with one backend does."""
    chance = random.Random(4)
    for number in range(20):
        client = server(number)
        talk(translated, chance, (client, 7000, VIP, 80), (BACKEND, 8080))
        data = chance.randbytes(chance.choice((0, 1, 33, 900)))
        there = ipv6(client, VIP, UDP, datagram6(client, 7001, VIP, 80, data))
        arrived = translated(OUTSIDE, dressed(there, chance))
        back = ipv6(BACKEND, client, UDP, datagram6(BACKEND, 8080, client, 7001, data[::-1]))
        translated(INSIDE, dressed(back, chance))
        # An error of a router outside about the answer quotes the VIP; the backend has to hear of its own packet.
        answer = translated(INSIDE, dressed(back, chance))
        for kind, code, rest in ((TOO_BIG, 0, 1400), (UNREACHABLE, 4, 0), (TIME_EXCEEDED, 0, 0)):
            told = message6("2001:db8:77::1", VIP, kind, code, rest, answer[:1232])
            translated(OUTSIDE, dressed(ipv6("2001:db8:77::1", VIP, ICMPV6, told), chance))
            told = message6(BACKEND, client, kind, code, rest, arrived[:1232])
            translated(INSIDE, dressed(ipv6(BACKEND, client, ICMPV6, told), chance))


def test_echo_and_errors_alike(forwarded: Compare) -> None:
    chance = random.Random(5)
    for number in range(20):
        far, data = server(number), chance.randbytes(chance.choice((0, 1, 56, 900)))
        asked = ipv6(HOST, far, ICMPV6, message6(HOST, far, ECHO_REQUEST, 0, 77 << 16 | number, data))
        left = forwarded(INSIDE, dressed(asked, chance))
        reply = ipv6(far, HOST, ICMPV6, message6(far, HOST, ECHO_REPLY, 0, 77 << 16 | number, data))
        forwarded(OUTSIDE, dressed(reply, chance))
        for kind, code, rest in ((UNREACHABLE, 4, 0), (TOO_BIG, 0, 1280), (TIME_EXCEEDED, 0, 0)):
            told = message6("2001:db8:77::1", HOST, kind, code, rest, left[:1232])
            forwarded(OUTSIDE, dressed(ipv6("2001:db8:77::1", HOST, ICMPV6, told), chance))


def test_extension_headers_and_fragments_alike(forwarded: Compare) -> None:
    chance = random.Random(6)
    for number in range(10):
        far = server(number)
        datagram = datagram6(HOST, 5100, far, 53, chance.randbytes(1000))
        options = ipv6(HOST, far, DESTINATION_OPTIONS, extension(UDP, 16) + datagram)
        forwarded(INSIDE, dressed(options, chance))
        pieces = [(0, True, datagram[:512]), (512, False, datagram[512:])]
        for offset, more, body in pieces:
            head = fragment_header(UDP, offset, more, identification=number + 1)
            forwarded(INSIDE, dressed(ipv6(HOST, far, FRAGMENT, head + body), chance))
