"""What happens to the pair when a process goes, comes or is told to, one story at a time."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role, SyncState
from tests.sim.checkers import check_converged
from tests.sim.options import Options
from tests.sim.scenes import (
    PROBE_MS,
    SILENCE_MS,
    A,
    B,
    a_ready_pair,
    becomes_primary,
    events,
    last_sync,
    ready,
    state,
    syncs,
)
from tests.sim.simulator import World

# --- coming up ---------------------------------------------------------------------------------------


def test_of_two_that_boot_together_the_higher_priority_becomes_primary() -> None:
    world = a_ready_pair()
    assert world.shells[A].reports[0].reason == "listen ended, peer in `init` of lower rank"
    assert [shell.node.generation for shell in world.shells] == [1, 1]
    assert world.shells[A].announced >= 2, "the announcement and the first cars of its train"


def test_of_two_that_boot_together_the_longer_history_beats_the_priority() -> None:
    world = World(1, Options(generations=(3, 8)))
    world.boot(A)
    world.boot(B)
    took, report = becomes_primary(world, B, 1000)
    assert report.generation == 9
    assert took < 400


def test_equal_rank_is_decided_by_name() -> None:
    world = World(1, Options(priorities=(100, 100)))
    world.boot(A)
    world.boot(B)
    becomes_primary(world, B, 1000)


def test_a_node_alone_acts_alone_after_listening() -> None:
    world = World(1)
    world.boot(B)
    took, report = becomes_primary(world, B, 1000)
    # dead_after + (255 - 100) / 255 x dead_after, then a question on the LANs
    assert 241 + PROBE_MS <= took <= 242 + PROBE_MS
    assert report.certificate is None, "nothing was taken over"
    assert world.shells[B].node.view(world.shells[B].now()).solo


def test_with_prefer_safety_a_node_alone_waits_for_an_operator() -> None:
    world = World(1, Options(prefer="safety"))
    world.boot(A)
    world.run_ms(3000)
    assert world.shells[A].role is Role.INIT
    world.forced = True
    accepted, _, effects = world.shells[A].node.command_switchover(True, world.shells[A].now())
    world.shells[A].perform(effects)
    assert accepted
    assert world.shells[A].armed


# --- the primary goes --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_primary_is_replaced_in_a_few_ms_by_the_evidence_of_its_death(seed: int) -> None:
    world = a_ready_pair(seed)
    world.kill(A)
    took, report = becomes_primary(world, B, 100)
    assert took < 12, "a round trip or two and a few attempts at the port"
    assert report.reason == "the primary's process is dead"
    certificate = report.certificate
    assert certificate is not None
    assert certificate.digest == "match"
    assert (certificate.generation, report.generation) == (1, 2)


def test_a_primary_that_loses_power_is_replaced_after_dead_after() -> None:
    world = a_ready_pair()
    world.kill(A, power=True)
    took, report = becomes_primary(world, B, 1000)
    assert SILENCE_MS - 51 < took <= SILENCE_MS + 2
    assert report.reason.startswith("the primary is silent")


def test_a_primary_killed_in_the_middle_of_a_full_sync_is_replaced_loudly() -> None:
    world = World(3, Options(capacity=400, flow_interval_ns=200_000))
    world.boot(A)
    world.run_ms(600)
    world.boot(B)
    world.run_until(lambda: len(world.shells[B].table.flows) >= 100, 1000, "a part of the full sync is there")
    assert state(world.shells[B]) is SyncState.SYNCING
    world.kill(A)
    _, report = becomes_primary(world, B, 1000)
    assert report.certificate is not None
    certificate = report.certificate
    assert not certificate.complete
    assert certificate.flows_missing is not None
    assert certificate.flows_missing_is == "at_most"
    really = len(world.shells[A].table.keys - world.shells[B].table.keys)
    assert 0 < really <= certificate.flows_missing < 400, "what has come already is not missing"
    assert [event.name for event in world.shells[B].events if "incomplete" in event.name] == [
        "promoted_incomplete"
    ]


def test_the_killed_node_returns_as_backup_and_the_second_kill_loses_nothing_either() -> None:
    world = a_ready_pair()
    world.kill(A)
    becomes_primary(world, B, 100)
    world.run_ms(500)
    world.boot(A)
    world.run_until(lambda: ready(world), 3000, "the returned node is a ready backup")
    assert world.shells[A].role is Role.BACKUP, "no preemption, whatever the priority"
    world.run_ms(500)
    world.kill(B)
    took, report = becomes_primary(world, A, 100)
    assert took < 12
    assert report.generation == 3
    assert report.certificate is not None
    assert report.certificate.complete
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "whole again")


def test_a_primary_that_restarts_before_it_is_missed_comes_back_as_backup() -> None:
    """Its stream cannot tell (the wire is cut for a moment); its heartbeat as `init` does."""
    world = a_ready_pair()
    world.cut()
    world.kill(A)
    world.boot(A)
    world.run_ms(60)
    world.heal()
    _, report = becomes_primary(world, B, 100)
    assert report.reason in ("the peer has started anew", "the primary's process is dead")
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert world.shells[A].role is Role.BACKUP


def test_without_sync_the_roles_still_move() -> None:
    world = World(1, Options(sync=False))
    world.boot(A)
    world.boot(B)
    world.run_ms(500)
    assert state(world.shells[A]) is SyncState.NONE
    world.kill(A)
    took, _ = becomes_primary(world, B, 1000)
    assert took > 12, "no stream, no evidence: the timer decides"


# --- the backup goes ---------------------------------------------------------------------------------


def test_a_killed_backup_leaves_the_primary_armed_without_a_gap() -> None:
    world = a_ready_pair()
    world.kill(B)
    for _ in range(400):
        world.run_ms(1)
        assert world.shells[A].armed
    view = world.shells[A].node.view(world.shells[A].now())
    assert view.solo
    assert not view.commit_held


def test_a_backup_that_comes_back_is_paired_again_with_its_first_echo() -> None:
    world = a_ready_pair()
    world.kill(B, power=True)
    world.run_ms(1000)
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "paired")
    assert not world.shells[A].node.view(world.shells[A].now()).solo


# --- generations, resuming and drift --------------------------------------------------------------------


def test_a_backup_with_another_generation_is_never_given_deltas_alone() -> None:
    world = a_ready_pair()
    shell = world.shells[A]
    before = syncs(world)
    accepted, _, effects = shell.node.command_switchover(False, shell.now())
    assert accepted
    shell.perform(effects)
    world.run_until(lambda: ready(world) and world.shells[B].role is Role.PRIMARY, 3000, "handed over")
    assert syncs(world) == before + 1, "the old primary holds every flow, but of generation 1"
    last = last_sync(world)
    assert last is not None
    assert last.kind == "least"


def test_a_broken_stream_is_resumed_without_a_sync() -> None:
    world = a_ready_pair()
    before = syncs(world)
    for _ in range(3):
        world.break_stream()
        world.run_until(lambda: not ready(world), 100, "it is missed")
        world.run_until(lambda: ready(world), 3000, "and resumed")
        world.run_ms(1500)
    assert syncs(world) == before
    world.traffic = False
    world.run_ms(200)
    assert check_converged(world) is None


def test_a_stream_that_was_away_longer_than_the_log_reaches_is_given_what_differs() -> None:
    world = a_ready_pair(log_records=64, flow_interval_ns=200_000)
    before = syncs(world)
    world.break_stream()
    world.shells[A].connecting += 1000
    world.run_ms(60)
    world.run_until(lambda: ready(world), 5000, "whole again")
    assert syncs(world) > before
    assert world.shells[A].node.view(world.shells[A].now()).sync.full_syncs == 1


def test_a_table_that_drifts_is_noticed_and_repaired() -> None:
    world = a_ready_pair()
    world.traffic = False
    world.run_ms(100)
    backup = world.shells[B]
    backup.table.close_flow(next(iter(backup.table.flows)))
    world.run_until(lambda: bool(events(backup, "drift")), 1000, "two digests in a row differ")
    world.run_until(lambda: check_converged(world) is None, 3000, "repaired")


def test_a_returned_node_with_a_higher_generation_lifts_its_primary_to_it() -> None:
    """A wiped node served alone; the peer with the longer history comes back and is not refused for ever."""
    world = World(1, Options(generations=(0, 9)))
    world.boot(A)
    becomes_primary(world, A, 1000)
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "paired")
    assert [shell.durable_generation for shell in world.shells] == [9, 9]
    world.kill(A)
    _, report = becomes_primary(world, B, 100)
    assert report.generation == 10


# --- operators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_switchover_loses_no_flow_and_the_old_primary_does_not_come_back_by_itself(seed: int) -> None:
    world = a_ready_pair(seed)
    shell = world.shells[A]
    accepted, _, effects = shell.node.command_switchover(False, shell.now())
    shell.perform(effects)
    assert accepted
    took, report = becomes_primary(world, B, 100)
    assert took < 25, "the flush, and a trip"
    assert report.reason == "the primary handed over"
    assert report.certificate is not None
    assert report.certificate.complete
    world.run_ms(3000)
    assert [s.role for s in world.shells] == [Role.BACKUP, Role.PRIMARY]
    assert not shell.node.view(shell.now()).leaving


def test_a_switchover_works_when_the_leaving_frame_is_lost() -> None:
    world = a_ready_pair()
    shell = world.shells[A]
    _, _, effects = shell.node.command_switchover(False, shell.now())
    shell.perform(effects)
    world.run_until(lambda: shell.role is Role.BACKUP, 100, "flushed, and said")
    for stream in world.network.streams:
        stream.in_flight[A].clear()
    took, report = becomes_primary(world, B, 1000)
    assert took < 60, "the heartbeat's flag says the same"
    assert report.reason == "the primary has left"


def test_a_switchover_is_refused_while_the_peer_is_not_ready() -> None:
    world = World(1)
    world.boot(A)
    becomes_primary(world, A, 1000)
    shell = world.shells[A]
    accepted, message, effects = shell.node.command_switchover(False, shell.now())
    assert not accepted
    assert "not ready" in message
    shell.perform(effects)
    assert shell.armed


def test_a_switchover_whose_stream_breaks_is_taken_back() -> None:
    world = a_ready_pair()
    shell = world.shells[A]
    node = shell.node
    _, _, effects = node.command_switchover(False, shell.now())
    shell.perform(effects[:1])  # disarmed; the log was not flushed yet
    assert not shell.armed
    world.break_stream()
    world.run_until(lambda: shell.armed, 1000, "armed again")
    assert events(shell, "switchover_aborted")
    world.run_until(lambda: ready(world), 3000, "and its peer is ready again")
    assert shell.role is Role.PRIMARY


def test_sigterm_hands_over_and_then_stops() -> None:
    world = a_ready_pair()
    world.shells[A].perform(world.shells[A].node.command_stop(world.shells[A].now()))
    _, report = becomes_primary(world, B, 100)
    assert report.certificate is not None
    assert report.certificate.complete
    world.run_until(lambda: not world.shells[A].running, 1000, "the old primary stops")
    world.run_ms(1000)
    assert world.shells[B].armed


def test_sigterm_of_a_backup_makes_the_primary_solo_at_once() -> None:
    world = a_ready_pair()
    world.shells[B].perform(world.shells[B].node.command_stop(world.shells[B].now()))
    view = world.shells[A].node.view
    world.run_until(lambda: view(world.shells[A].now()).solo, 5, "solo")


def test_force_on_the_backup_takes_over_from_a_living_primary() -> None:
    world = a_ready_pair()
    world.forced = True
    backup = world.shells[B]
    assert not backup.node.command_switchover(False, backup.now())[0]
    accepted, _, effects = backup.node.command_switchover(True, backup.now())
    assert accepted
    # Two are armed until the other hears it: that is what an operator forces.
    world.network.links[A].last_row_ns = world.now_ns
    for links in world.network.lans.values():
        links[A].last_row_ns = world.now_ns
    backup.perform(effects)
    world.run_until(lambda: world.shells[A].role is Role.BACKUP, 10, "it steps down")
    world.run_until(lambda: ready(world), 3000, "and follows")


# --- dying in the middle -----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(6))
def test_a_promotion_that_dies_after_any_step_never_lends_its_generation_twice(steps: int) -> None:
    """proto/pair.md §4: crash after step k, boot both again; whoever arms next has a generation of its own."""
    world = a_ready_pair()
    backup = world.shells[B]
    backup.dies_in_promotion_after = steps
    armed_in = {1: "gw-a"}
    world.kill(A)
    world.run_until(lambda: not backup.running, 1000, "the promotion dies in its middle")
    if backup.last_armed_generation:
        armed_in[backup.last_armed_generation] = "gw-b"
    assert backup.durable_generation in (1, 2)
    world.boot(A)
    world.run_ms(10)
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "whole again")
    for shell in world.shells:
        if shell.last_armed_generation:
            assert armed_in.setdefault(shell.last_armed_generation, shell.name) == shell.name
    assert world.shells[A].durable_generation == world.shells[B].durable_generation
