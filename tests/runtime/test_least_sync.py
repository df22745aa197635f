"""What differs is sent, and nothing else: real engines, real streams, and memory and wires that fail (sync.md §7)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hasyncd.core.types import LastSync
from hasyncd.pair_files import make_pair_files
from tests.native.least_sync import AT_STATE, FLOW_BYTES, Memory, add, install
from tests.runtime.pair import Member, loopback_addresses, members, synced_pair, until
from tests.runtime.wire import Wire

FLOWS = 2000


def same_tables(a: Member, b: Member) -> bool:
    return a.table == b.table and a.ready and b.ready


def last(member: Member) -> LastSync:
    sync = member.view.sync.last
    assert sync is not None
    return sync


@contextlib.asynccontextmanager
async def wired(directory: Path, **options: str | int) -> AsyncIterator[tuple[Member, Member, Wire]]:
    """Two nodes, not started, with a wire between them that fails when told to."""
    node_a, node_b, near, far = loopback_addresses(4)
    wire = Wire(node_a, node_b, near, far)
    await wire.open()
    try:
        async with members(directory, (node_a, near, node_b, far), **options) as (a, b):
            yield a, b, wire
    finally:
        await wire.close()


def memory_of(member: Member) -> Memory:
    """Where its flows lie; asked before it has any."""
    record = add(5, host=0x7070)
    install(member.engine, record)
    memory = Memory(member.engine, record)
    member.engine.reset(member.node.seed)
    return memory


def state_at(memory: Memory, slot: int) -> bytes:
    return memory._read(memory._first + slot * FLOW_BYTES + AT_STATE, 1)


async def start_pair(a: Member, b: Member, flows: int = FLOWS) -> None:
    a.start()
    b.start()
    await until(lambda: a.ready and b.ready, "the pair is ready")
    for index in range(flows):
        a.open_flow(index)
    await until(lambda: same_tables(a, b) and a.table[0] == flows, "every flow is on the backup")


async def test_one_flow_that_memory_changed_on_the_backup_is_repaired_by_its_bucket(tmp_path: Path) -> None:
    async with members(tmp_path, scrub_s=1) as (a, b):
        memory = memory_of(b)
        await start_pair(a, b)
        slot = next(slot for slot in range(16_384) if state_at(memory, slot) == b"\1")
        memory.write(slot, AT_STATE, b"\2")
        await until(lambda: "sync_repaired" in b.events, "found and repaired")
        await until(lambda: same_tables(a, b), "in step again")
        assert state_at(memory, slot) == b"\1"
        assert (last(b).kind, last(b).buckets, last(b).suspects, last(b).replaced) == ("least", 1024, 1, 1)
        assert last(a).flows_sent is not None
        assert 1 <= last(a).flows_sent <= 16
        assert last(a).refreshed == 0
        assert b.engine.counters()["scrub_mismatches"] == 1
        shown = a.report.build({})["sync"]
        assert shown["least_syncs"] == 1
        assert shown["last"].keys() == {
            "kind", "buckets", "suspects", "flows_sent", "refreshed", "added", "replaced", "removed", "duration_ms",
        }  # fmt: skip


async def test_memory_that_changed_on_the_primary_is_noticed_there(tmp_path: Path) -> None:
    async with members(tmp_path, scrub_s=1) as (a, b):
        memory = memory_of(a)
        await start_pair(a, b)
        slot = next(slot for slot in range(16_384) if state_at(memory, slot) == b"\1")
        memory.write(slot, AT_STATE, b"\2")
        await until(lambda: a.engine.counters()["scrub_mismatches"] == 1, "the scrub comes by")
        await until(
            lambda: b.view.sync.least_syncs == 1 and same_tables(a, b), "both have the primary's copy"
        )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_full_sync_that_is_cut_goes_on_where_it_stopped(tmp_path: Path, share: float) -> None:
    flows = 12_000
    async with wired(tmp_path, log_records=4096) as (a, b, wire):
        a.start()
        await until(lambda: a.view.solo, "a acts alone")
        for index in range(flows):
            a.open_flow(index)
        wire.cut_after = int(32 * flows * share)
        b.start()
        await until(lambda: wire.cut_after is None, "the stream is cut")
        await until(lambda: same_tables(a, b) and b.table[0] == flows, "the rest has come")
        assert last(a).kind == "least"
        assert last(a).flows_sent is not None
        assert last(a).flows_sent < flows * (1.1 - share)
        assert last(a).refreshed == 0
        assert a.view.sync.full_syncs == 1


async def test_a_switchover_and_back_sends_no_table(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(FLOWS):
            a.open_flow(index)
        await until(lambda: same_tables(a, b) and a.table[0] == FLOWS, "every flow is on the backup")
        for leader, follower in ((a, b), (b, a)):
            assert leader.shell.command_switchover(force=False)[0]
            await until(lambda: same_tables(a, b) and last(follower).kind == "least", "the roles have moved")  # noqa: B023
            assert (last(follower).suspects, last(follower).flows_sent) == (0, 0)
            assert last(follower).refreshed == FLOWS, "timeouts are told"


# --- a byte that is not what was sent ---------------------------------------------------------------------------


def lost(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 + 1 :]


def doubled(data: bytes) -> bytes:
    return data[: len(data) // 2 + 1] + data[len(data) // 2 :]


def changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@pytest.mark.parametrize("tamper", [lost, doubled, changed])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_a_byte_of_the_stream_that_is_not_what_was_sent_is_survived(
    tmp_path: Path, secured: bool, tamper: Callable[[bytes], bytes]
) -> None:
    if secured:
        make_pair_files(tmp_path / "keys", ("gw-a", "gw-b"))
    async with wired(tmp_path) as (a, b, wire):
        await start_pair(a, b, 200)
        for round_ in range(8):
            wire.tamper = tamper
            for index in range(1000 + 10 * round_, 1010 + 10 * round_):
                a.open_flow(index)
            await until(lambda: wire.tamper is None, "it is on its way")
            total = 210 + 10 * round_
            await until(lambda: same_tables(a, b) and b.table[0] == total, f"{tamper.__name__}, and healed")  # noqa: B023
        counted = b.shell.port_counters.get("rejected_unauthenticated", 0)
        assert (counted > 0) is secured
        if not secured:
            noticed = {*b.view.rejections, *a.view.rejections}
            assert noticed, "rejected by name, or found by the digest"
        assert a.view.sync.full_syncs == b.view.sync.full_syncs == 1, "nothing was sent that was there"
