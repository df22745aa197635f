"""Neighbour discovery: VIPs are answered for while the lease lasts, by the checks of RFC 4861, and announced."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.engines import FOREVER_NS, INSIDE_MAC, OUTSIDE_MAC, now_ns
from tests.native.frames import ACK, MAC_THERE
from tests.native.frames6 import (
    ADVERTISEMENT,
    ALL_NODES,
    ALL_NODES_MAC,
    ICMPV6,
    REDIRECT,
    ROUTER_ADVERTISEMENT,
    advertisement,
    ethernet6,
    extension,
    ipv6,
    message6,
    number6,
    read6,
    solicitation,
    solicited_node,
    tcp6,
    udp6,
)
from tests.native.gateway6 import CLIENT, HOST, INSIDE_VIP6, OUTSIDE_VIP6, SERVER, Gateway6, make_engine

OWN = (INSIDE_MAC, OUTSIDE_MAC)
ROUTER_FLAG, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20


def answered(gateway: Gateway6, side: int, frame: bytes) -> tuple[str, bytes, int]:
    """The advertisement's destination, its MAC and flags; everything else about it is as it must be."""
    [(out, sent)] = gateway.frames(side, frame)
    seen = read6(sent)
    kind, code, rest = seen.icmp
    vip = (INSIDE_VIP6, OUTSIDE_VIP6)[side]
    assert (out, kind, code, seen.hops, seen.source) == (side, ADVERTISEMENT, 0, 255, vip)
    assert rest & 0xFFFFFF == 0
    assert sent[6:12] == OWN[side]
    assert seen.payload == number6(vip) + b"\2\1" + OWN[side], "target, and its MAC as an option"
    return seen.target, seen.mac, rest >> 24


def test_a_solicitation_is_answered_on_the_vips_side_alone() -> None:
    gateway = Gateway6()
    for side, vip, asker in ((INSIDE, INSIDE_VIP6, HOST), (OUTSIDE, OUTSIDE_VIP6, CLIENT)):
        flags = ROUTER_FLAG | SOLICITED | OVERRIDE
        assert answered(gateway, side, solicitation(asker, vip)) == (asker, MAC_THERE, flags)
        assert answered(gateway, side, solicitation("fe80::7", vip)) == ("fe80::7", MAC_THERE, flags)
        assert gateway.frames(1 - side, solicitation(asker, vip)) == []
    assert gateway.frames(INSIDE, solicitation(HOST, "2001:db8:1::2")) == []
    assert gateway.count("ndp_answered") == 4
    assert not [
        name for name, count in gateway.engine.counters().items() if name.startswith("drop_") and count
    ]


def test_the_answer_goes_to_the_mac_that_the_option_names_or_else_to_the_frames() -> None:
    gateway = Gateway6()
    elsewhere = b"\x02abcde"
    assert answered(gateway, INSIDE, solicitation(HOST, INSIDE_VIP6, mac=elsewhere))[1] == elsewhere
    probe = solicitation(HOST, INSIDE_VIP6, mac=None, to=INSIDE_VIP6)  # unicast: is it still there?
    assert answered(gateway, INSIDE, probe)[1] == MAC_THERE
    others = b"\x0e\1" + bytes(6) + b"\1\1" + elsewhere + b"\x05\2" + bytes(14)
    assert answered(gateway, INSIDE, solicitation(HOST, INSIDE_VIP6, options=others))[1] == elsewhere


def test_a_probe_for_duplicates_is_answered_to_all_nodes() -> None:
    gateway = Gateway6()
    expected = ALL_NODES, ALL_NODES_MAC, ROUTER_FLAG | OVERRIDE
    assert answered(gateway, OUTSIDE, solicitation("::", OUTSIDE_VIP6, mac=None)) == expected


SHORT = message6(HOST, INSIDE_VIP6, 135, 0, 0, bytes(15))
BROKEN = [
    ("passed on by a router", solicitation(HOST, INSIDE_VIP6, hops=254)),
    ("another code", solicitation(HOST, INSIDE_VIP6, code=1)),
    ("checksum", solicitation(HOST, INSIDE_VIP6)[:56] + b"\0\0" + solicitation(HOST, INSIDE_VIP6)[58:]),
    ("an option of no length", solicitation(HOST, INSIDE_VIP6, options=b"\1\0" + bytes(6))),
    ("an option that is cut short", solicitation(HOST, INSIDE_VIP6, options=b"\1\2" + bytes(6))),
    ("half an option", solicitation(HOST, INSIDE_VIP6, options=b"\1\1\0\0")),
    ("a probe with a MAC", solicitation("::", INSIDE_VIP6)),
    ("a probe to one node", solicitation("::", INSIDE_VIP6, mac=None, to=INSIDE_VIP6)),
    ("a probe to another group", solicitation("::", INSIDE_VIP6, mac=None, to=ALL_NODES)),
    ("from a group", solicitation("ff02::1", INSIDE_VIP6)),
    ("too short", ethernet6(ipv6(HOST, INSIDE_VIP6, ICMPV6, SHORT, hops=255))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "frame"), BROKEN, ids=[why for why, _ in BROKEN])
def test_what_is_no_genuine_solicitation_is_dropped(why: str, frame: bytes) -> None:
    """RFC 4861 §7.1.1."""
    assert Gateway6().drops(INSIDE, frame) == "drop_malformed", why


def test_a_solicitation_behind_an_extension_header_is_none() -> None:
    gateway = Gateway6()
    group = solicited_node(INSIDE_VIP6)
    body = message6(HOST, group, 135, 0, 0, number6(INSIDE_VIP6))
    assert (
        gateway.drops(INSIDE, ethernet6(ipv6(HOST, group, 60, extension(ICMPV6) + body, hops=255)))
        == "drop_malformed"
    )


def test_who_speaks_as_a_vip_is_not_answered() -> None:
    gateway = Gateway6()
    assert gateway.frames(INSIDE, solicitation(INSIDE_VIP6, INSIDE_VIP6)) == []


def test_discovery_and_group_membership_are_never_forwarded() -> None:
    gateway = Gateway6(passes=[([(bytes(16), 0)], [], True)])
    for kind in (133, ROUTER_ADVERTISEMENT, 135, ADVERTISEMENT, REDIRECT, 130, 131, 132, 143, 138, 139, 200):
        for hops in (64, 255):
            body = message6(HOST, SERVER, kind, 0, 0, bytes(32))
            assert gateway.frames(INSIDE, ethernet6(ipv6(HOST, SERVER, ICMPV6, body, hops=hops))) == []
    assert gateway.flows() == []


def test_an_announcement_reaches_all_nodes_for_every_vip() -> None:
    gateway = Gateway6()
    gateway.engine.set_lease(FOREVER_NS)
    assert gateway.engine.announce() == 6, "two forms for each of IPv4, one for each of IPv6"
    announced = [(side, frame) for side, frame in gateway.engine.take_sent() if frame[12:14] == b"\x86\xdd"]
    assert len(announced) == 2
    for side, frame in announced:
        vip, seen = (INSIDE_VIP6, OUTSIDE_VIP6)[side], read6(frame)
        assert (frame[:6], frame[6:12]) == (ALL_NODES_MAC, OWN[side])
        assert (seen.source, seen.target, seen.hops) == (vip, ALL_NODES, 255)
        assert seen.icmp == (ADVERTISEMENT, 0, (ROUTER_FLAG | OVERRIDE) << 24)
        assert seen.payload == number6(vip) + b"\2\1" + OWN[side]
    assert gateway.count("ndp_announced") == 2
    gateway.engine.set_lease(now_ns())
    assert gateway.engine.announce() == 0


def test_a_node_that_handed_over_sends_stragglers_to_whoever_advertises_the_vip() -> None:
    gateway = Gateway6()
    engine, owner = gateway.engine, b"\x02\0\0\0\0\x99"
    target = gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, 2)).target
    engine.hand_over(gateway.now + 10**9)
    straggler, other = tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, ACK), udp6(SERVER, 1, "2001:db8:5::1", 1)
    assert gateway.frames(OUTSIDE, straggler) == []
    assert gateway.drops(OUTSIDE, other) == "drop_no_lease"
    for not_the_owner in (
        advertisement(OUTSIDE_VIP6, OUTSIDE_VIP6, OUTSIDE_MAC), advertisement(CLIENT, CLIENT, owner),
        advertisement(OUTSIDE_VIP6, OUTSIDE_VIP6, owner, hops=64), advertisement(INSIDE_VIP6, INSIDE_VIP6, owner),
        advertisement(OUTSIDE_VIP6, OUTSIDE_VIP6, b"\x33\x33\0\0\0\1"), solicitation(CLIENT, OUTSIDE_VIP6),
    ):  # fmt: skip
        assert gateway.frames(OUTSIDE, not_the_owner) == []
    assert gateway.frames(OUTSIDE, advertisement(OUTSIDE_VIP6, OUTSIDE_VIP6, owner)) == [
        (OUTSIDE, owner + OUTSIDE_MAC + straggler[12:])
    ]
    assert gateway.frames(OUTSIDE, straggler) == [(OUTSIDE, owner + OUTSIDE_MAC + straggler[12:])]
    answer, passed = tcp6(target, 8080, CLIENT, 4000, ACK), udp6(HOST, 1, SERVER, 53)
    assert gateway.frames(INSIDE, answer) == []
    assert gateway.frames(INSIDE, passed) == []
    left = gateway.frames(INSIDE, advertisement(INSIDE_VIP6, INSIDE_VIP6, owner))
    assert left == [(INSIDE, owner + INSIDE_MAC + frame[12:]) for frame in (answer, passed)]
    assert gateway.count("relayed_packets") == 4
    gateway.now += 2 * 10**9
    assert gateway.drops(OUTSIDE, straggler) == "drop_no_lease"


def test_a_backup_answers_nobody() -> None:
    engine = make_engine(armed=False)
    engine.inject(INSIDE, solicitation(HOST, INSIDE_VIP6), now_ns())
    assert engine.take_sent() == []
