"""A peer that stops reading its stream: forwarding goes on, and nothing grows past its bound (proto/sync.md §5.1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasyncd.core.types import SyncState
from hasyncd.runtime.pump import RECORDS_BYTES
from tests.runtime.pair import loopback_addresses, synced_pair, until
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
