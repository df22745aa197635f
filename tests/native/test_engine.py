"""The extension's face: what it refuses, every reason of a drop, source NAT and services."""

from __future__ import annotations

from typing import Any

import pytest

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native import frames
from tests.native.engines import (
    ANYONE,
    BACKENDS,
    CLIENT,
    INSIDE_VIP,
    OUTSIDE_VIP,
    PRIVATE,
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
    publish_ring,
    record_kinds,
    send,
)
from tests.native.frames import ACK, RST, SYN, number

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
        ("publish", (0, [(2, 1, 1, 1, 0)], BackendTable("maglev", [(1, 1)], 1))),
        ("set_balance", (0, "destination", 0)),
        ("set_balance", (0, "tuple", 100)),
        ("set_commit", ("never", 1, True)),
        ("inject", (0, b"\0" * 65590, 0)),
        ("inject", (2, b"", 0)),
        ("reset", (b"short",)),
    ],
)
def test_what_is_outside_its_range_is_an_error(method: str, arguments: tuple[Any, ...]) -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match=r"."):
        getattr(engine, method)(*arguments)
    assert len(send(engine, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53))) <= 1  # still alive


class Fleeting:
    """A sequence that makes its items when asked and keeps none."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[int, int, bytes]:
        return 0, 1, bytes([index] * 6)


@pytest.mark.parametrize("wrong", [Fleeting(), [Fleeting()], ["abc"], [7], 7, None])
def test_lists_of_tuples_are_lists_of_tuples(wrong: Any) -> None:
    engine = bare_engine()
    for method in (engine.set_neighbours, engine.set_routes, engine.set_vips, engine.set_nat_rules):
        with pytest.raises(TypeError):
            method(wrong)


def test_a_service_that_was_not_declared_does_not_exist() -> None:
    engine = bare_engine()
    for call in (
        lambda: engine.set_balance(0, "tuple", 0),
        lambda: publish_ring(engine, 0, [], 1),
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
    for port, target in before.items():
        assert send(engine, INSIDE, frames.tcp(target, 8080, CLIENT, port, SYN | ACK))
    gone = (1, number("10.0.1.21"), 8080, 1)
    publish_ring(engine, 0, [(2, number("10.0.1.22"), 8080, 1)], 2, draining=[gone])
    for port, target in before.items():
        (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
        assert sent.target == target
    for port in range(6000, 6020):
        (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
        assert sent.target == "10.0.1.22"
    assert sum(engine.backend_flow_counts(0).values()) == 40
    publish_ring(engine, 0, [], 3)
    assert send(engine, OUTSIDE, frames.tcp(CLIENT, 7000, OUTSIDE_VIP, 80, SYN)) == []
    assert drops(engine) == {"drop_no_backend": 1}


def test_a_syn_that_nobody_answered_follows_its_backend_no_longer_than_that_is_there() -> None:
    engine = make_engine()
    send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    first = flows(engine)[0].server_id
    publish_ring(engine, 0, [(3, number("10.0.1.23"), 8080, 1), (first, number(BACKENDS[first]), 8080, 1)], 2)
    (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    assert sent.target == BACKENDS[first], "a newcomer takes nothing over"
    publish_ring(engine, 0, [(3, number("10.0.1.23"), 8080, 1)], 3)
    (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    assert sent.target == "10.0.1.23"
    assert [flow.server_id for flow in flows(engine)] == [3]


def test_a_syn_on_a_finished_flow_chooses_anew() -> None:
    engine = make_engine()
    send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    target = flows(engine)[0].server_id
    assert send(engine, INSIDE, frames.tcp(BACKENDS[target], 8080, CLIENT, 5000, SYN | ACK))
    drained = (target, number(BACKENDS[target]), 8080, 1)
    publish_ring(engine, 0, [(3, number("10.0.1.23"), 8080, 1)], 2, draining=[drained])
    (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    assert sent.target == BACKENDS[target], "half-open and answered: the same flow"
    send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, RST))
    (sent,) = send(engine, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    assert sent.target == "10.0.1.23"
    assert engine.backend_flow_counts(0) == {target: 0, 3: 1} | dict.fromkeys((1, 2), 0) | {3: 1}
    kinds = [record for record in record_kinds(engine.drain()[2]) if record in (1, 3)]
    assert kinds == [1, 3, 1], "ADD, DEL, ADD"


def test_two_services_never_share_one_way_back() -> None:
    """The same client port to two services of one backend: the backend could not tell them apart."""
    engine = make_engine()
    engine.set_service(2, number(OUTSIDE_VIP), 81, 6, ANYONE)
    publish_ring(engine, 0, [(1, number("10.0.1.21"), 8080, 1)], 2)
    publish_ring(engine, 2, [(1, number("10.0.1.21"), 8080, 1)], 1)
    assert len(send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 80, SYN))) == 1
    assert send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 81, SYN)) == []
    assert drops(engine) == {"drop_no_backend": 1}
    assert len(send(engine, OUTSIDE, frames.tcp(CLIENT, 6, OUTSIDE_VIP, 81, SYN))) == 1
