"""A peer that does not keep up (proto/sync.md §6, C4, C5): who waits once, who does not wait at all, and until when."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames
from tests.native.engines import CLIENT, OUTSIDE_VIP, PRIVATE, make_engine, now_ns, send, take

MS = 1_000_000
TIMEOUT = 50 * MS


class Slow:
    """An engine, a clock that stands until it is moved, and a peer that confirms when it is told to."""

    def __init__(self, mode: str = "ack", *, fail_open: bool = True) -> None:
        self.engine: Engine = make_engine(held_packets=64)
        self.engine.set_commit(mode, TIMEOUT, fail_open)
        self.mode = mode
        # The engine judges ages by the machine's clock when something is confirmed: so these are in the past.
        self.now = now_ns() - 60_000 * MS

    def open(self, port: int) -> list[int]:
        sent = send(self.engine, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", port), self.now)
        return [seen.dport for seen in sent]

    def wait(self, ms: int) -> list[int]:
        self.now += ms * MS
        self.engine.tick(self.now)
        return [seen.dport for seen in take(self.engine)]

    def catch_up(self) -> list[int]:
        """The clock is the machine's again, and what is sent now is confirmed."""
        self.now = now_ns()
        first, count, _ = self.engine.drain()
        commit = self.engine.acknowledge if self.mode == "ack" else self.engine.emitted
        commit(first + count - 1)
        return [seen.dport for seen in take(self.engine)]

    @property
    def suspended(self) -> bool:
        return bool(self.engine.counters()["commit_suspended_now"])

    @property
    def released(self) -> int:
        return self.engine.counters()["fail_open_released"]


@pytest.mark.parametrize("mode", ["ack", "emit"])
def test_after_one_flow_waited_in_vain_new_ones_leave_at_once(mode: str) -> None:
    slow = Slow(mode)
    assert slow.open(1) == []
    assert slow.wait(49) == []
    assert not slow.suspended
    assert slow.wait(1) == [1]
    assert slow.suspended
    assert [slow.open(port) for port in (2, 3, 4)] == [[2], [3], [4]], "nobody waits again"
    assert [slow.open(port) for port in (1, 2, 3)] == [[1], [2], [3]], "nor do their later packets"
    assert slow.released == 4, "each flow is counted once"
    assert slow.engine.count_at_risk()[0] == 4, "nobody calls them safe"
    assert slow.engine.counters()["commit_suspensions"] == 1


@pytest.mark.parametrize("mode", ["ack", "emit"])
def test_it_is_resumed_when_the_peer_has_caught_up(mode: str) -> None:
    slow = Slow(mode)
    slow.open(1)
    slow.wait(50)
    slow.open(2)
    slow.catch_up()
    assert not slow.suspended
    assert slow.open(3) == [], "new flows wait again"
    assert slow.open(2) == [2], "flows that left before do not begin to"
    assert slow.catch_up() == [3]
    assert slow.released == 2


def test_it_is_not_resumed_while_old_records_are_unconfirmed() -> None:
    slow = Slow()
    slow.open(1)
    slow.wait(50)
    slow.open(2)
    slow.engine.drain()
    slow.engine.acknowledge(1)
    assert slow.suspended, "what the timeout released is confirmed, what is behind it is old too"
    assert slow.open(3) == [3]
    slow.engine.acknowledge(2)
    assert slow.suspended, "the third is a minute old by the machine's clock"
    slow.engine.drain()
    slow.engine.acknowledge(3)
    assert not slow.suspended


def test_it_is_resumed_under_load_once_what_is_unconfirmed_is_young() -> None:
    slow = Slow()
    slow.open(1)
    slow.wait(50)
    slow.now = now_ns()
    assert slow.open(2) == [2]
    slow.engine.drain()
    slow.engine.acknowledge(1)
    assert not slow.suspended, "the second is not confirmed, but it is not late"
    assert slow.engine.count_at_risk()[0] == 1


def test_what_is_held_when_it_begins_waits_for_its_own_time() -> None:
    slow = Slow()
    slow.open(1)
    slow.wait(30)
    assert slow.open(2) == []
    assert slow.wait(20) == [1]
    assert slow.open(2) == [], "behind its first: nothing overtakes within a flow"
    assert slow.open(3) == [3]
    assert slow.wait(29) == []
    assert slow.wait(1) == [2, 2]
    assert slow.released == 3


def test_a_slow_peer_suspends_only_the_mode_that_waits_for_it() -> None:
    slow = Slow("ack")
    slow.engine.set_rule_commit("service", 1, "emit")
    slow.open(1)
    slow.wait(50)
    assert slow.open(2) == [2]
    to_service = frames.udp(CLIENT, 9, OUTSIDE_VIP, 80)
    assert send(slow.engine, OUTSIDE, to_service, slow.now) == [], "it waits for write(2), which is not late"
    first, count, _ = slow.engine.drain()
    assert slow.engine.emitted(first + count - 1) == 1


def test_fail_closed_suspends_nothing_and_nothing_leaks() -> None:
    slow = Slow(fail_open=False)
    for port in range(1, 11):
        assert slow.open(port) == []
        assert slow.wait(50) == []
    assert slow.open(1) == []
    counters = slow.engine.counters()
    assert (counters["fail_closed_dropped"], counters["fail_open_released"]) == (10, 0)
    assert (counters["commit_suspensions"], counters["commit_suspended_now"]) == (0, 0)
    assert counters["sent_packets"] == 0


def test_when_nothing_is_held_any_more_nothing_is_suspended() -> None:
    slow = Slow()
    slow.open(1)
    slow.wait(50)
    slow.engine.set_commit("none", 0, True)
    assert not slow.suspended
    slow.engine.set_commit("ack", TIMEOUT, True)
    assert slow.open(2) == []
    assert slow.wait(50) == [2]
    slow.engine.disarm()
    assert not slow.suspended
