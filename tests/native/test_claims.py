"""Who else has a VIP: what the engine asks, and what it takes for an answer (proto/pair.md §4c)."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames
from tests.native.engines import (
    CLIENT,
    INSIDE_MAC,
    INSIDE_VIP,
    OUTSIDE_MAC,
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    make_engine,
    now_ns,
)
from tests.native.frames import arp, number
from tests.native.frames6 import advertisement, group_mac, number6, solicitation, solicited_node

STRANGER = b"\x02\x99\x00\x00\x00\x01"
VIP6 = "2001:db8:1::1"


def an_engine(*, armed: bool) -> Engine:
    engine = make_engine()
    engine.set_vips([(INSIDE, number(INSIDE_VIP)), (OUTSIDE, number(OUTSIDE_VIP)), (INSIDE, number6(VIP6))])
    if not armed:
        engine.disarm()
    return engine


def claims(engine: Engine) -> dict[int | bytes, tuple[bytes, int]]:
    return {
        address: (mac, claimed_ns) for _, address, mac, claimed_ns, _ in engine.vip_states() if claimed_ns
    }


def seen(engine: Engine) -> list[int]:
    return [seen_ns for *_, seen_ns in engine.vip_states()]


def test_a_probe_asks_for_every_vip_and_names_no_sender() -> None:
    engine = an_engine(armed=False)
    assert engine.probe_vips() == 3
    (side, inside), (_, six), (_, outside) = engine.take_sent()
    assert side == INSIDE
    assert inside == arp(1, INSIDE_MAC, "0.0.0.0", INSIDE_VIP)
    assert outside == arp(1, OUTSIDE_MAC, "0.0.0.0", OUTSIDE_VIP)
    assert six[:14] == group_mac(solicited_node(VIP6)) + INSIDE_MAC + b"\x86\xdd"
    wanted = solicitation("::", VIP6, mac=None)
    assert six[18:] == wanted[18 : len(six)], "all but the flow label"
    assert number6(solicited_node(VIP6)) == six[38:54]
    assert engine.counters()["vip_probes_sent"] == 3


def test_our_own_answer_is_one_that_the_other_node_takes_for_a_claim() -> None:
    """The two halves fit: the probe of one engine, the answer of another."""
    backup, primary, now = an_engine(armed=False), an_engine(armed=True), now_ns()
    primary.attach(INSIDE, STRANGER, 1500)
    backup.probe_vips()
    primary.take_sent()
    for side, probe in backup.take_sent():
        if side == INSIDE:
            primary.inject(side, probe, now)
    answers = primary.take_sent()
    assert len(answers) == 2, "ARP and neighbour discovery"
    for side, answer in answers:
        backup.inject(side, answer, now)
    assert claims(backup) == {number(INSIDE_VIP): (STRANGER, now), number6(VIP6): (STRANGER, now)}


@pytest.mark.parametrize("armed", [False, True])
@pytest.mark.parametrize("operation", [1, 2])
def test_whoever_sends_arp_from_a_vip_claims_it(armed: bool, operation: int) -> None:
    engine, now = an_engine(armed=armed), now_ns()
    engine.inject(INSIDE, arp(operation, STRANGER, INSIDE_VIP, PRIVATE), now)
    assert claims(engine) == {number(INSIDE_VIP): (STRANGER, now)}
    other = b"\x02\x99\x00\x00\x00\x02"
    engine.inject(INSIDE, arp(operation, other, INSIDE_VIP, INSIDE_VIP), now + 5)
    assert claims(engine) == {number(INSIDE_VIP): (other, now + 5)}, "the newest counts"


@pytest.mark.parametrize("armed", [False, True])
def test_whoever_advertises_a_vip_claims_it(armed: bool) -> None:
    engine, now = an_engine(armed=armed), now_ns()
    for flaw in (
        advertisement(VIP6, VIP6, STRANGER, hops=254),
        advertisement(VIP6, "2001:db8:1::9", STRANGER),
    ):
        engine.inject(INSIDE, flaw, now)
    assert claims(engine) == {}
    engine.inject(INSIDE, advertisement(VIP6, VIP6, STRANGER), now)
    assert claims(engine) == {number6(VIP6): (STRANGER, now)}


@pytest.mark.parametrize(
    ("side", "frame"),
    [
        (INSIDE, arp(1, STRANGER, "0.0.0.0", INSIDE_VIP)),  # another prober
        (INSIDE, arp(1, STRANGER, PRIVATE, INSIDE_VIP)),  # somebody who asks
        (OUTSIDE, arp(2, STRANGER, INSIDE_VIP, CLIENT)),  # on the wrong LAN
        (INSIDE, arp(2, INSIDE_MAC, INSIDE_VIP, PRIVATE)),  # our own words, reflected
        (INSIDE, arp(2, b"\x03" * 6, INSIDE_VIP, PRIVATE)),  # a group is nobody
        (INSIDE, arp(2, STRANGER, INSIDE_VIP, PRIVATE)[:41]),
        (INSIDE, b""),
        (INSIDE, advertisement(VIP6, VIP6, STRANGER)[:62]),
    ],
)
@pytest.mark.parametrize("armed", [False, True])
def test_nothing_else_is_a_claim(armed: bool, side: int, frame: bytes) -> None:
    engine = an_engine(armed=armed)
    engine.inject(side, frame, now_ns())
    assert claims(engine) == {}


def test_traffic_is_seen_by_lan_and_family() -> None:
    engine, now = an_engine(armed=True), now_ns()
    assert seen(engine) == [0, 0, 0]
    engine.inject(INSIDE, arp(1, STRANGER, PRIVATE, INSIDE_VIP), now)
    engine.inject(INSIDE, frames.udp(PRIVATE, 1, "10.0.1.8", 53), now)
    assert seen(engine) == [0, 0, 0], (
        "a broadcast comes to everybody, and what is not forwarded was not for us"
    )
    engine.inject(INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53), now)
    assert seen(engine) == [now, 0, 0]
    engine.inject(OUTSIDE, frames.echo(CLIENT, OUTSIDE_VIP, 5), now + SECOND_NS)
    assert seen(engine) == [now, now + SECOND_NS, 0]
    engine.disarm()
    engine.inject(INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53), now + 2 * SECOND_NS)
    assert seen(engine) == [now, now + SECOND_NS, 0]


def test_other_vips_begin_without_claims() -> None:
    engine = an_engine(armed=False)
    engine.inject(INSIDE, arp(2, STRANGER, INSIDE_VIP, PRIVATE), now_ns())
    engine.set_vips([(INSIDE, number("10.0.1.9"))])
    assert claims(engine) == {}
