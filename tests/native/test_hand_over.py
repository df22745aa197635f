"""Handing over (proto/pair.md §5a): nothing that was accepted, or still arrives, stays behind."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import engines, frames, gateway6
from tests.native.engines import (
    CLIENT,
    INSIDE_MAC,
    INSIDE_VIP,
    OUTSIDE_MAC,
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    drops,
    make_engine,
    now_ns,
)
from tests.native.frames import ACK, MAC_HERE, SYN
from tests.native.frames6 import tcp6, udp6
from tests.native.gateway6 import HOST, OUTSIDE_VIP6, SERVER
from tests.native.test_nat_fragments import pieces

OWNER = b"\x02\0\0\0\0\x99"
OWN_MAC = {INSIDE: INSIDE_MAC, OUTSIDE: OUTSIDE_MAC}
MINUTE_NS = 60 * SECOND_NS
ROUTED = "198.51.100.77"
"""A public address that is no VIP."""


def hand_over(engine: Engine) -> None:
    engine.hand_over(now_ns() + MINUTE_NS)
    assert engine.take_sent() == []


def owner_speaks(engine: Engine) -> list[tuple[int, bytes]]:
    """What is sent on once the new owner has announced itself on both LANs."""
    for side, vip in ((INSIDE, INSIDE_VIP), (OUTSIDE, OUTSIDE_VIP)):
        engine.inject(side, frames.arp(1, OWNER, vip, vip), now_ns())
    return engine.take_sent()


def sent_on(side: int, frame: bytes) -> tuple[int, bytes]:
    """The frame as the new owner shall get it: as it came, but for the Ethernet addresses."""
    return side, OWNER + OWN_MAC[side] + frame[12:]


def inject(engine: Engine, side: int, *packets: bytes) -> None:
    for packet in packets:
        engine.inject(side, packet, now_ns())


FIRST_PACKETS = {
    "udp through nat": (INSIDE, frames.udp(PRIVATE, 4000, "8.8.8.8", 53, b"question")),
    "tcp through nat": (INSIDE, frames.tcp(PRIVATE, 4000, "8.8.8.8", 443, SYN)),
    "echo through nat": (INSIDE, frames.echo(PRIVATE, "8.8.8.8", 7)),
    "udp without checksum": (INSIDE, frames.udp(PRIVATE, 4000, "8.8.8.8", 53, b"?", summed=False)),
    "tcp to a service": (OUTSIDE, frames.tcp(CLIENT, 4000, OUTSIDE_VIP, 80, SYN)),
    "ttl that just suffices": (INSIDE, frames.echo(PRIVATE, "8.8.8.8", 8, ttl=2)),
}


@pytest.mark.parametrize("name", FIRST_PACKETS)
@pytest.mark.parametrize("mode", ["ack", "emit"])
def test_what_waits_for_its_commit_goes_on_as_it_came(name: str, mode: str) -> None:
    side, packet = FIRST_PACKETS[name]
    engine = make_engine()
    engine.set_commit(mode, MINUTE_NS, True)
    inject(engine, side, packet)
    assert engine.counters()["held_packets_now"] == 1
    hand_over(engine)
    assert owner_speaks(engine) == [sent_on(side, packet)]
    assert drops(engine) == {}


@pytest.mark.parametrize(
    ("side", "packet"),
    [
        (INSIDE, udp6(HOST, 4000, SERVER, 53, b"question")),
        (INSIDE, tcp6(HOST, 4000, SERVER, 443, SYN)),
        (OUTSIDE, tcp6(gateway6.CLIENT, 4000, OUTSIDE_VIP6, 80, SYN)),
    ],
)
def test_what_waits_for_its_commit_goes_on_as_it_came_in_ipv6(side: int, packet: bytes) -> None:
    engine = gateway6.make_engine()
    engine.set_commit("ack", MINUTE_NS, True)
    inject(engine, side, packet)
    assert engine.counters()["held_packets_now"] == 1
    hand_over(engine)
    assert owner_speaks(engine) == [sent_on(side, packet)]
    assert drops(engine) == {}


def test_packets_of_both_modes_and_both_sides_keep_their_order() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, True)
    engine.set_rule_commit("service", engines.WEB, "emit")
    inside = [frames.udp(PRIVATE, port, "8.8.8.8", 53, bytes([port])) for port in (1, 2, 3)]
    outside = [frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN) for port in (1, 2, 3)]
    for one, other in zip(inside, outside, strict=True):
        inject(engine, INSIDE, one)
        inject(engine, OUTSIDE, other)
    hand_over(engine)
    straggler = frames.udp(PRIVATE, 1, "8.8.8.8", 53, b"later")
    inject(engine, INSIDE, straggler)
    left = owner_speaks(engine)
    assert [each for each in left if each[0] == INSIDE] == [sent_on(INSIDE, p) for p in (*inside, straggler)]
    assert [each for each in left if each[0] == OUTSIDE] == [sent_on(OUTSIDE, p) for p in outside]
    assert engine.counters()["relayed_packets"] == 7


def test_what_waits_for_its_neighbour_goes_on_as_it_came() -> None:
    engine = make_engine()
    packet = frames.udp(PRIVATE, 4000, "203.0.113.200", 53, b"nobody knows the neighbour")
    inject(engine, INSIDE, packet)
    assert engine.take_sent() == []
    hand_over(engine)
    assert owner_speaks(engine) == [sent_on(INSIDE, packet)]
    assert drops(engine) == {}


def test_fragments_that_wait_and_fragments_that_still_come_go_on() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, True)
    held = pieces(PRIVATE, "8.8.8.8", frames.UDP, frames.datagram(PRIVATE, 4000, "8.8.8.8", 53, bytes(2000)))
    orphan = pieces(
        "10.0.1.8", "8.8.8.8", frames.UDP, frames.datagram("10.0.1.8", 1, "8.8.8.8", 53, bytes(2000))
    )
    inject(engine, INSIDE, *held[:2], orphan[1])
    assert engine.counters()["held_packets_now"] == 2
    hand_over(engine)
    inject(engine, INSIDE, held[2], orphan[0], orphan[2])
    answer = pieces("8.8.8.8", OUTSIDE_VIP, frames.UDP, bytes(1600))
    inject(engine, OUTSIDE, *answer)
    left = owner_speaks(engine)
    assert [each for each in left if each[0] == INSIDE] == [
        sent_on(INSIDE, piece) for piece in (*held[:2], orphan[1], held[2], orphan[0], orphan[2])
    ]
    assert [each for each in left if each[0] == OUTSIDE] == [sent_on(OUTSIDE, piece) for piece in answer]
    assert drops(engine) == {}


def test_what_is_the_machines_own_stays_with_it() -> None:
    engine = make_engine()
    hand_over(engine)
    own = "203.0.113.2"
    inject(engine, OUTSIDE, *pieces(CLIENT, own, frames.UDP, bytes(1600)), frames.udp(CLIENT, 1, own, 7077))
    assert owner_speaks(engine) == []
    assert drops(engine) == {"drop_no_lease": 3}


def test_first_packets_to_every_public_address_go_on() -> None:
    engine = make_engine()
    engine.set_forwards([(frames.number(ROUTED), 0, 0, frames.number(PRIVATE), 0, engines.ANYONE)])
    hand_over(engine)
    inwards = frames.tcp(CLIENT, 4000, ROUTED, 22, SYN)
    inject(engine, OUTSIDE, inwards)
    assert owner_speaks(engine) == [sent_on(OUTSIDE, inwards)]


def test_a_translated_error_cannot_be_undone_and_is_counted() -> None:
    engine = make_engine()
    question = frames.udp(PRIVATE, 4000, "8.8.8.8", 53)
    engine.inject(INSIDE, question, now_ns())
    [(_, left)] = engine.take_sent()
    engine.set_neighbours([(INSIDE, frames.number(PRIVATE), b"")])
    inject(engine, OUTSIDE, frames.error("8.8.8.8", OUTSIDE_VIP, left[14:42]))
    assert engine.take_sent() == []
    hand_over(engine)
    assert owner_speaks(engine) == []
    assert drops(engine) == {"drop_hold_lost": 1}


def test_a_hand_over_that_is_taken_back_loses_nothing() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, True)
    waiting, late = (frames.udp(PRIVATE, port, "8.8.8.8", 53, b"q") for port in (1, 2))
    opening = frames.tcp(CLIENT, 4000, OUTSIDE_VIP, 80, SYN)
    inject(engine, INSIDE, waiting)
    hand_over(engine)
    inject(engine, INSIDE, late)
    inject(engine, OUTSIDE, opening)
    engine.arm(now_ns(), engines.FOREVER_NS)
    assert engine.counters()["held_packets_now"] == 3, "new flows wait for their commit as ever"
    engine.set_commit("none", 0, True)
    seen = engines.take(engine)
    assert (
        sorted((each.target, each.dport) for each in seen if each.protocol == frames.UDP)
        == [("8.8.8.8", 53)] * 2
    )
    assert [each.flags for each in seen if each.protocol == frames.TCP] == [SYN]
    assert [each.ttl for each in seen] == [63] * 3
    assert drops(engine) == {}
    assert len(engines.flows(engine)) == 3


def test_what_cannot_be_taken_back_is_counted() -> None:
    engine = make_engine()
    hand_over(engine)
    inject(engine, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53))
    engine.arm(now_ns())  # no lease
    assert drops(engine) == {"drop_hold_lost": 1}
    assert engine.counters()["held_packets_now"] == 0


def test_a_flow_that_ended_meanwhile_leaves_its_packet_behind() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, True)
    opening = frames.tcp(PRIVATE, 1, "8.8.8.8", 80, SYN)
    inject(engine, INSIDE, opening)
    engine.reset(b"another seed 16b")
    hand_over(engine)
    assert owner_speaks(engine) == []
    assert drops(engine) == {"drop_hold_lost": 1}


def test_established_stragglers_go_on_in_both_directions() -> None:
    engine = make_engine()
    opening = frames.tcp(CLIENT, 4000, OUTSIDE_VIP, 80, SYN)
    engine.inject(OUTSIDE, opening, now_ns())
    [(_, left)] = engine.take_sent()
    backend = frames.read(left).target
    hand_over(engine)
    answer = frames.tcp(backend, 8080, CLIENT, 4000, SYN | ACK)
    inject(engine, INSIDE, answer)
    assert owner_speaks(engine) == [sent_on(INSIDE, answer)]
    assert answer[:6] == MAC_HERE
