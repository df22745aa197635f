"""What is sent to make two tables equal, one story at a time: never more than what differs (proto/sync.md §7)."""

from __future__ import annotations

import pytest

from hasyncd.core.effects import StartSnapshot
from hasyncd.core.types import LastSync, Role, SyncState
from tests.sim import memory
from tests.sim.checkers import check_converged
from tests.sim.options import Options
from tests.sim.scenes import (
    BIG,
    A,
    B,
    a_big_pair,
    a_ready_pair,
    becomes_primary,
    events,
    last_sync,
    open_flows,
    ready,
    state,
    syncs,
)
from tests.sim.simulator import World


def repaired(world: World, within_ms: float = 3000) -> LastSync:
    """The pair is whole again; what the sync was."""
    world.run_until(lambda: ready(world) and check_converged(world) is None, within_ms, "repaired")
    last = last_sync(world)
    assert last is not None
    return last


# --- drift --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "found"),
    [
        (memory.change_state, "1 flows replaced, 0 added, 0 removed"),
        (memory.change_key, "1 flows replaced, 0 added, 0 removed"),
        (memory.change_version, "1 flows replaced, 0 added, 0 removed"),
        (memory.lose, "0 flows replaced, 1 added, 0 removed"),
        (memory.make, "0 flows replaced, 0 added, 1 removed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_flow_that_memory_changed_is_repaired_by_its_bucket(way: object, found: str) -> None:
    world = a_big_pair()
    backup = world.shells[B]
    before = syncs(world)
    way(backup.table, world.rng)  # type: ignore[operator]
    world.run_until(lambda: bool(events(backup, "drift")), 1000, "two digests in a row differ")
    last = repaired(world)
    assert (last.kind, last.buckets, last.suspects, last.refreshed) == ("least", 100, 1, 0)
    assert last.flows_sent is not None
    assert last.flows_sent <= 16
    assert [event.detail for event in events(backup, "sync_repaired")] == [
        f"1 of 100 buckets differed: {found}"
    ]
    assert syncs(world) == before + 1
    assert backup.table.scrub_mismatches == 1


def test_every_flow_changed_is_repaired_too() -> None:
    world = a_big_pair()
    for flow in world.shells[B].table.flows.values():
        flow.state = flow.state % 9 + 1
    last = repaired(world)
    assert (last.kind, last.suspects, last.flows_sent) == ("least", 100, 800)


def test_memory_that_changes_on_the_primary_is_what_both_have_in_the_end() -> None:
    world = a_big_pair()
    primary = world.shells[A]
    memory.change_state(primary.table, world.rng)
    last = repaired(world)
    assert (last.kind, last.suspects) == ("least", 1)
    assert primary.table.scrub_mismatches == 1, "this is what an operator hears of"


def test_a_record_that_does_not_fit_begins_a_comparison_and_not_everything() -> None:
    world = a_big_pair()
    primary, backup = world.shells[A], world.shells[B]
    slot = min(primary.table.flows)
    backup.table.flows[slot].version += 1
    primary.table.update_flow(slot)
    primary.input(lambda now: [])
    world.run_until(lambda: bool(events(backup, "stream_rejected")), 1000, "rejected by name")
    assert events(backup, "stream_rejected")[0].detail == "unknown_handle"
    last = repaired(world)
    assert (last.kind, last.suspects) == ("least", 1)
    assert last.refreshed == 800 - (last.flows_sent or 0), "its history does not go on"


# --- streams that break -------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_full_sync_that_breaks_goes_on_where_it_stopped(percent: int) -> None:
    world = World(2, Options(**BIG))
    world.boot(A)
    becomes_primary(world, A, 1000)
    open_flows(world, 800)
    world.boot(B)
    primary, backup = world.shells[A], world.shells[B]
    there = 800 * percent // 100
    world.run_until(lambda: len(backup.table.flows) >= there, 3000, f"{there} flows are there")
    assert state(backup) is SyncState.SYNCING
    world.break_stream()
    last = repaired(world)
    assert last.kind == "least"
    assert primary.table.flows_sent + there <= 800 + 16, "what was installed is not sent again"
    assert last.refreshed == 0, "what is there came by this very log"


def test_a_sync_broken_again_and_again_comes_to_an_end() -> None:
    world = World(4, Options(**BIG))
    world.boot(A)
    becomes_primary(world, A, 1000)
    open_flows(world, 800)
    world.boot(B)
    backup, held = world.shells[B], 0
    for _ in range(8):
        world.run_until(lambda held=held: len(backup.table.flows) >= held + 80, 3000, "eighty more")  # type: ignore[misc]
        held = len(backup.table.flows)
        world.break_stream()
    repaired(world)
    assert world.shells[A].node.view(0).sync.full_syncs == 1


def test_a_stream_that_breaks_in_step_sends_no_table() -> None:
    world = a_big_pair()
    before = syncs(world)
    for _ in range(5):
        world.break_stream()
        world.run_until(lambda: not ready(world), 200, "it is missed")
        assert repaired(world).kind == "resume"
    assert syncs(world) == before


def test_a_break_of_a_repair_owes_the_refreshes_that_were_not_sent() -> None:
    """After a switchover the history is another one; the first stream breaks before its cursor is through."""
    world = a_big_pair()
    switch_over(world, A, wait=False)
    primary = world.shells[B]
    world.run_until(lambda: primary.table.refreshed > 100, 3000, "some of the refreshes are on their way")
    world.break_stream()
    last = repaired(world)
    assert last.kind == "least"
    assert last.suspects == 0
    assert last.refreshed == 800


# --- switching over, splitting, overrunning ---------------------------------------------------------------------


def switch_over(world: World, index: int, *, wait: bool = True) -> None:
    shell = world.shells[index]
    shell.input(lambda now: shell.node.command_switchover(False, now)[2])
    world.run_until(lambda: world.shells[1 - index].role is Role.PRIMARY, 1000, "handed over")
    if wait:
        world.run_until(lambda: ready(world), 3000, "and whole")


def test_a_switchover_and_back_sends_no_table() -> None:
    world = a_big_pair()
    for index in (A, B, A, B):
        switch_over(world, index)
        last = repaired(world)
        assert (last.kind, last.suspects, last.flows_sent) == ("least", 0, 0)
        assert last.refreshed == 800, "timeouts are told"
    assert events(world.shells[A], "sync_compared")


def test_a_killed_node_that_returns_is_given_everything_once() -> None:
    world = a_big_pair()
    world.kill(A)
    becomes_primary(world, B, 1000)
    world.boot(A)
    last = repaired(world)
    assert (last.kind, last.suspects, last.flows_sent) == ("full", 100, 800)


def test_a_split_that_heals_sends_what_differs() -> None:
    world = a_big_pair()
    world.cut()
    becomes_primary(world, B, 1000)
    for index, key in ((A, 100_001), (B, 200_001)):
        world.shells[index].table.open_flow(key)
        world.shells[index].table.close_flow(min(world.shells[index].table.flows))
    world.heal()
    last = repaired(world, 5000)
    assert last.kind == "least"
    assert last.suspects is not None
    assert last.suspects <= 4
    assert world.shells[B].role is Role.PRIMARY


def test_a_log_that_is_overrun_sends_what_differs() -> None:
    world = a_big_pair(log_records=64)
    table = world.shells[A].table
    world.stop_reading(B)
    world.shells[A].input(lambda now: [])
    for slot in sorted(table.flows)[:30]:
        for _ in range(8):
            table.update_flow(slot)
    world.run_until(lambda: bool(events(world.shells[A], "log_overrun")), 1000, "the log is overrun")
    world.read_again(B)
    last = repaired(world, 5000)
    assert last.kind == "least"
    assert last.suspects is not None
    assert last.suspects <= 30
    assert world.shells[A].node.view(0).sync.full_syncs == 1, "the first one"


def test_a_slow_backup_is_caught_up_with_however_often_the_log_is_overrun() -> None:
    world = a_ready_pair(capacity=400, log_records=64, flow_interval_ns=500_000, window=40)
    for _ in range(5):
        world.stop_reading(B)
        world.run_ms(400)
        world.read_again(B)
        world.run_ms(1500)
    world.traffic = False
    repaired(world, 10_000)
    assert world.shells[A].node.view(0).sync.full_syncs == 1


# --- operators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [A, B])
def test_resync_compares_and_finds_nothing_where_nothing_differs(index: int) -> None:
    world = a_big_pair()
    assert world.resync(index)
    world.run_until(lambda: not ready(world), 200, "begun")
    last = repaired(world)
    assert (last.kind, last.suspects, last.flows_sent, last.refreshed) == ("least", 0, 0, 0)
    assert [event.detail for event in events(world.shells[B], "sync_compared")] == [
        "none of 100 buckets differed"
    ]


@pytest.mark.parametrize("index", [A, B])
def test_resync_full_sends_everything(index: int) -> None:
    world = a_big_pair()
    assert world.resync(index, full=True)
    world.run_until(lambda: not ready(world), 200, "begun")
    last = repaired(world)
    assert (last.kind, last.flows_sent) == ("full", 800)
    world.resync(index)
    world.run_until(lambda: not ready(world), 200, "begun")
    assert repaired(world).kind == "least", "it was asked for once"


# --- when the comparison itself cannot be trusted ---------------------------------------------------------------


def test_a_sync_that_ends_in_a_mismatch_is_followed_by_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The primary's comparison is blind: drift, a least sync that repairs nothing, and then every flow."""
    world = a_big_pair()
    primary, backup = world.shells[A], world.shells[B]
    compare = primary.table.compare_buckets
    monkeypatch.setattr(primary.table, "compare_buckets", lambda digests: bytes(len(compare(digests))))
    memory.change_state(backup.table, world.rng)
    last = repaired(world)
    assert (last.kind, last.flows_sent) == ("full", 800)
    told = [event.detail for event in events(backup, "stream_rejected")]
    assert told == ["full_sync_mismatch"]
    assert primary.node.view(0).sync.least_syncs == 1


# --- faults and what each may cost --------------------------------------------------------------------------------


FAULTS = {
    "memory": lambda world: world.corrupt(B),
    "break": lambda world: world.break_stream(),
    "cut": lambda world: (world.cut(A, B), world.run_ms(60), world.heal()),
    "pause": lambda world: (world.pause(B), world.run_ms(60), world.resume(B)),
    "lost": lambda world: world.mangle("lost"),
    "doubled": lambda world: world.mangle("doubled"),
    "changed": lambda world: world.mangle("changed"),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_costs_two_syncs_at_most_and_never_everything(fault: str, seed: int) -> None:
    world = a_ready_pair(seed + 10, capacity=400, flow_interval_ns=2_000_000)
    before, full = syncs(world), world.shells[A].node.view(0).sync.full_syncs
    FAULTS[fault](world)
    world.run_ms(6000)
    world.traffic = False
    world.run_until(lambda: check_converged(world) is None, 8000, "healed")
    assert syncs(world) <= before + 2
    assert world.shells[A].node.view(0).sync.full_syncs == full


@pytest.mark.parametrize("way", ["lost", "doubled", "changed"])
@pytest.mark.parametrize("seed", range(40))
def test_a_byte_of_a_sync_that_is_not_what_was_sent_is_survived(way: str, seed: int) -> None:
    """Anywhere from HELLO to SYNC_END, in the quiet, so that nothing but the pair itself brings it to light."""
    world = World(seed, Options(capacity=160, flow_interval_ns=0))
    world.boot(A)
    becomes_primary(world, A, 1000)
    open_flows(world, 60)
    world.boot(B)
    world.at(world.rng.randint(0, 60_000_000), lambda: world.mangle(way))
    world.run_ms(60)
    world.run_until(lambda: check_converged(world) is None, 20_000, "healed")
    if world.network.mangling is None:
        world.run_ms(4000)
    assert check_converged(world) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_last_byte_before_a_long_silence_is_missed(seed: int) -> None:
    """One record, and a byte of its frame is lost: no later byte would show it (S4a)."""
    world = a_big_pair(100)
    world.rng.seed(seed)
    world.mangle("lost")
    world.shells[A].table.open_flow(900_001)
    world.shells[A].input(lambda now: [])
    world.run_until(lambda: not ready(world), 6000, "it is noticed")
    world.run_until(lambda: check_converged(world) is None, 3000, "healed")


def test_a_snapshot_of_the_transcript_names_what_is_sent() -> None:
    """The story that a failure prints tells which kind of sync ran."""
    from tests.sim.shell import describe

    assert describe(StartSnapshot(5, 9, b"\x03", refresh=True)) == "StartSnapshot 5, suspects 03, refresh"
    assert describe(StartSnapshot(5, 9)) == "StartSnapshot 5, everything"
