"""What an engine answers by itself and where it sends: ARP, echo, announcements, routes and neighbours."""

from __future__ import annotations

import struct

from hasyncd._native import INSIDE, OUTSIDE
from tests.native import frames
from tests.native.engines import (
    CLIENT,
    FOREVER_NS,
    INSIDE_MAC,
    INSIDE_VIP,
    OUTSIDE_MAC,
    OUTSIDE_VIP,
    PRIVATE,
    PRIVATE_NET,
    ROUTER,
    SECOND_NS,
    drops,
    mac_of,
    make_engine,
    now_ns,
    send,
    take,
)
from tests.native.frames import number


def test_arp_answers_for_vips_on_their_side_while_the_lease_lasts() -> None:
    engine = make_engine()
    ask = [
        (INSIDE, INSIDE_VIP, True), (OUTSIDE, OUTSIDE_VIP, True), (INSIDE, OUTSIDE_VIP, False),
        (OUTSIDE, INSIDE_VIP, False), (INSIDE, "10.0.1.2", False),
    ]  # fmt: skip
    for side, target, answered in ask:
        mac = b"\x02abcde"
        engine.inject(side, frames.arp(1, mac, "0.0.0.0", target), now_ns())  # a probe, as in RFC 5227
        sent = engine.take_sent()
        assert bool(sent) == answered
        if answered:
            own = (INSIDE_MAC, OUTSIDE_MAC)[side]
            assert sent == [(side, mac + own + sent[0][1][12:])]
            assert sent[0][1] == mac + own + frames.arp(2, own, target, "0.0.0.0", mac)[12:]
    engine.set_lease(0)
    for side, target, _ in ask:
        engine.inject(side, frames.arp(1, b"\x02abcde", PRIVATE, target), now_ns())
    assert engine.take_sent() == []
    assert engine.announce() == 0
    engine.set_lease(now_ns())
    assert engine.announce() == 0, "the lease has just ended"
    engine.set_lease(FOREVER_NS)
    engine.inject(
        INSIDE, frames.arp(2, b"\x02abcde", PRIVATE, INSIDE_VIP), now_ns()
    )  # a reply is nobody's question
    engine.inject(INSIDE, frames.arp(1, b"\x02abcde", INSIDE_VIP, INSIDE_VIP), now_ns())  # an announcement
    assert engine.take_sent() == []


def test_an_announcement_is_both_forms_for_every_vip() -> None:
    engine = make_engine()
    assert engine.announce() == 4
    found = [
        (side, frame[20:22], frame[28:32], frame[38:42], frame[:6]) for side, frame in engine.take_sent()
    ]
    for side, vip in ((INSIDE, INSIDE_VIP), (OUTSIDE, OUTSIDE_VIP)):
        address = struct.pack("!I", number(vip))
        for operation in (b"\0\1", b"\0\2"):
            assert (side, operation, address, address, b"\xff" * 6) in found


def test_echo_is_answered_for_vips_only_while_the_lease_lasts() -> None:
    engine = make_engine()
    for side, source in ((INSIDE, PRIVATE), (OUTSIDE, CLIENT)):
        for vip in (INSIDE_VIP, OUTSIDE_VIP):
            (answer,) = send(engine, side, frames.echo(source, vip, 5, data=b"odd"))
            assert (answer.source, answer.target, answer.icmp_type) == (vip, source, 0)
            assert (answer.payload, answer.sport, answer.mac) == (b"odd", 5, frames.MAC_THERE)
    assert engine.counters()["echo_answered"] == 4
    assert engine.flow_counts()[0] == 0
    engine.set_lease(0)
    assert send(engine, INSIDE, frames.echo(PRIVATE, INSIDE_VIP, 5)) == []
    assert drops(engine) == {"drop_no_lease": 1}


def test_a_packet_waits_for_its_neighbour_and_is_asked_for_once_a_second() -> None:
    engine, now = make_engine(), now_ns()
    engine.set_neighbours([(OUTSIDE, number(ROUTER), b"")])
    for port in (1, 2):
        assert send(engine, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", 53), now) == []
    assert engine.wanted_neighbours() == [(OUTSIDE, number(ROUTER))]
    engine.tick(now)
    assert engine.wanted_neighbours() == []
    engine.set_neighbours([(OUTSIDE, number(ROUTER), b"\x01\x02\x03\x04\x05\x06")])
    assert [sent.mac for sent in take(engine)] == [b"\x01\x02\x03\x04\x05\x06"] * 2
    assert engine.used_neighbours() == [(OUTSIDE, number(ROUTER))]
    assert engine.used_neighbours() == []
    engine.set_neighbours([(OUTSIDE, number(ROUTER), b"")])
    send(engine, INSIDE, frames.udp(PRIVATE, 3, "8.8.8.8", 53), now)
    engine.tick(now + 2 * SECOND_NS)
    assert drops(engine) == {"drop_unresolved": 1}
    engine.set_neighbours([(OUTSIDE, 0, b"\0" * 6), (INSIDE, 0, b"\0" * 6)])  # address 0 is nobody


def test_the_longest_prefix_wins_and_host_bits_do_not_matter() -> None:
    engine = make_engine()
    engine.set_routes(
        [
            (0, 0, OUTSIDE, number(ROUTER)),
            (number("9.9.9.9"), 24, OUTSIDE, number("203.0.113.101")),
            (*PRIVATE_NET, 0, 0),
        ]
    )
    assert send(engine, INSIDE, frames.udp(PRIVATE, 1, "9.9.9.1", 53))[0].mac == mac_of("203.0.113.101")
    assert send(engine, INSIDE, frames.udp(PRIVATE, 1, "9.9.8.1", 53))[0].mac == mac_of(ROUTER)
