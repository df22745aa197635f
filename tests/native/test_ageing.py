"""How flows end: by their timeout, by their last segment, by a new SYN."""

from __future__ import annotations

from hasyncd._native import INSIDE, OUTSIDE
from tests.native import frames
from tests.native.engines import (
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    flows,
    make_engine,
    now_ns,
    record_kinds,
    send,
)
from tests.native.frames import ACK, FIN, SYN


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
        told += record_kinds(engine.drain()[2])
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
