"""Commit by rule (proto/sync.md §6, C1): each flow waits for what its rule says, and for nothing else."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames, gateway6
from tests.native.engines import (
    ANYONE,
    CLIENT,
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    arm,
    make_engine,
    now_ns,
    send,
    take,
)
from tests.native.frames import number
from tests.native.frames6 import udp6

MINUTE_NS = 60 * SECOND_NS
TABLES = {"nat": 0, "service": 1, "forward": 0}


def with_rules(mode: str = "ack", **modes: str) -> Engine:
    """`make_engine`, a forward of port 5353, `mode` for the pair and modes for single rules."""
    engine = make_engine(held_packets=4)
    engine.set_forwards([(number(OUTSIDE_VIP), 5353, 17, number(PRIVATE), 53, ANYONE)])
    engine.set_commit(mode, MINUTE_NS, False)
    for table, own in modes.items():
        engine.set_rule_commit(table, TABLES[table], own)
    return engine


def first_packet(engine: Engine, table: str, port: int) -> list[int]:
    """A new flow by the rule of a table; source ports of what leaves."""
    if table == "nat":
        side, frame = INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", port)
    else:
        side, frame = OUTSIDE, frames.udp(CLIENT, port, OUTSIDE_VIP, {"service": 80, "forward": 5353}[table])
    return [sent.sport for sent in send(engine, side, frame)]


def drained(engine: Engine) -> int:
    first, count, _ = engine.drain()
    return first + count - 1


@pytest.mark.parametrize("table", TABLES)
def test_a_rules_own_mode_is_what_its_flows_wait_for(table: str) -> None:
    engine = with_rules("ack", **{table: "emit"})
    assert first_packet(engine, table, 2000) == []
    assert engine.emitted(drained(engine)) == 1
    assert len(take(engine)) == 1
    engine = with_rules("emit", **{table: "ack"})
    assert first_packet(engine, table, 2000) == []
    sent = drained(engine)
    assert engine.emitted(sent) == 0, "that it was sent is not enough here"
    assert engine.acknowledge(sent) == 1


def test_emit_never_waits_behind_ack_and_each_keeps_its_order() -> None:
    engine = with_rules("ack", nat="emit")
    for port in (2001, 2002):
        assert first_packet(engine, "service", port) == []
        assert first_packet(engine, "nat", port) == []
    sent = drained(engine)
    assert engine.emitted(sent) == 2
    assert [seen.dport for seen in take(engine)] == [2001, 2002], "both NAT flows, in their order"
    assert first_packet(engine, "nat", 2003) == [], "its own ADD is not sent yet"
    assert engine.counters()["held_packets_now"] == 3
    assert engine.acknowledge(sent) == 2
    assert [seen.sport for seen in take(engine)] == [2001, 2002], "then the service's"
    assert engine.emitted(drained(engine)) == 1


def test_both_modes_have_one_bound() -> None:
    engine = with_rules("ack", nat="emit")
    for port in (2001, 2002):
        first_packet(engine, "service", port)
        first_packet(engine, "nat", port)
    assert engine.counters()["held_packets_now"] == 4
    assert first_packet(engine, "nat", 2003) == []
    assert first_packet(engine, "service", 2003) == []
    counters = engine.counters()
    assert (counters["held_packets_now"], counters["fail_closed_dropped"]) == (4, 2)


def test_the_bytes_of_both_modes_have_one_bound() -> None:
    engine = make_engine(held_bytes=2000)
    engine.set_rule_commit("nat", 0, "emit")
    engine.set_commit("ack", MINUTE_NS, False)
    send(engine, OUTSIDE, frames.udp(CLIENT, 1, OUTSIDE_VIP, 80, b"x" * 1000))
    send(engine, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 1, b"x" * 1000))
    counters = engine.counters()
    assert (counters["held_packets_now"], counters["fail_closed_dropped"]) == (1, 1)
    engine.acknowledge(drained(engine))
    send(engine, INSIDE, frames.udp(PRIVATE, 2, "8.8.8.8", 2, b"x" * 1000))
    assert engine.counters()["held_packets_now"] == 1, "what the other had is free"


def test_a_mode_of_its_own_holds_nothing_while_nothing_is_held() -> None:
    engine = with_rules("none", nat="ack")
    assert len(first_packet(engine, "nat", 2000)) == 1


def test_a_replaced_rule_has_the_pairs_mode_again() -> None:
    engine = with_rules("ack", nat="emit", forward="emit")
    engine.set_forwards([(number(OUTSIDE_VIP), 5353, 17, number(PRIVATE), 53, ANYONE)])
    first_packet(engine, "forward", 2000)
    assert engine.emitted(drained(engine)) == 0


def test_at_risk_is_counted_alike_under_both_modes() -> None:
    engine = with_rules("ack", nat="emit")
    first_packet(engine, "nat", 2000)
    first_packet(engine, "service", 2000)
    engine.emitted(drained(engine))
    assert engine.count_at_risk()[0] == 2, "sent is not confirmed"
    engine.acknowledge(1)
    assert engine.count_at_risk()[0] == 1


def test_flows_that_came_over_the_stream_are_never_held() -> None:
    primary, backup = with_rules("ack", nat="emit"), with_rules("ack", nat="emit")
    for table in TABLES:
        first_packet(primary, table, 2000)
    primary_frames = [frames.udp(PRIVATE, 2000, "8.8.8.8", 2000), frames.udp(CLIENT, 2000, OUTSIDE_VIP, 80)]
    assert backup.install(primary.drain()[2], now_ns()) == (3, None)
    arm(backup)
    assert len(send(backup, INSIDE, primary_frames[0])) == 1
    assert len(send(backup, OUTSIDE, primary_frames[1])) == 1
    assert backup.counters()["held_packets"] == 0


@pytest.mark.parametrize("mode", ["emit", "ack"])
def test_an_ipv6_flow_waits_for_what_its_rule_says(mode: str) -> None:
    engine = gateway6.make_engine()
    engine.set_rule_commit("pass", 0, mode)
    engine.set_rule_commit("service", gateway6.NAMES6, mode)
    engine.set_commit("emit" if mode == "ack" else "ack", MINUTE_NS, False)
    engine.inject(INSIDE, udp6(gateway6.HOST, 4000, gateway6.SERVER, 53), now_ns())
    engine.inject(OUTSIDE, udp6(gateway6.CLIENT, 4000, gateway6.OUTSIDE_VIP6, 53), now_ns())
    assert engine.take_sent() == []
    sent = drained(engine)
    commit, other = (engine.acknowledge, engine.emitted)[:: 1 if mode == "ack" else -1]
    assert other(sent) == 0
    assert commit(sent) == 2


def test_what_is_no_mode_and_no_rule_is_an_error() -> None:
    engine = make_engine()
    for table, index in (("nat", 1), ("service", 2), ("forward", 0), ("pass", 0), ("vip", 0)):
        with pytest.raises(IndexError):
            engine.set_rule_commit(table, index, "emit")
    with pytest.raises(ValueError, match="default, emit or ack"):
        engine.set_rule_commit("nat", 0, "none")
    engine.set_rule_commit("nat", 0, "default")
