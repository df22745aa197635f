"""ICMPv6 (RFC 4443): echoes to VIPs, errors translated in both directions, errors of our own at a bounded rate."""

from __future__ import annotations

import struct

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from tests.native import engines, frames
from tests.native.frames import ACK, SYN, TCP, UDP
from tests.native.frames6 import (
    DESTINATION_OPTIONS,
    ICMPV6,
    PARAMETER_PROBLEM,
    TIME_EXCEEDED,
    TOO_BIG,
    UNREACHABLE,
    Seen6,
    datagram6,
    echo6,
    error6,
    ethernet6,
    extension,
    fragment_header,
    ipv6,
    message6,
    read_packet6,
    segment6,
    tcp6,
    udp6,
)
from tests.native.gateway6 import (
    ANY,
    CLIENT,
    HOST,
    INSIDE_VIP6,
    OUTSIDE_VIP6,
    SERVER,
    Gateway6,
)

HOP_ROUTER, INSIDE_ROUTER = "2001:4860::1", "2001:db8:9::1"
ERRORS = [(UNREACHABLE, 4, 0), (TOO_BIG, 0, 1400), (TIME_EXCEEDED, 0, 0), (PARAMETER_PROBLEM, 1, 6)]


def quoted(error: Seen6, *, whole: bool = True) -> Seen6:
    return read_packet6(error.packet[48:], whole=whole)


def test_echo_to_a_vip_is_answered_from_both_sides() -> None:
    gateway = Gateway6()
    for side, source in ((INSIDE, HOST), (OUTSIDE, CLIENT), (OUTSIDE, "fe80::7")):
        for vip in (INSIDE_VIP6, OUTSIDE_VIP6):
            seen = gateway.returns(side, echo6(source, vip, 5, data=b"odd"))
            assert (seen.source, seen.target, seen.hops, seen.payload) == (vip, source, 64, b"odd")
            assert seen.icmp == (129, 0, 5 << 16 | 1)
    assert gateway.count("echo_answered") == 6
    assert gateway.flows() == []
    assert gateway.drops(OUTSIDE, echo6(CLIENT, OUTSIDE_VIP6, 5, reply=True)) == "drop_no_rule"
    assert gateway.drops(OUTSIDE, echo6("ff02::1", OUTSIDE_VIP6, 5)) == "drop_scope"
    assert gateway.drops(OUTSIDE, echo6("::", OUTSIDE_VIP6, 5)) == "drop_scope"


def test_an_echo_behind_extension_headers_is_answered_without_them() -> None:
    gateway = Gateway6()
    body = extension(ICMPV6, 24) + message6(CLIENT, OUTSIDE_VIP6, 128, 0, 9 << 16, b"data")
    seen = gateway.returns(OUTSIDE, ethernet6(ipv6(CLIENT, OUTSIDE_VIP6, DESTINATION_OPTIONS, body)))
    assert (seen.packet[6], seen.icmp, seen.payload) == (ICMPV6, (129, 0, 9 << 16), b"data")


@pytest.mark.parametrize(("kind", "code", "rest"), ERRORS)
def test_an_error_about_a_balanced_packet_reaches_the_client_in_its_words(
    kind: int, code: int, rest: int
) -> None:
    """From behind: the backend, or a router before it, complains of what the client sent."""
    gateway = Gateway6()
    for make, protocol in ((segment6, TCP), (datagram6, UDP)):
        port = 80 if protocol == TCP else 53
        body = (
            make(CLIENT, 4000, OUTSIDE_VIP6, port, SYN)
            if protocol == TCP
            else make(CLIENT, 4000, OUTSIDE_VIP6, port)
        )
        sent = ipv6(CLIENT, OUTSIDE_VIP6, protocol, body)
        forwarded = gateway.crosses(OUTSIDE, ethernet6(sent))
        for complainer in (forwarded.target, INSIDE_ROUTER):
            error = error6(complainer, CLIENT, forwarded.packet, kind=kind, code=code, rest=rest)
            seen = gateway.crosses(INSIDE, error)
            assert seen.icmp == (kind, code, rest)
            assert (seen.source, seen.target, seen.hops) == (OUTSIDE_VIP6, CLIENT, 63), "no backend shows"
            inner = quoted(seen)  # checksums verified
            assert inner.ends == (CLIENT, 4000, OUTSIDE_VIP6, port)
            assert inner.packet[:7] + inner.packet[8:] == sent[:7] + sent[8:]


@pytest.mark.parametrize(("kind", "code", "rest"), ERRORS)
def test_an_error_about_an_answer_reaches_the_backend_in_its_words(kind: int, code: int, rest: int) -> None:
    gateway = Gateway6()
    target = gateway.crosses(OUTSIDE, udp6(CLIENT, 4000, OUTSIDE_VIP6, 53)).target
    sent = ipv6(target, CLIENT, UDP, datagram6(target, 8080, CLIENT, 4000, b"answer"))
    forwarded = gateway.crosses(INSIDE, ethernet6(sent))
    assert forwarded.source == OUTSIDE_VIP6
    seen = gateway.crosses(
        OUTSIDE, error6(HOP_ROUTER, OUTSIDE_VIP6, forwarded.packet, kind=kind, code=code, rest=rest)
    )
    assert (seen.source, seen.target, seen.icmp) == (HOP_ROUTER, target, (kind, code, rest))
    inner = quoted(seen)
    assert inner.ends == (target, 8080, CLIENT, 4000)
    seen = gateway.crosses(
        OUTSIDE, error6(CLIENT, OUTSIDE_VIP6, forwarded.packet, kind=kind, code=code, rest=rest)
    )
    assert seen.source == CLIENT


@pytest.mark.parametrize(("kind", "code", "rest"), ERRORS)
def test_an_error_about_what_was_passed_on_is_passed_on(kind: int, code: int, rest: int) -> None:
    gateway = Gateway6()
    for sent in (udp6(HOST, 1, SERVER, 53), tcp6(HOST, 1, SERVER, 80, SYN), echo6(HOST, SERVER, 7)):
        forwarded = gateway.crosses(INSIDE, sent)
        error = error6(HOP_ROUTER, HOST, forwarded.packet, kind=kind, code=code, rest=rest)
        seen = gateway.crosses(OUTSIDE, error)
        assert seen.packet == error[14:21] + b"\x3f" + error[22:]
        answer = gateway.crosses(OUTSIDE, udp6(SERVER, 53, HOST, 1)) if sent[20] == UDP else None
        if answer:
            seen = gateway.crosses(
                INSIDE, error6(INSIDE_ROUTER, SERVER, answer.packet, kind=kind, code=code, rest=rest)
            )
            assert seen.source == INSIDE_ROUTER, "nothing was translated, nothing is hidden"
    assert gateway.engine.flow_counts()[0] == 3


def test_a_quotation_may_be_cut_behind_the_ports_and_hold_extension_headers() -> None:
    gateway = Gateway6()
    body = extension(TCP, 16) + segment6(CLIENT, 4000, OUTSIDE_VIP6, 80, SYN)
    forwarded = gateway.crosses(OUTSIDE, ethernet6(ipv6(CLIENT, OUTSIDE_VIP6, DESTINATION_OPTIONS, body)))
    seen = gateway.crosses(INSIDE, error6(forwarded.target, CLIENT, forwarded.packet[: 40 + 16 + 8]))
    assert quoted(seen, whole=False).ends == (CLIENT, 4000, OUTSIDE_VIP6, 80)
    assert (
        gateway.drops(INSIDE, error6(forwarded.target, CLIENT, forwarded.packet[: 40 + 16 + 7]))
        == "drop_protocol"
    )
    assert (
        gateway.drops(INSIDE, error6(forwarded.target, CLIENT, forwarded.packet[: 40 + 8]))
        == "drop_malformed"
    )
    assert gateway.drops(INSIDE, error6(forwarded.target, CLIENT, forwarded.packet[:39])) == "drop_malformed"
    assert (
        gateway.drops(INSIDE, error6(forwarded.target, CLIENT, b"\x45" + forwarded.packet[1:]))
        == "drop_malformed"
    )


def test_an_error_about_a_first_fragment_is_understood_and_one_about_a_later_one_is_not() -> None:
    gateway = Gateway6()
    gateway.crosses(INSIDE, udp6(HOST, 1, SERVER, 53))
    whole = datagram6(HOST, 1, SERVER, 53, bytes(64))
    first = ipv6(HOST, SERVER, 44, fragment_header(UDP, 0, more=True) + whole[:16])
    later = ipv6(HOST, SERVER, 44, fragment_header(UDP, 16, more=True) + whole[16:32])
    assert gateway.crosses(OUTSIDE, error6(HOP_ROUTER, HOST, first))
    assert gateway.drops(OUTSIDE, error6(HOP_ROUTER, HOST, later)) == "drop_protocol"


def test_what_nobody_sent_is_no_reason_for_an_error() -> None:
    gateway = Gateway6()
    forwarded = gateway.crosses(INSIDE, udp6(HOST, 1, SERVER, 53)).packet
    stranger = ipv6(HOST, SERVER, UDP, datagram6(HOST, 2, SERVER, 53))
    good = error6(HOP_ROUTER, HOST, forwarded)
    for side, frame in (
        (OUTSIDE, error6(HOP_ROUTER, HOST, stranger)),  # no such flow
        (OUTSIDE, error6(HOP_ROUTER, "2001:db8:1::8", forwarded)),  # not for whom it quotes
        (OUTSIDE, good[:56] + b"\x12\x34" + good[58:]),  # its checksum
        (OUTSIDE, error6(HOP_ROUTER, HOST, forwarded, rest=1279)),  # RFC 8201 §4: no such path
        (OUTSIDE, error6(HOP_ROUTER, HOST, forwarded, rest=0)),
    ):
        assert gateway.drops(side, frame) == "drop_icmp_unrelated"
    assert gateway.drops(OUTSIDE, good[:21] + b"\1" + good[22:]) == "drop_ttl"
    assert gateway.drops(OUTSIDE, error6("fe80::1", HOST, forwarded)) == "drop_scope"
    assert gateway.crosses(OUTSIDE, error6(HOP_ROUTER, HOST, forwarded, rest=1280))


def test_an_error_neither_ends_nor_refreshes_a_flow() -> None:
    gateway = Gateway6()
    forwarded = gateway.crosses(INSIDE, udp6(HOST, 1, SERVER, 53)).packet
    gateway.wait(200)
    gateway.crosses(OUTSIDE, error6(HOP_ROUTER, HOST, forwarded, kind=UNREACHABLE, code=4, rest=0))
    assert len(gateway.flows()) == 1
    gateway.wait(101)
    assert gateway.flows() == []


def test_packet_too_big_quotes_what_the_sender_sent_within_the_least_mtu() -> None:
    gateway = Gateway6()
    gateway.engine.attach(INSIDE, b"\xaa" * 6, 1300)
    gateway.crosses(OUTSIDE, udp6(CLIENT, 4000, OUTSIDE_VIP6, 53, b"x"))
    large = ipv6(CLIENT, OUTSIDE_VIP6, UDP, datagram6(CLIENT, 4000, OUTSIDE_VIP6, 53, bytes(1400)))
    seen = gateway.returns(OUTSIDE, ethernet6(large))
    assert (seen.source, seen.target, seen.icmp) == (OUTSIDE_VIP6, CLIENT, (TOO_BIG, 0, 1300))
    assert len(seen.packet) == 1280
    assert seen.packet[48:] == large[: 1280 - 48], "byte for byte, as untranslated"
    fits = datagram6(CLIENT, 4000, OUTSIDE_VIP6, 53, bytes(1300 - 48))
    assert gateway.crosses(OUTSIDE, ethernet6(ipv6(CLIENT, OUTSIDE_VIP6, UDP, fits)))
    assert gateway.count("packet_too_big_sent") == 1
    assert gateway.count("drop_too_big") == 1


def test_packet_too_big_for_what_is_passed_on_comes_from_our_own_address() -> None:
    gateway = Gateway6()
    gateway.engine.attach(OUTSIDE, b"\xbb" * 6, 1100)  # less than the least: the sender hears of 1280
    seen = gateway.returns(INSIDE, udp6(HOST, 1, SERVER, 53, bytes(1200)))
    assert (seen.source, seen.target, seen.icmp) == (INSIDE_VIP6, HOST, (TOO_BIG, 0, 1280))
    assert quoted(seen, whole=False).ends == (HOST, 1, SERVER, 53)
    gateway.engine.set_vips([])
    assert gateway.returns(INSIDE, udp6(HOST, 1, SERVER, 53, bytes(1200))).source == SERVER, (
        "an address on the path"
    )


def test_time_exceeded_shows_the_gateway_in_a_traceroute() -> None:
    gateway = Gateway6()
    sent = udp6(HOST, 1, SERVER, 33434, b"probe", hops=1)
    seen = gateway.returns(INSIDE, sent)
    assert (seen.source, seen.target, seen.icmp) == (INSIDE_VIP6, HOST, (TIME_EXCEEDED, 0, 0))
    assert seen.packet[48:] == sent[14:]
    assert gateway.flows() == []
    assert gateway.count("time_exceeded_sent") == 1


def test_no_error_about_an_error_nor_to_what_is_nobodys() -> None:
    gateway = Gateway6(passes=[([ANY], [], True)])
    forwarded = gateway.crosses(INSIDE, udp6(HOST, 1, SERVER, 53, bytes(1000))).packet
    gateway.engine.attach(INSIDE, b"\xaa" * 6, 700)
    assert gateway.drops(OUTSIDE, error6(HOP_ROUTER, HOST, forwarded)) == "drop_too_big"
    assert gateway.count("packet_too_big_sent") == 0


def test_errors_of_both_families_share_one_rate() -> None:
    gateway = Gateway6()
    made = 0
    for port in range(100):
        frame = udp6(HOST, port, SERVER, 53, hops=1) if port % 2 else ttl_1(port)
        made += len(gateway.frames(INSIDE, frame))
    assert made == 50, "the burst"
    assert gateway.count("icmp_rate_limited") == 50
    gateway.engine.attach(OUTSIDE, b"\xbb" * 6, 1280)
    big = udp6(HOST, 1, SERVER, 53, bytes(1300))
    assert gateway.frames(INSIDE, big) == [], "packet too big is limited too"
    gateway.now += 10**9
    assert len(gateway.frames(INSIDE, big)) == 1


def ttl_1(port: int) -> bytes:
    body = frames.datagram(engines.PRIVATE, port, "8.8.8.8", 53)
    return frames.ethernet(frames.ipv4(engines.PRIVATE, "8.8.8.8", UDP, body, ttl=1))


def test_an_inner_udp_checksum_of_zero_stays() -> None:
    gateway = Gateway6()
    body = struct.pack("!HHHH", 4000, 53, 8, 0)
    forwarded = gateway.frames(OUTSIDE, ethernet6(ipv6(CLIENT, OUTSIDE_VIP6, UDP, body)))[0][1][14:]
    assert forwarded[46:48] == b"\0\0"
    target = read_packet6(forwarded, whole=False).target
    seen = gateway.crosses(INSIDE, error6(target, CLIENT, forwarded))
    assert seen.packet[48 + 46 : 48 + 48] == b"\0\0"


def test_tcp_goes_on_after_packet_too_big() -> None:
    gateway = Gateway6()
    target = gateway.crosses(OUTSIDE, tcp6(CLIENT, 1, OUTSIDE_VIP6, 80, SYN)).target
    gateway.crosses(INSIDE, tcp6(target, 8080, CLIENT, 1, SYN | ACK))
    big = gateway.crosses(INSIDE, tcp6(target, 8080, CLIENT, 1, ACK, bytes(1400))).packet
    seen = gateway.crosses(OUTSIDE, error6(HOP_ROUTER, OUTSIDE_VIP6, big, rest=1300))
    assert (seen.target, seen.icmp) == (target, (TOO_BIG, 0, 1300))
    assert quoted(seen, whole=False).ends == (target, 8080, CLIENT, 1)
    assert gateway.crosses(INSIDE, tcp6(target, 8080, CLIENT, 1, ACK, bytes(1200)))
