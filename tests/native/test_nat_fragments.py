"""Fragments: in order and out of order, both directions, and never more of them than there is room for (RFC 4787
REQ-14)."""

from __future__ import annotations

import itertools
import socket

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.frames import (
    ACK,
    ICMP,
    SYN,
    TCP,
    UDP,
    datagram,
    ethernet,
    icmp,
    ipv4,
    read_packet,
    segment,
    tcp,
    udp,
)
from tests.native.nat_gateway import PUBLIC, Gateway

HOST, SERVER = "10.0.1.7", "198.51.100.9"
MORE = 0x2000
DATA = bytes(range(256)) * 8


def pieces(source: str, target: str, protocol: int, payload: bytes, size: int = 800) -> list[bytes]:
    """The frames of one packet in pieces of `size` bytes (a multiple of 8)."""
    made = []
    for at in range(0, len(payload), size):
        more = MORE if at + size < len(payload) else 0
        made.append(
            ethernet(ipv4(source, target, protocol, payload[at : at + size], fragment=more | at // 8))
        )
    return made


def together(packets: list[bytes]) -> bytes:
    """One whole IPv4 packet from its fragments, as a receiver makes it."""
    parts: dict[int, bytes] = {}
    for packet in packets:
        parts[(int.from_bytes(packet[6:8], "big") & 0x1FFF) * 8] = packet[20:]
    payload = b"".join(parts[at] for at in sorted(parts))
    source, target = socket.inet_ntoa(packets[0][12:16]), socket.inet_ntoa(packets[0][16:20])
    return ipv4(source, target, packets[0][9], payload, fragment=0)


def take(gateway: Gateway, side: int, frames: list[bytes]) -> list[bytes]:
    """The IPv4 packets that leave the other side."""
    left = []
    for frame in frames:
        gateway.engine.inject(side, frame, gateway.now)
        left += gateway.engine.take_sent()
    assert all(out != side for out, _ in left)
    return [frame[14:] for _, frame in left]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_every_order_in_both_directions(order: tuple[int, ...]) -> None:
    gateway = Gateway()
    whole = pieces(HOST, SERVER, UDP, datagram(HOST, 5000, SERVER, 53, DATA))
    left = take(gateway, INSIDE, [whole[i] for i in order])
    assert len(left) == 3
    seen = read_packet(together(left))
    assert (seen.source, seen.target, seen.dport, seen.payload) == (PUBLIC, SERVER, 53, DATA)
    answer = pieces(SERVER, PUBLIC, UDP, datagram(SERVER, 53, PUBLIC, seen.sport, DATA[::-1]))
    arrived = take(gateway, OUTSIDE, [answer[i] for i in order])
    back = read_packet(together(arrived))
    assert (*back.ends, back.payload) == (SERVER, 53, HOST, 5000, DATA[::-1])
    assert gateway.count("fragments_forwarded") == 6
    assert gateway.count("drop_fragment") == 0


def test_tcp_and_echo_in_pieces() -> None:
    gateway = Gateway()
    opened = gateway.out(tcp(HOST, 5000, SERVER, 80, SYN))
    assert opened
    gateway.back(tcp(SERVER, 80, PUBLIC, opened.sport, SYN | ACK))
    left = take(gateway, INSIDE, pieces(HOST, SERVER, TCP, segment(HOST, 5000, SERVER, 80, ACK, DATA)))
    assert read_packet(together(left)).payload == DATA
    pinged = take(gateway, INSIDE, pieces(HOST, SERVER, ICMP, icmp(8, 0, 77 << 16, DATA)))
    seen = read_packet(together(pinged))
    assert (seen.source, seen.icmp_type) == (PUBLIC, 8)


def test_fragments_of_nobody_wait_bounded_in_number_and_time() -> None:
    gateway = Gateway()
    later = pieces(HOST, SERVER, UDP, datagram(HOST, 5000, SERVER, 53, DATA))[1]
    assert take(gateway, INSIDE, [later] * 100) == []
    assert gateway.count("fragments_held") == 64
    assert gateway.count("drop_fragment") == 36
    gateway.wait(2)
    assert gateway.count("drop_fragment") == 100
    assert gateway.flows == 0


def test_a_first_fragment_speaks_for_the_others_for_a_while_only() -> None:
    gateway = Gateway()
    first, second, third = pieces(HOST, SERVER, UDP, datagram(HOST, 5000, SERVER, 53, DATA))
    assert len(take(gateway, INSIDE, [first, second])) == 2
    gateway.wait(15)
    assert take(gateway, INSIDE, [third]) == []


def test_what_the_rules_refuse_is_refused_in_pieces_too() -> None:
    gateway = Gateway()
    assert take(gateway, OUTSIDE, pieces(SERVER, PUBLIC, UDP, datagram(SERVER, 53, PUBLIC, 5000, DATA))) == []
    assert gateway.count("drop_no_rule") == 1
    gateway.wait(3)
    assert gateway.count("drop_fragment") == 2


def test_no_fragment_hides_or_overwrites_the_header() -> None:
    """RFC 1858, RFC 3128."""
    gateway = Gateway()
    gateway.out(tcp(HOST, 5000, SERVER, 80, SYN))
    whole = segment(HOST, 5000, SERVER, 80, ACK, DATA)
    tiny = ethernet(ipv4(HOST, SERVER, TCP, whole[:16], fragment=MORE))
    overlapping = ethernet(ipv4(HOST, SERVER, TCP, whole[8:], fragment=1))
    assert take(gateway, INSIDE, [tiny, overlapping]) == []
    assert gateway.count("drop_fragment") == 2


def test_the_flows_end_ends_its_fragments() -> None:
    gateway = Gateway()
    first, second, _ = pieces(HOST, SERVER, UDP, datagram(HOST, 5000, SERVER, 53, DATA))
    take(gateway, INSIDE, [first])
    gateway.engine.reset(b"another seed for")
    assert take(gateway, INSIDE, [second]) == []
    assert gateway.out(udp(HOST, 5000, SERVER, 53, b"x"))
