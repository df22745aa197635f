"""The extension's face: what it refuses, what it answers, and each way a packet can take."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames
from tests.native.engines import (
    ANYONE,
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
    SEED,
    arm,
    bare_engine,
    drops,
    flows,
    mac_of,
    make_engine,
    moved,
    now_ns,
    send,
    take,
)
from tests.native.frames import ACK, FIN, RST, SYN, number

MINUTE_NS = 60 * SECOND_NS


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity": 0, "seed": SEED},
        {"capacity": (8 << 20) + 1, "seed": SEED},
        {"capacity": 1, "seed": b"short"},
        {"capacity": 1, "seed": SEED, "held_packets": 0},
    ],
)
def test_an_engine_outside_its_limits_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="capacity"):
        Engine(**wrong)


def test_there_is_no_engine_without_its_gateway() -> None:
    with pytest.raises(TypeError):
        Engine.__new__(Engine)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("attach", (2, b"\0" * 6, 1500)),
        ("attach", (-1, b"\0" * 6, 1500)),
        ("attach", (0, b"\0" * 5, 1500)),
        ("attach", (0, b"\0" * 6, 67)),
        ("attach", (0, b"\0" * 6, 65536)),
        ("set_vips", ([(2, 1)],)),
        ("set_vips", ([(0, 1)] * 65,)),
        ("set_routes", ([(0, 33, 0, 0)],)),
        ("set_routes", ([(0, -1, 0, 0)],)),
        ("set_routes", ([(0, 0, 2, 0)],)),
        ("set_routes", ([(0, 0, 0, 0)] * 4097,)),
        ("set_neighbours", ([(2, 1, b"\0" * 6)],)),
        ("set_nat_rules", ([([(0, 33)], [], [1], 1, 2)],)),
        ("set_nat_rules", ([([], [], [], 1, 2)],)),
        ("set_nat_rules", ([([], [], [1], 2, 1)],)),
        ("set_nat_rules", ([([], [], [1], 0, 1)],)),
        ("set_nat_rules", ([([], [], [1], 1, 65536)],)),
        ("set_nat_rules", ([([], [], [1 << 32], 1, 2)],)),
        ("set_nat_rules", ([([], [], [1] * 65, 1, 2)],)),
        ("set_service", (3, 1, 80, 6, [])),
        ("set_service", (0, 1, 80, 6, [(0, 40)])),
        ("publish_ring", (0, [(1, 1, 1, 65535)] * 1024, 1)),
        ("publish_ring", (0, [(1, 1, 1, 65535)], 1, 2**32 - 1)),
        ("set_commit", ("never", 1, True)),
        ("inject", (0, b"\0" * 65550, 0)),
        ("inject", (2, b"", 0)),
        ("reset", (b"short",)),
    ],
)
def test_what_is_outside_its_range_is_an_error(method: str, arguments: tuple[Any, ...]) -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match=r"."):
        getattr(engine, method)(*arguments)
    assert len(send(engine, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53))) <= 1  # still alive


def test_a_service_that_was_not_declared_does_not_exist() -> None:
    engine = bare_engine()
    for call in (
        lambda: engine.ring(0),
        lambda: engine.publish_ring(0, [], 1),
        lambda: engine.backend_flow_counts(0),
    ):
        with pytest.raises(IndexError):
            call()


def test_without_rules_nothing_passes() -> None:
    engine = bare_engine()
    arm(engine)
    for side, frame in (
        (INSIDE, frames.tcp(PRIVATE, 1, "8.8.8.8", 443, SYN)),
        (INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53)),
        (INSIDE, frames.echo(PRIVATE, "8.8.8.8", 1)),
        (OUTSIDE, frames.tcp(CLIENT, 1, OUTSIDE_VIP, 80, SYN)),
        (OUTSIDE, frames.udp(CLIENT, 1, "10.0.1.7", 53)),
    ):
        assert send(engine, side, frame) == []
    assert drops(engine) == {"drop_no_rule": 5}
    assert engine.flow_counts() == (0, 0, 0, 0)


def test_every_drop_has_its_reason() -> None:
    engine = make_engine(capacity=8)
    engine.set_service(2, number(OUTSIDE_VIP), 443, 6, [(number("203.0.113.0"), 25)])
    engine.set_service(3, number(OUTSIDE_VIP), 8443, 6, ANYONE)
    cases = [
        ("drop_no_rule", OUTSIDE, frames.udp(CLIENT, 1, PRIVATE, 53)),
        ("drop_no_rule", INSIDE, frames.udp("10.9.9.9", 1, "8.8.8.8", 53)),
        ("drop_no_rule", INSIDE, frames.tcp(PRIVATE, 1, OUTSIDE_VIP, 22, SYN)),
        ("drop_not_allowed", OUTSIDE, frames.tcp("198.51.100.1", 1, OUTSIDE_VIP, 443, SYN)),
        ("drop_not_allowed", OUTSIDE, frames.tcp(PRIVATE, 1, OUTSIDE_VIP, 80, SYN)),
        ("drop_no_rule", INSIDE, frames.udp(INSIDE_VIP, 1, "8.8.8.8", 53)),
        ("drop_no_backend", OUTSIDE, frames.tcp(CLIENT, 1, OUTSIDE_VIP, 443, SYN)),
        ("drop_no_backend", OUTSIDE, frames.tcp(CLIENT, 1, OUTSIDE_VIP, 8443, SYN)),
        ("drop_no_flow", INSIDE, frames.tcp(PRIVATE, 1, "8.8.8.8", 443, ACK)),
        ("drop_no_flow", OUTSIDE, frames.tcp(CLIENT, 1, OUTSIDE_VIP, 80, ACK)),
        ("drop_no_flow", INSIDE, frames.echo(PRIVATE, "8.8.8.8", 7, reply=True)),
        ("drop_ttl", INSIDE, frames.echo(PRIVATE, "8.8.8.8", 7, ttl=1)),
        ("drop_same_side", INSIDE, frames.udp(PRIVATE, 1, "10.0.1.8", 53)),
        ("drop_fragment", INSIDE, frames.ethernet(frames.ipv4(PRIVATE, "8.8.8.8", 6, b"\0" * 8, fragment=0x2000))),
        ("drop_fragment", INSIDE, frames.ethernet(frames.ipv4(PRIVATE, "8.8.8.8", 6, b"\0" * 8, fragment=0x0001))),
        ("drop_protocol", INSIDE, frames.ethernet(frames.ipv4(PRIVATE, "8.8.8.8", 47, b"\0" * 8))),
        ("drop_protocol", INSIDE, frames.ethernet(frames.ipv4(PRIVATE, "8.8.8.8", 1, frames.icmp(13, 0, 1)))),
        ("drop_malformed", INSIDE, b""),
        ("drop_malformed", INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53)[:40]),
        ("drop_icmp_unrelated", OUTSIDE, frames.error(ROUTER, OUTSIDE_VIP, frames.udp(OUTSIDE_VIP, 1, CLIENT, 1)[14:])),
        ("drop_tcp_invalid", INSIDE, frames.tcp(PRIVATE, 9, "8.8.8.8", 443, ACK)),
    ]  # fmt: skip
    send(engine, INSIDE, frames.tcp(PRIVATE, 9, "8.8.8.8", 443, SYN))
    for reason, side, frame in cases:
        before = engine.counters()
        assert len(send(engine, side, frame)) == (reason == "drop_ttl"), reason  # its sender is told
        assert moved(drops(engine), dict.fromkeys(drops(engine), 0) | drops_in(before)) == {reason: 1}, (
            frame.hex()
        )
    assert engine.flow_counts()[0] == 1, "no packet that cannot leave made a flow"
    engine.set_routes([])
    before = engine.counters()
    assert send(engine, INSIDE, frames.udp(PRIVATE, 2, "8.8.8.8", 53)) == []
    assert send(engine, OUTSIDE, frames.tcp(CLIENT, 2, OUTSIDE_VIP, 80, SYN)) == []
    assert engine.counters()["drop_no_route"] == before["drop_no_route"] + 2
    assert engine.flow_counts()[0] == 1


def drops_in(counters: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counters.items() if name.startswith("drop_") and count}


def test_table_full_and_half_open_limit_are_distinct() -> None:
    engine = make_engine(capacity=8)
    for port in range(1, 4):
        send(engine, INSIDE, frames.tcp(PRIVATE, port, "8.8.8.8", 443, SYN))
    assert drops(engine) == {"drop_half_open_limit": 1}
    assert engine.counters()["half_open_flows"] == 2
    for port in range(1, 10):
        send(engine, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", 53))
    assert drops(engine) == {"drop_half_open_limit": 1, "drop_table_full": 3}
    assert engine.flow_counts() == (8, 2, 6, 0)


def test_exhausted_ports_are_a_drop_of_their_own_and_end_with_a_freed_one() -> None:
    engine, now = make_engine(ports=(2000, 2003)), now_ns()
    for port in range(1, 6):
        send(engine, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", 53), now)
    assert drops(engine) == {"drop_nat_exhausted": 1}
    assert {flow.reply[3] for flow in flows(engine)} == {2000, 2001, 2002, 2003}
    assert len(send(engine, INSIDE, frames.udp(PRIVATE, 5, "8.8.4.4", 53), now)) == 1
    assert engine.tick(now + 302 * SECOND_NS) == 5
    assert len(send(engine, INSIDE, frames.udp(PRIVATE, 5, "8.8.8.8", 53), now + 302 * SECOND_NS)) == 1


@pytest.mark.parametrize("data", [b"", b"x", b"some data"])
def test_source_nat_there_and_back(data: bytes) -> None:
    engine = make_engine()
    for index, (there, proto) in enumerate(
        [
            (frames.tcp(PRIVATE, 7, "8.8.8.8", 443, SYN, data), 6),
            (frames.udp(PRIVATE, 7, "8.8.8.8", 443, data), 17),
        ]
    ):
        (sent,) = send(engine, INSIDE, there)
        assert (sent.source, sent.target, sent.dport) == (OUTSIDE_VIP, "8.8.8.8", 443)
        assert (sent.ttl, sent.payload, sent.mac) == (63, data, mac_of(ROUTER))
        back = (
            frames.tcp("8.8.8.8", 443, OUTSIDE_VIP, sent.sport, SYN | ACK, data)
            if proto == 6
            else frames.udp("8.8.8.8", 443, OUTSIDE_VIP, sent.sport, data)
        )
        (returned,) = send(engine, OUTSIDE, back)
        assert returned.ends == ("8.8.8.8", 443, PRIVATE, 7)
        assert (returned.payload, returned.mac) == (data, mac_of(PRIVATE))
        assert engine.flow_counts()[0] == index + 1


def test_a_datagram_without_checksum_stays_without() -> None:
    engine = make_engine()
    (sent,) = send(engine, INSIDE, frames.udp(PRIVATE, 7, "8.8.8.8", 53, b"data", summed=False))
    assert sent.packet[26:28] == b"\0\0"


def test_an_echo_passes_the_nat_both_ways_and_no_other_way() -> None:
    engine = make_engine()
    (sent,) = send(engine, INSIDE, frames.echo(PRIVATE, "8.8.8.8", 77))
    assert (sent.source, sent.target, sent.icmp_type, sent.payload) == (OUTSIDE_VIP, "8.8.8.8", 8, b"ping")
    (back,) = send(engine, OUTSIDE, frames.echo("8.8.8.8", OUTSIDE_VIP, sent.sport, reply=True))
    assert (back.source, back.target, back.sport, back.icmp_type) == ("8.8.8.8", PRIVATE, 77, 0)
    assert send(engine, INSIDE, frames.echo(PRIVATE, "8.8.8.8", 77, reply=True)) == []
    assert drops(engine) == {"drop_no_flow": 1}


def test_a_service_keeps_the_client_and_spreads_over_backends() -> None:
    engine, chosen = make_engine(), set[str]()
    for port in range(5000, 5040):
        (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
        assert (sent.source, sent.sport, sent.dport) == (CLIENT, port, 8080)
        (again,) = send(engine, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
        assert again.target == sent.target
        (back,) = send(engine, INSIDE, frames.tcp(sent.target, 8080, CLIENT, port, SYN | ACK))
        assert back.ends == (OUTSIDE_VIP, 80, CLIENT, port)
        chosen.add(sent.target)
    assert chosen == {"10.0.1.21", "10.0.1.22"}
    counts = engine.backend_flow_counts(0)
    assert set(counts) == {1, 2}
    assert sum(counts.values()) == 40
    assert min(counts.values()) > 5


def test_a_backend_that_left_keeps_its_flows_and_gets_no_new_ones() -> None:
    engine = make_engine()
    ports = range(5000, 5020)
    before = {p: send(engine, OUTSIDE, frames.tcp(CLIENT, p, OUTSIDE_VIP, 80, SYN))[0].target for p in ports}
    engine.publish_ring(0, [(2, number("10.0.1.22"), 8080, 1)], 2)
    for port, target in before.items():
        (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
        assert sent.target == target
    for port in range(6000, 6020):
        (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
        assert sent.target == "10.0.1.22"
    assert sum(engine.backend_flow_counts(0).values()) == 40
    engine.publish_ring(0, [], 3)
    assert send(engine, OUTSIDE, frames.tcp(CLIENT, 7000, OUTSIDE_VIP, 80, SYN)) == []
    assert drops(engine) == {"drop_no_backend": 1}


def test_a_syn_on_a_finished_flow_chooses_anew() -> None:
    engine = make_engine()
    send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    target = flows(engine)[0].server_id
    engine.publish_ring(0, [(3, number("10.0.1.23"), 8080, 1)], 2)
    (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    assert sent.target != "10.0.1.23", "half-open: the same flow"
    send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, RST))
    (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    assert sent.target == "10.0.1.23"
    assert engine.backend_flow_counts(0) == {target: 0, 3: 1} | dict.fromkeys((1, 2), 0) | {3: 1}
    kinds = [record for record in kinds_of(engine.drain()[2]) if record in (1, 3)]
    assert kinds == [1, 3, 1], "ADD, DEL, ADD"


def kinds_of(records: bytes) -> list[int]:
    sizes, kinds, at = {1: 32, 2: 12, 3: 12, 4: 36}, [], 0
    while at < len(records):
        kinds.append(records[at])
        at += sizes[records[at]]
    return kinds


def test_time_wait_is_reached_and_reopened() -> None:
    engine = make_engine()
    here, there = (PRIVATE, 9, "8.8.8.8", 443), ("8.8.8.8", 443, OUTSIDE_VIP)
    (sent,) = send(engine, INSIDE, frames.tcp(*here, SYN))
    port = sent.sport
    for side, flags, state in (
        (OUTSIDE, SYN | ACK, 2), (INSIDE, ACK, 3), (INSIDE, FIN | ACK, 4), (OUTSIDE, ACK, 5),
        (OUTSIDE, FIN | ACK, 6), (INSIDE, ACK, 7),
    ):  # fmt: skip
        frame = frames.tcp(*here, flags) if side == INSIDE else frames.tcp(*there, port, flags)
        assert len(send(engine, side, frame)) == 1
        assert [flow.state for flow in flows(engine)] == [state]
    assert send(engine, OUTSIDE, frames.tcp(*there, port, SYN)) == [], "the server may not reopen"
    (sent,) = send(engine, INSIDE, frames.tcp(*here, SYN))
    assert sent.sport == port
    assert [flow.state for flow in flows(engine)] == [1]


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


def test_ageing_follows_the_kind_of_flow_and_rests_without_the_arm() -> None:
    engine, now = make_engine(), now_ns()
    send(engine, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53), now)
    send(engine, INSIDE, frames.echo(PRIVATE, "8.8.8.8", 1), now)
    send(engine, INSIDE, frames.tcp(PRIVATE, 1, "8.8.8.8", 53, SYN), now)
    for seconds, left in ((59, 3), (119, 3), (122, 2), (239, 2), (242, 1), (299, 1), (302, 0)):
        engine.tick(now + seconds * SECOND_NS)  # nothing ages out in the grace of 120 s
        assert engine.flow_counts()[0] == left, seconds
    assert engine.counters()["flows_aged_out"] == 3
    send(engine, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53), now)
    engine.disarm()
    assert engine.tick(now + 10_000 * SECOND_NS) == 0
    engine.arm(now + 10_000 * SECOND_NS)
    assert engine.tick(now + 10_002 * SECOND_NS) == 0, "grace"
    assert engine.tick(now + 10_119 * SECOND_NS) == 0
    assert engine.tick(now + 10_122 * SECOND_NS) == 1


def test_a_refreshed_flow_stays_and_tells_its_peer_now_and_then() -> None:
    engine, now = make_engine(), now_ns()
    frame = frames.udp(PRIVATE, 1, "8.8.8.8", 53)
    send(engine, INSIDE, frame, now)
    told = []
    for seconds in range(0, 600, 5):
        engine.tick(now + seconds * SECOND_NS)
        send(engine, INSIDE, frame, now + seconds * SECOND_NS)
        told += kinds_of(engine.drain()[2])
    assert engine.flow_counts()[0] == 1
    assert told[0] == 1
    assert 15 <= told.count(2) <= 20, "every 30 seconds, not with every packet"
    assert set(told[1:]) == {2, 4}


def test_a_packet_that_changes_nothing_keeps_nothing_alive() -> None:
    """A late SYN on an established flow passes, ignored, and the flow ages all the same."""
    engine, now = make_engine(), now_ns()
    (sent,) = send(engine, INSIDE, frames.tcp(PRIVATE, 9, "8.8.8.8", 443, SYN), now)
    send(engine, OUTSIDE, frames.tcp("8.8.8.8", 443, OUTSIDE_VIP, sent.sport, SYN | ACK), now)
    send(engine, INSIDE, frames.tcp(PRIVATE, 9, "8.8.8.8", 443, ACK), now)
    later = now + 7000 * SECOND_NS
    assert len(send(engine, INSIDE, frames.tcp(PRIVATE, 9, "8.8.8.8", 443, SYN), later)) == 1
    assert engine.tick(now + 7442 * SECOND_NS) == 1


def test_two_services_never_share_one_way_back() -> None:
    """The same client port to two services of one backend: the backend could not tell them apart."""
    engine = make_engine()
    engine.set_service(2, number(OUTSIDE_VIP), 81, 6, ANYONE)
    engine.publish_ring(0, [(1, number("10.0.1.21"), 8080, 1)], 2)
    engine.publish_ring(2, [(1, number("10.0.1.21"), 8080, 1)], 1)
    assert len(send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 80, SYN))) == 1
    assert send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 81, SYN)) == []
    assert drops(engine) == {"drop_no_backend": 1}
    assert len(send(engine, OUTSIDE, frames.tcp(CLIENT, 6, OUTSIDE_VIP, 81, SYN))) == 1
