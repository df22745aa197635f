"""The same packets through the kernel's NAT and through ours: what comes out is the same, byte for byte.

tester in ── inside [kernel: nft snat to 203.0.113.6:40000] outside ── tester out
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from tests.datapath.namespaces import Namespace, join, namespaces
from tests.native.frames import (
    ACK,
    FIN,
    ICMP,
    PSH,
    SYN,
    TCP,
    UDP,
    checksum,
    datagram,
    icmp,
    ipv4,
    pseudo_header,
    segment,
)
from tests.native.nat_gateway import PUBLIC, ROUTER, Gateway, nat_rule

pytestmark = pytest.mark.e2e

HOST, PORT = "10.0.1.7", 40000
RULES = f"""
table ip nat {{
  chain post {{
    type nat hook postrouting priority srcnat
    oifname outside meta l4proto {{ tcp, udp }} snat to {PUBLIC}:{PORT}
    oifname outside meta l4proto icmp snat to {PUBLIC}
  }}
}}
"""


class Kernel:
    """A namespace that translates, and a packet socket on each side of it."""

    def __init__(self, gateway: Namespace, tester: Namespace) -> None:
        join(tester, "in", gateway, "inside")
        join(tester, "out", gateway, "outside")
        gateway.sysctl("ipv4/ip_forward", "1")
        gateway.ip("address", "add", "10.0.1.1/16", "dev", "inside")
        gateway.ip("address", "add", f"{PUBLIC}/24", "dev", "outside")
        gateway.ip("route", "add", "default", "via", ROUTER)
        gateway.ip("neigh", "add", HOST, "lladdr", "02:00:00:00:00:07", "dev", "inside", "nud", "permanent")
        gateway.ip(
            "neigh", "add", ROUTER, "lladdr", "02:00:00:00:00:fe", "dev", "outside", "nud", "permanent"
        )
        gateway.run("nft", RULES)
        self.macs = [
            gateway.run("cat", f"/sys/class/net/{name}/address").strip() for name in ("inside", "outside")
        ]
        self.sockets = []
        with tester.entered():
            for name in ("in", "out"):
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
                made.bind((name, 0x0800))
                made.settimeout(0.1)
                self.sockets.append(made)

    def through(self, side: int, packet: bytes) -> bytes:
        """What leaves the other side for an IPv4 packet."""
        mac = bytes.fromhex(self.macs[side].replace(":", ""))
        self.sockets[side].send(mac + b"\x02\0\0\0\0\x07" + b"\x08\0" + packet)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                frame, (_, _, kind, _, _) = self.sockets[1 - side].recvfrom(65535)
            except TimeoutError:
                continue
            if kind != socket.PACKET_OUTGOING and frame[14 + 4 : 14 + 6] == packet[4:6]:
                return frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
        raise AssertionError(f"the kernel let nothing through for {packet.hex()}")

    def close(self) -> None:
        for made in self.sockets:
            made.close()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with namespaces(2) as (gateway, tester):
        made = Kernel(gateway, tester)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def ours() -> Gateway:
    return Gateway(rules=[nat_rule(first=PORT, last=PORT)])


_identification = iter(range(1, 1 << 16))


def dressed(packet: bytes, chance: random.Random) -> bytes:
    """The packet with an identification of its own, another TTL and type of service, sometimes an option."""
    header = bytearray(packet[: (packet[0] & 15) * 4])
    header[1] = chance.choice((0, 0x10, 0xB8))
    header[4:6] = struct.pack("!H", next(_identification))
    header[8] = chance.choice((2, 64, 255))
    header[10:12] = b"\0\0"
    header[10:12] = struct.pack("!H", checksum(bytes(header)))
    return bytes(header) + packet[len(header) :]


def compare(kernel: Kernel, ours: Gateway, side: int, packet: bytes) -> bytes:
    ours.engine.inject(side, b"\x02" * 12 + b"\x08\0" + packet, ours.now)
    ((out, frame),) = ours.engine.take_sent()
    assert out == 1 - side
    assert frame[14:].hex() == kernel.through(side, packet).hex()
    return frame[14:]


def test_udp_alike(kernel: Kernel, ours: Gateway) -> None:
    chance = random.Random(1)
    for number in range(60):
        server = f"198.51.100.{number + 1}"
        data = chance.randbytes(chance.choice((0, 1, 2, 33, 512, 1400)))
        summed = number % 5 != 0
        options = b"\x94\x04\0\0" if number % 7 == 0 else b""  # router alert
        sent = ipv4(HOST, server, UDP, datagram(HOST, 5000, server, 53, data, summed=summed), options=options)
        compare(kernel, ours, INSIDE, dressed(sent, chance))
        answer = ipv4(server, PUBLIC, UDP, datagram(server, 53, PUBLIC, PORT, data[::-1], summed=summed))
        compare(kernel, ours, OUTSIDE, dressed(answer, chance))


def ending_in(target: int, server: str) -> bytes:
    """Data for which the checksum behind NAT is `target`: 0 has to become 0xffff."""
    for word in range(1 << 16):
        data = struct.pack("!H", word)
        head = struct.pack("!HHHH", PORT, 53, 8 + len(data), 0)
        if checksum(pseudo_header(PUBLIC, server, UDP, 8 + len(data)) + head + data) == target:
            return data
    raise AssertionError("no such data")


@pytest.mark.parametrize("target", [0, 1, 0xFFFE])
def test_udp_checksums_at_the_edges(kernel: Kernel, ours: Gateway, target: int) -> None:
    server = f"192.0.2.{target % 251 + 1}"
    data = ending_in(target, server)
    sent = ipv4(HOST, server, UDP, datagram(HOST, 5000, server, 53, data))
    left = compare(kernel, ours, INSIDE, dressed(sent, random.Random(target)))
    assert int.from_bytes(left[26:28], "big") == (target or 0xFFFF)


def test_tcp_alike(kernel: Kernel, ours: Gateway) -> None:
    chance = random.Random(2)
    for number in range(30):
        server = f"198.51.100.{number + 1}"

        def inside(flags: int, data: bytes = b"", server: str = server) -> None:
            sent = ipv4(HOST, server, TCP, segment(HOST, 6000, server, 80, flags, data))
            compare(kernel, ours, INSIDE, dressed(sent, chance))

        def outside(flags: int, data: bytes = b"", server: str = server) -> None:
            sent = ipv4(server, PUBLIC, TCP, segment(server, 80, PUBLIC, PORT, flags, data))
            compare(kernel, ours, OUTSIDE, dressed(sent, chance))

        inside(SYN)
        outside(SYN | ACK)
        inside(ACK)
        inside(PSH | ACK, chance.randbytes(chance.randrange(1, 900)))
        outside(PSH | ACK, chance.randbytes(chance.randrange(1, 900)))
        inside(FIN | ACK)


def test_echo_and_errors_alike(kernel: Kernel, ours: Gateway) -> None:
    chance = random.Random(3)
    for number in range(20):
        server = f"198.51.100.{number + 100}"
        data = chance.randbytes(chance.choice((0, 1, 56, 700)))
        compare(
            kernel, ours, INSIDE, dressed(ipv4(HOST, server, ICMP, icmp(8, 0, PORT << 16 | 1, data)), chance)
        )
        reply = ipv4(server, PUBLIC, ICMP, icmp(0, 0, PORT << 16 | 1, data))
        compare(kernel, ours, OUTSIDE, dressed(reply, chance))
        sent = ipv4(HOST, server, UDP, datagram(HOST, 7000, server, 33434, data, summed=number % 3 != 0))
        left = compare(kernel, ours, INSIDE, dressed(sent, chance))
        for kind, code, rest in ((3, 3, 0), (3, 4, 1280), (11, 0, 0)):
            quoted = left[: chance.choice((28, len(left)))]
            told = ipv4("192.0.2.77", PUBLIC, ICMP, icmp(kind, code, rest, quoted))
            compare(kernel, ours, OUTSIDE, dressed(told, chance))


ERRORS = [(3, code) for code in range(16)] + [(11, 0), (11, 1), (12, 0), (12, 1)]
OPTIONS = b"\x94\x04\0\0"  # router alert


def exchange(
    kernel: Kernel, ours: Gateway, proto: int, server: str, data: bytes, *, summed: bool, options: bytes
) -> tuple[bytes, bytes]:
    """A question and its answer through both: as they arrived at the server, and at the host."""
    if proto == UDP:
        there = datagram(HOST, 5000, server, 53, data, summed=summed)
        back = datagram(server, 53, PUBLIC, PORT, data, summed=summed)
    elif proto == TCP:
        there, back = (
            segment(HOST, 6000, server, 80, SYN, data),
            segment(server, 80, PUBLIC, PORT, SYN | ACK, data),
        )
    else:
        there, back = icmp(8, 0, PORT << 16 | 1, data), icmp(0, 0, PORT << 16 | 1, data)
    plain = random.Random(1)
    left = compare(kernel, ours, INSIDE, dressed(ipv4(HOST, server, proto, there, options=options), plain))
    came = compare(kernel, ours, OUTSIDE, dressed(ipv4(server, PUBLIC, proto, back, options=options), plain))
    return left, came


@pytest.mark.parametrize("proto", [UDP, TCP, ICMP])
def test_errors_of_every_kind_alike(kernel: Kernel, ours: Gateway, proto: int) -> None:
    """From a router outside, from the server, and from the host about the answer; quotations cut anywhere, with
    options, of odd lengths, of datagrams without checksum. One known difference: of a TCP header cut right behind its
    checksum we still translate that."""
    chance = random.Random(proto)
    for number, (kind, code) in enumerate(ERRORS):
        server = f"198.51.100.{number + 1 + 30 * (proto % 5)}"
        data, options = (
            chance.randbytes(chance.choice((0, 1, 7, 64, 501))),
            OPTIONS if number % 3 == 0 else b"",
        )
        left, came = exchange(kernel, ours, proto, server, data, summed=number % 2 == 0, options=options)
        for side, source, target, quoted in (
            (OUTSIDE, "192.0.2.77", PUBLIC, left),
            (OUTSIDE, server, PUBLIC, left),
            (INSIDE, HOST, server, came),
        ):
            least = (quoted[0] & 15) * 4 + 8
            cut = chance.choice((least, chance.randrange(least, len(quoted) + 1), len(quoted)))
            if proto == TCP and cut - least in (10, 11):
                cut = least
            told = ipv4(source, target, ICMP, icmp(kind, code, 1280, quoted[:cut]), options=options)
            compare(kernel, ours, side, dressed(told, chance))


def test_segments_with_options_and_odd_lengths_alike(kernel: Kernel, ours: Gateway) -> None:
    """TCP's own options, those of IP, and every length up to 40."""
    chance = random.Random(4)
    server = "198.51.100.200"
    for length in range(41):
        head = segment(HOST, 6000, server, 443, SYN, b"")
        own = b"\x02\x04\x05\xb4\x01\x03\x03\x07" if length % 2 else b""
        body = head[:12] + bytes([0x50 + (len(own) // 4 << 4)]) + head[13:16] + b"\0\0" + head[18:] + own
        body += chance.randbytes(length)
        total = checksum(pseudo_header(HOST, server, TCP, len(body)) + body)
        body = body[:16] + struct.pack("!H", total) + body[18:]
        sent = ipv4(HOST, server, TCP, body, options=OPTIONS if length % 3 == 0 else b"")
        compare(kernel, ours, INSIDE, dressed(sent, chance))
