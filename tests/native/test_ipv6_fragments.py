"""IPv6 fragments: every order, both directions, bounded, and never one that overlaps (RFC 5722, 7112, 8200 §4.5)."""

from __future__ import annotations

import itertools

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.frames import ACK, MAC_HERE, SYN, TCP, UDP
from tests.native.frames6 import (
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    Seen6,
    datagram6,
    ethernet6,
    extension,
    fragment_header,
    ipv6,
    message6,
    read_packet6,
    segment6,
    solicitation,
    tcp6,
    udp6,
)
from tests.native.gateway6 import BACKENDS6, CLIENT, HOST, INSIDE_VIP6, OUTSIDE_VIP6, SERVER, Gateway6

DATA = bytes(range(256)) * 8


def piece(
    source: str, target: str, protocol: int, payload: bytes, begin: int, end: int, *, name: int = 7, hops: int = 64,
    before: bytes = b"",
) -> bytes:  # fmt: skip
    """The frame of bytes begin to end of a packet's fragmentable part; `before`: a hop-by-hop header."""
    more = end < len(payload)
    body = fragment_header(protocol, begin, more, name) + payload[begin:end]
    if before:
        return ethernet6(ipv6(source, target, HOP_BY_HOP, bytes([FRAGMENT]) + before[1:] + body, hops=hops))
    return ethernet6(ipv6(source, target, FRAGMENT, body, hops=hops))


def pieces(
    source: str, target: str, protocol: int, payload: bytes, size: int = 800, **how: int
) -> list[bytes]:
    return [
        piece(source, target, protocol, payload, at, at + size, **how)  # type: ignore[arg-type]
        for at in range(0, len(payload), size)
    ]


def together(packets: list[bytes]) -> Seen6:
    """The packet that a receiver makes of fragments; its checksum is verified."""
    parts = {int.from_bytes(packet[42:44], "big") & 0xFFF8: packet for packet in packets}
    payload = b"".join(parts[at][48:] for at in sorted(parts))
    first = parts[0]
    return read_packet6(first[:4] + len(payload).to_bytes(2, "big") + first[40:41] + first[7:40] + payload)


def take(gateway: Gateway6, side: int, frames: list[bytes]) -> list[bytes]:
    """The IPv6 packets that leave the other side."""
    left = [sent for frame in frames for sent in gateway.frames(side, frame)]
    assert all(out != side for out, _ in left)
    return [frame[14:] for _, frame in left]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_every_order_in_both_directions(order: tuple[int, ...]) -> None:
    gateway = Gateway6()
    whole = pieces(CLIENT, OUTSIDE_VIP6, UDP, datagram6(CLIENT, 5000, OUTSIDE_VIP6, 53, DATA))
    left = take(gateway, OUTSIDE, [whole[i] for i in order])
    assert len(left) == 3
    seen = together(left)
    assert (seen.source, seen.sport, seen.dport, seen.payload) == (CLIENT, 5000, 8080, DATA)
    assert seen.target in BACKENDS6.values()
    answer = pieces(seen.target, CLIENT, UDP, datagram6(seen.target, 8080, CLIENT, 5000, DATA[::-1]))
    back = together(take(gateway, INSIDE, [answer[i] for i in order]))
    assert (*back.ends, back.payload) == (OUTSIDE_VIP6, 53, CLIENT, 5000, DATA[::-1])
    assert gateway.count("fragments_forwarded") == 6
    assert gateway.count("drop_fragment") == 0
    assert {packet[7] for packet in left} == {63}


def test_what_is_passed_in_pieces_is_not_changed() -> None:
    gateway = Gateway6()
    for protocol, payload in (
        (UDP, datagram6(HOST, 5000, SERVER, 53, DATA)),
        (ICMPV6, message6(HOST, SERVER, 128, 0, 77 << 16, DATA)),
    ):
        sent = pieces(HOST, SERVER, protocol, payload, name=protocol)
        left = take(gateway, INSIDE, sent)
        assert left == [frame[14:21] + b"\x3f" + frame[22:] for frame in sent]


def test_tcp_in_pieces_behind_other_headers() -> None:
    gateway = Gateway6()
    target = gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, SYN)).target
    gateway.crosses(INSIDE, tcp6(target, 8080, CLIENT, 4000, SYN | ACK))
    payload = extension(TCP, 16) + segment6(CLIENT, 4000, OUTSIDE_VIP6, 80, ACK, DATA)
    sent = [
        piece(CLIENT, OUTSIDE_VIP6, DESTINATION_OPTIONS, payload, at, at + 800, before=extension(0))
        for at in range(0, len(payload), 800)
    ]
    left = take(gateway, OUTSIDE, sent)
    assert len(left) == 3
    joined = together([packet[:6] + packet[40:41] + packet[7:40] + packet[48:] for packet in left])
    assert (joined.target, joined.dport, joined.payload) == (target, 8080, DATA)


def test_fragments_of_nobody_wait_bounded_in_number_and_time() -> None:
    gateway = Gateway6()
    later = pieces(HOST, SERVER, UDP, datagram6(HOST, 5000, SERVER, 53, DATA))[1]
    assert take(gateway, INSIDE, [later] * 100) == []
    assert (gateway.count("fragments_held"), gateway.count("drop_fragment")) == (64, 36)
    gateway.wait(2)
    assert gateway.count("drop_fragment") == 100
    assert gateway.flows() == []


def test_the_name_of_a_packet_is_its_ends_and_all_32_bits_of_its_identification() -> None:
    gateway = Gateway6()
    payload = datagram6(HOST, 5000, SERVER, 53, DATA)
    first, second, _ = pieces(HOST, SERVER, UDP, payload, name=0x10007)
    assert len(take(gateway, INSIDE, [first])) == 1
    for other in (
        pieces(HOST, SERVER, UDP, payload, name=7)[1],
        pieces("2001:db8:1::8", SERVER, UDP, payload, name=0x10007)[1],
    ):
        assert take(gateway, INSIDE, [other]) == []
    other_header = piece(HOST, SERVER, TCP, payload, 800, 1600, name=0x10007)
    assert len(take(gateway, INSIDE, [other_header])) == 1, (
        "only the first's next header counts (RFC 8200 §4.5)"
    )
    assert take(gateway, OUTSIDE, [second]) == [], "the other side's is another packet"
    assert len(take(gateway, INSIDE, [second])) == 1


def test_overlapping_fragments_end_the_whole_packet() -> None:
    """RFC 5722: silently, those still to come too."""
    payload = datagram6(HOST, 5000, SERVER, 53, DATA)
    first, second, third = pieces(HOST, SERVER, UDP, payload)
    for overlapping in (
        piece(HOST, SERVER, UDP, payload, 792, 1600),
        piece(HOST, SERVER, UDP, payload, 8, 16),
        piece(HOST, SERVER, UDP, payload, 0, 808),
        piece(HOST, SERVER, UDP, payload, 0, 400),
    ):
        gateway = Gateway6()
        assert len(take(gateway, INSIDE, [first])) == 1
        assert take(gateway, INSIDE, [overlapping, second, third, first]) == []
        assert gateway.count("drop_fragment") == 4


def test_an_overlapping_fragment_that_came_first_is_found_too() -> None:
    gateway = Gateway6()
    payload = datagram6(HOST, 5000, SERVER, 53, DATA)
    first, second, _ = pieces(HOST, SERVER, UDP, payload)
    assert take(gateway, INSIDE, [piece(HOST, SERVER, UDP, payload, 8, 16)]) == []
    assert len(take(gateway, INSIDE, [first])) == 1
    assert take(gateway, INSIDE, [second]) == []


def test_a_first_fragment_that_the_network_doubled_is_no_overlap() -> None:
    gateway = Gateway6()
    first, second, third = pieces(HOST, SERVER, UDP, datagram6(HOST, 5000, SERVER, 53, DATA))
    assert len(take(gateway, INSIDE, [first, first, second, third])) == 4


def test_the_first_fragment_holds_the_whole_chain_of_headers() -> None:
    """RFC 7112."""
    gateway = Gateway6()
    gateway.crosses(INSIDE, tcp6(HOST, 4000, SERVER, 80, SYN))
    gateway.crosses(OUTSIDE, tcp6(SERVER, 80, HOST, 4000, SYN | ACK))
    segment = segment6(HOST, 4000, SERVER, 80, ACK, DATA)
    options = extension(TCP, 64) + segment
    long_header = segment[:12] + b"\xf0" + segment[13:]
    for protocol, payload, end in (
        (TCP, segment, 16), (DESTINATION_OPTIONS, options, 8), (DESTINATION_OPTIONS, options, 64),
        (DESTINATION_OPTIONS, options, 80), (TCP, long_header, 56),
    ):  # fmt: skip
        assert gateway.drops(INSIDE, piece(HOST, SERVER, protocol, payload, 0, end)) == "drop_fragment"
    assert len(take(gateway, INSIDE, [piece(HOST, SERVER, DESTINATION_OPTIONS, options, 0, 88)])) == 1


def test_fragments_that_no_sender_makes() -> None:
    gateway = Gateway6()
    payload = datagram6(HOST, 5000, SERVER, 53, DATA)
    odd = ethernet6(ipv6(HOST, SERVER, FRAGMENT, fragment_header(UDP, 0, True) + payload[:801]))
    far = ethernet6(ipv6(HOST, SERVER, FRAGMENT, fragment_header(UDP, 65528, False) + bytes(16)))
    empty = ethernet6(ipv6(HOST, SERVER, FRAGMENT, fragment_header(UDP, 800, False)))
    dying = piece(HOST, SERVER, UDP, payload, 800, 1600, hops=1)
    for frame in (odd, far, empty, dying):
        assert gateway.drops(INSIDE, frame) == "drop_fragment"
    twice = fragment_header(FRAGMENT, 0, True) + fragment_header(UDP, 0, True) + payload[:80]
    assert gateway.drops(INSIDE, ethernet6(ipv6(HOST, SERVER, FRAGMENT, twice))) == "drop_fragment"


def test_neighbour_discovery_in_pieces_is_none() -> None:
    """RFC 6980."""
    gateway = Gateway6()
    whole = solicitation(HOST, INSIDE_VIP6)
    group = whole[:6]
    body = fragment_header(ICMPV6, 0, True) + whole[54:]
    assert gateway.drops(
        INSIDE, group + whole[6:18] + len(body).to_bytes(2, "big") + b"\x2c" + whole[21:54] + body
    )
    assert gateway.frames(INSIDE, ethernet6(whole[14:20] + b"\x2c" + whole[21:54] + body, to=MAC_HERE)) == []
    assert gateway.count("ndp_answered") == 0


def test_what_the_rules_refuse_is_refused_in_pieces_too() -> None:
    gateway = Gateway6()
    sent = pieces(SERVER, HOST, UDP, datagram6(SERVER, 53, HOST, 5000, DATA))
    assert take(gateway, OUTSIDE, sent) == []
    assert gateway.count("drop_no_rule") == 1
    gateway.wait(3)
    assert gateway.count("drop_fragment") == 2
    scoped = pieces("fe80::7", SERVER, UDP, datagram6("fe80::7", 53, SERVER, 5000, DATA))
    assert take(gateway, INSIDE, scoped) == []
    assert gateway.count("drop_scope") == 1


def test_a_first_fragment_speaks_for_the_others_for_a_while_and_not_beyond_its_flow() -> None:
    gateway = Gateway6()
    first, second, third = pieces(HOST, SERVER, UDP, datagram6(HOST, 5000, SERVER, 53, DATA))
    assert len(take(gateway, INSIDE, [first, second])) == 2
    gateway.wait(15)
    assert take(gateway, INSIDE, [third]) == []
    assert len(take(gateway, INSIDE, [first])) == 2, "it waited for a first"
    gateway.engine.reset(b"another seed for")
    assert take(gateway, INSIDE, [second]) == []
    assert gateway.crosses(INSIDE, udp6(HOST, 5000, SERVER, 53, b"x"))


def test_a_piece_too_large_for_the_next_link_is_told() -> None:
    gateway = Gateway6()
    gateway.engine.attach(OUTSIDE, b"\xbb" * 6, 1280)
    sent = pieces(HOST, SERVER, UDP, datagram6(HOST, 5000, SERVER, 53, DATA), size=1400)
    seen = gateway.returns(INSIDE, sent[0])
    assert seen.icmp == (2, 0, 1280)
    assert seen.packet[48:] == sent[0][14:][:1232]
