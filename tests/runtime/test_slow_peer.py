"""A peer that stops reading its stream: forwarding goes on, and nothing grows past its bound (proto/sync.md §5.1)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hasyncd._native import OUTSIDE
from hasyncd.core.types import SyncState
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.pump import RECORDS_BYTES
from tests.native.frames import SYN, tcp
from tests.runtime.pair import SERVER, Member, loopback_addresses, synced_pair, until
from tests.runtime.wire import Wire

LOG_RECORDS = 2048
FRAMES_BYTES = RECORDS_BYTES + 4096
"""One frame of records, and what frames have around them."""


@pytest.mark.parametrize("commit", ["emit", "ack"])
async def test_a_peer_that_stops_reading_stops_nothing_and_costs_a_bounded_queue(
    tmp_path: Path, commit: str
) -> None:
    node_a, node_b, near, far = loopback_addresses(4)
    wire = Wire(node_a, node_b, near, far)
    await wire.open()
    try:
        addresses = (node_a, near, node_b, far)
        async with synced_pair(tmp_path, addresses, commit=commit, log_records=LOG_RECORDS) as (a, b):
            wire.stall_stream()
            stream, left, longest = a.shell._stream, 0, 0
            for opened in range(0, 6000, 200):
                for index in range(opened, opened + 200):
                    a.open_flow(index)
                longest = max(longest, stream.backlog if stream is not None else 0)

                def all_left(so_far: int = opened + 200) -> bool:
                    nonlocal left
                    left += len(a.left())
                    return left >= so_far

                await until(all_left, "every first packet has left")
                longest = max(longest, stream.backlog if stream is not None else 0)
                a.open_flow(0)
                assert len(a.left()) == 1, "a flow that is known waits for nobody"
            assert longest <= FRAMES_BYTES
            assert "log_overrun" in a.events
            assert a.view.sync.state is not SyncState.READY
            assert not a.view.commit_held, "a peer that does not follow is not waited for"
            wire.resume_stream()
            await until(lambda: a.ready and b.ready, "it has caught up")
            await until(lambda: a.table == b.table and a.table[0] == 6000, "every flow is there")
    finally:
        await wire.close()


@contextlib.asynccontextmanager
async def wired_pair(directory: Path, **options: str | int) -> AsyncIterator[tuple[Member, Member, Wire]]:
    """A ready pair and the wire between its nodes."""
    node_a, node_b, near, far = loopback_addresses(4)
    wire = Wire(node_a, node_b, near, far)
    await wire.open()
    try:
        async with synced_pair(directory, (node_a, near, node_b, far), **options) as (a, b):
            yield a, b, wire
    finally:
        await wire.close()


def sync_of(member: Member) -> dict[str, object]:
    sync: dict[str, object] = member.report.build({})["sync"]
    return sync


async def test_only_the_first_flow_waits_for_a_peer_that_does_not_answer(tmp_path: Path) -> None:
    async with wired_pair(tmp_path) as (a, b, wire):
        wire.stall_stream()
        a.open_flow(0)
        assert a.left() == []
        await until(a.left, "the first has waited for its time")
        assert sync_of(a)["commit_suspended"] is True
        assert sync_of(a)["commit"] == "ack", "as configured"
        for index in range(1, 50):
            a.open_flow(index)
            assert len(a.left()) == 1, "none of the others waits"
        assert sync_of(a)["at_risk_flows"] == sync_of(a)["fail_open_released"] == 50
        await until(lambda: "commit_suspended" in a.events, "it is told")
        wire.resume_stream()
        await until(lambda: sync_of(a)["commit_suspended"] is False, "the peer has caught up")
        await until(lambda: "commit_resumed" in a.events, "it is told")
        await until(lambda: sync_of(a)["at_risk_flows"] == 0, "and has confirmed them all")
        a.open_flow(50)
        assert a.left() == [], "new flows wait for it again"
        await until(a.left, "and it answers")
        assert sync_of(a)["fail_open_released"] == 50
        assert b.table == a.table


async def test_under_fail_closed_nothing_leaks_to_a_peer_that_does_not_answer(tmp_path: Path) -> None:
    async with wired_pair(tmp_path, on_commit_timeout="fail_closed") as (a, _, wire):
        wire.stall_stream()
        for index in range(50):
            a.open_flow(index)
        await until(lambda: a.engine.counters()["fail_closed_dropped"] == 50, "all have waited in vain")
        a.open_flow(50)
        assert a.left() == []
        assert sync_of(a)["commit_suspended"] is False
        wire.resume_stream()
        await until(lambda: sync_of(a)["at_risk_flows"] == 0, "the peer has caught up")
        left = a.left()
        assert len(left) <= 1, "the last one, if it was in time"
        for index in range(50):
            a.open_flow(index)
        assert len(a.left()) == 50, "they are confirmed: their next packets pass"
        assert sync_of(a)["fail_open_released"] == 0


async def test_a_rule_that_emits_is_not_slowed_by_one_that_waits(tmp_path: Path) -> None:
    async with wired_pair(tmp_path, nat_options='commit = "emit"') as (a, _, wire):
        wire.stall_stream()
        a.engine.inject(OUTSIDE, tcp(SERVER, 5000, "203.0.113.5", 80, SYN), now_ns())
        for index in range(20):
            a.open_flow(index)
            assert len(a.left()) == 1, "written is enough"
        assert a.engine.counters()["held_packets_now"] == 1, "the service's flow waits for the ACK"
        wire.resume_stream()
        await until(a.left, "and gets it")
