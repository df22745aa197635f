"""Commit (proto/sync.md §6): what holds a packet, what lets it go, in which order, and what is counted."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames
from tests.native.engines import (
    CLIENT,
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    drops,
    make_engine,
    now_ns,
    send,
    take,
)
from tests.native.frames import ACK, RST, SYN

MINUTE_NS = 60 * SECOND_NS


def open_udp(engine: Engine, port: int, at_ns: int | None = None, data: bytes = b"") -> list[int]:
    return [
        sent.dport for sent in send(engine, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", port, data), at_ns)
    ]


def test_nothing_is_held_without_a_commit_mode() -> None:
    engine = make_engine()
    assert open_udp(engine, 1) == [1]
    assert engine.counters()["held_packets"] == 0


@pytest.mark.parametrize("mode", ["ack", "emit"])
def test_packets_leave_in_order_as_their_adds_are_committed(mode: str) -> None:
    engine = make_engine()
    engine.set_commit(mode, MINUTE_NS, False)
    for port in (1, 2, 3):
        assert open_udp(engine, port) == []
    assert open_udp(engine, 2) == [], "behind its first"
    assert engine.counters()["held_packets_now"] == 4
    engine.drain()
    commit = engine.acknowledge if mode == "ack" else engine.emitted
    assert commit(2) == 2
    assert [sent.dport for sent in take(engine)] == [1, 2]
    assert open_udp(engine, 1) == [1], "a committed flow never waits again"
    assert commit(3) == 2
    assert [sent.dport for sent in take(engine)] == [3, 2]
    assert engine.counters()["held_packets_now"] == 0
    assert engine.counters()["fail_open_released"] == 0


@pytest.mark.parametrize("mode", ["ack", "emit"])
def test_a_change_of_state_holds_nothing_back(mode: str) -> None:
    """Only the ADD is waited for: SYN-ACK and ACK make UPDATEs, and pass."""
    engine = make_engine()
    engine.set_commit(mode, MINUTE_NS, False)
    assert send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 80, SYN)) == []
    engine.drain()
    assert (engine.acknowledge(1) if mode == "ack" else engine.emitted(1)) == 1
    (syn,) = take(engine)
    assert len(send(engine, INSIDE, frames.tcp(syn.target, 8080, CLIENT, 5, SYN | ACK))) == 1
    assert len(send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 80, ACK))) == 1
    assert engine.counters()["held_packets"] == 1


def test_an_acknowledgement_of_what_was_never_sent_releases_nothing() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, False)
    open_udp(engine, 1)
    assert engine.acknowledge(1) == 0
    assert engine.acknowledge(2**64 - 1) == 0
    assert engine.count_at_risk()[0] == 1
    engine.drain()
    assert engine.acknowledge(2**64 - 1) == 1
    assert engine.count_at_risk() == (0, 0)


def test_fail_open_releases_after_the_timeout_and_counts() -> None:
    engine, now = make_engine(), now_ns()
    engine.set_commit("ack", 50_000_000, True)
    assert open_udp(engine, 1, now) == []
    engine.tick(now + 49_000_000)
    assert take(engine) == []
    engine.tick(now + 50_000_000)
    assert [sent.dport for sent in take(engine)] == [1]
    assert engine.counters()["fail_open_released"] == 1
    assert open_udp(engine, 1, now) == [1], "later packets of that flow do not wait again"
    assert engine.count_at_risk()[0] == 1, "and nobody calls it safe"


def test_fail_closed_drops_after_the_timeout_and_counts() -> None:
    engine, now = make_engine(), now_ns()
    engine.set_commit("ack", 50_000_000, False)
    assert open_udp(engine, 1, now) == []
    engine.tick(now + 50_000_000)
    assert take(engine) == []
    assert engine.counters()["fail_closed_dropped"] == 1
    assert open_udp(engine, 1, now) == [], "its next packet waits again"
    engine.drain()
    assert engine.acknowledge(1) == 1
    assert [sent.dport for sent in take(engine)] == [1]


@pytest.mark.parametrize("fail_open", [True, False])
def test_a_full_queue_follows_the_policy(fail_open: bool) -> None:
    engine = make_engine(held_packets=2)
    engine.set_commit("ack", MINUTE_NS, fail_open)
    released = [open_udp(engine, port) for port in (1, 2, 3)]
    assert released == [[], [], [3] if fail_open else []]
    counters = engine.counters()
    assert (counters["held_packets"], counters["fail_open_released"], counters["fail_closed_dropped"]) == (
        2,
        int(fail_open),
        int(not fail_open),
    )


def test_a_queue_without_room_for_the_bytes_follows_the_policy() -> None:
    engine = make_engine(held_bytes=1000)
    engine.set_commit("ack", MINUTE_NS, False)
    open_udp(engine, 1, data=b"x" * 900)
    open_udp(engine, 2, data=b"x" * 100)
    assert engine.counters()["fail_closed_dropped"] == 1
    engine.drain()
    assert engine.acknowledge(1) == 1


def test_when_holding_ends_everything_leaves_and_is_counted() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, False)
    for port in (1, 2, 3):
        open_udp(engine, port)
    engine.set_commit("none", 0, True)
    assert [sent.dport for sent in take(engine)] == [1, 2, 3]
    assert engine.counters()["fail_open_released"] == 3
    assert open_udp(engine, 4) == [4]


def test_without_the_lease_nothing_held_leaves() -> None:
    engine, now = make_engine(), now_ns()
    engine.set_commit("ack", 50_000_000, True)
    for port in (1, 2):
        open_udp(engine, port, now)
    engine.drain()
    engine.set_lease(0)
    assert engine.acknowledge(1) == 0
    engine.set_commit("none", 0, True)
    assert engine.counters()["fail_open_released"] == 0
    engine.set_commit("ack", 50_000_000, True)
    engine.tick(now + SECOND_NS)
    assert take(engine) == []
    assert drops(engine) == {"drop_no_lease": 2}


def test_disarming_drops_what_is_held_and_counts_it() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, True)
    for port in (1, 2):
        open_udp(engine, port)
    engine.disarm()
    assert drops(engine) == {"drop_hold_lost": 2}
    engine.drain()
    assert engine.acknowledge(2) == 0
    assert take(engine) == []


def test_flows_older_than_the_commit_mode_pass() -> None:
    engine = make_engine()
    assert open_udp(engine, 1) == [1]
    engine.set_commit("ack", MINUTE_NS, False)
    assert open_udp(engine, 1) == [1]
    assert open_udp(engine, 2) == []


def test_a_new_log_after_a_lost_peer_leaves_no_flow_stuck() -> None:
    engine, now = make_engine(), now_ns()
    engine.set_commit("emit", MINUTE_NS, False)
    assert open_udp(engine, 1, now) == []
    engine.set_commit("none", 0, True)  # the peer is gone
    assert len(take(engine)) == 1
    first = engine.log_state()[2]
    assert engine.start_log(first)  # another comes
    assert engine.append_snapshot(100, restart=True) == (1, True)
    _, count, _ = engine.drain()
    engine.emitted(first + count - 1)
    engine.acknowledge(first + count - 1)
    engine.set_commit("emit", MINUTE_NS, False)
    assert open_udp(engine, 1, now) == [1]
    assert engine.count_at_risk() == (0, 0)


def test_what_a_held_flow_does_meanwhile_waits_for_its_add_alone() -> None:
    engine = make_engine()
    engine.set_commit("ack", MINUTE_NS, False)
    for flags in (SYN, RST):  # the RST changes the state: a second record
        assert send(engine, OUTSIDE, frames.tcp(CLIENT, 5, OUTSIDE_VIP, 80, flags)) == []
    assert engine.drain()[1] == 2
    assert engine.acknowledge(1) == 2
    assert [sent.flags for sent in take(engine)] == [SYN, RST]
    assert engine.count_at_risk()[0] == 1, "its new state is not yet safe"


def test_a_full_sync_begins_where_it_was_named_whatever_came_since() -> None:
    """The packet thread may append between the naming of a sequence and the start: nothing is skipped."""
    engine, now = make_engine(), now_ns()
    open_udp(engine, 1, now)
    named = engine.log_state()[2]
    open_udp(engine, 2, now)
    assert engine.start_log(named)
    assert engine.drain()[0] == named
    assert not engine.start_log(engine.log_state()[2] + 1)
    assert not engine.start_log(0)


def test_a_moment_is_the_log_and_the_table_together() -> None:
    engine, now = make_engine(), now_ns()
    open_udp(engine, 1, now)
    assert engine.moment() == (*engine.log_state(), *engine.digest())
