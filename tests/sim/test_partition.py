"""What happens to the pair when it sleeps, when wires are cut and when a machine is unfit."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role
from tests.sim.checkers import check_converged
from tests.sim.scenes import (
    SILENCE_MS,
    A,
    B,
    a_ready_pair,
    becomes_primary,
    events,
    ready,
)
from tests.sim.simulator import World

# --- sleep -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asleep_ms", [90, 160, 300, 5000])
def test_a_backup_that_slept_does_not_judge_its_peer(asleep_ms: float) -> None:
    world = a_ready_pair()
    world.pause(B)
    world.run_ms(asleep_ms)
    world.resume(B)
    world.run_ms(1000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    assert world.shells[A].node.generation == 1


def test_a_backup_that_wakes_up_to_an_old_offer_does_not_take_it() -> None:
    """The old primary has handed over, was not answered, and serves again."""
    world = a_ready_pair()
    shell = world.shells[A]
    shell.perform(shell.node.command_switchover(False, shell.now())[2])
    world.pause(B)
    world.run_until(lambda: shell.role is Role.BACKUP, 100, "it has said LEAVING")
    _, report = becomes_primary(world, A, 1000)
    assert report.generation == 3, "2 was offered to the peer"
    world.resume(B)
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert [s.role for s in world.shells] == [Role.PRIMARY, Role.BACKUP]


def test_a_primary_that_slept_too_long_wakes_up_disarmed_and_steps_down() -> None:
    world = a_ready_pair()
    world.pause(A)
    took, _ = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2
    world.run_ms(2000)
    assert not world.shells[A].armed, "its lease has run out in its sleep"
    world.resume(A)
    world.run_ms(5)
    assert world.shells[A].role is Role.BACKUP
    world.run_until(lambda: ready(world), 3000, "it follows")


def test_a_solo_primary_that_slept_listens_before_it_arms_again() -> None:
    world = World(1)
    world.boot(A)
    becomes_primary(world, A, 1000)
    world.run_ms(500)
    world.pause(A)
    world.run_ms(2000)
    world.resume(A)
    assert not world.shells[A].armed
    took, _ = becomes_primary(world, A, 1000)
    assert SILENCE_MS <= took <= SILENCE_MS + 2
    assert world.shells[A].node.generation == 1


# --- cut wires ---------------------------------------------------------------------------------------


def test_a_cut_of_every_path_makes_two_primaries_and_healing_leaves_the_newer() -> None:
    world = a_ready_pair()
    world.cut()
    becomes_primary(world, B, 1000)
    world.run_ms(2000)
    assert all(shell.armed for shell in world.shells), "prefer = availability (proto/pair.md §7)"
    world.heal()
    world.run_until(lambda: world.shells[A].role is Role.BACKUP, 60, "the lower rank disarms")
    assert not world.shells[A].armed
    world.run_until(lambda: ready(world), 3000, "and is synchronised anew")
    world.traffic = False
    world.run_ms(300)
    assert check_converged(world) is None


def test_a_node_that_booted_alone_does_not_outrank_the_one_that_serves() -> None:
    """It has taken higher numbers than its peer, boot after boot, and holds nothing that is the pair's."""
    world = a_ready_pair()
    world.traffic = False
    flows = set(world.shells[A].table.keys)
    world.kill(B)
    world.cut()
    for _ in range(3):
        world.boot(B)
        becomes_primary(world, B, 1000)
        world.kill(B)
    world.boot(B)
    becomes_primary(world, B, 1000)
    world.run_ms(500)
    assert world.shells[B].node.generation > world.shells[A].node.generation
    world.heal()
    world.run_until(lambda: world.shells[B].role is Role.BACKUP, 60, "the younger history disarms")
    assert world.shells[A].role is Role.PRIMARY
    world.run_until(lambda: ready(world), 3000, "and is synchronised anew")
    assert world.shells[A].node.generation == world.shells[B].node.generation == 5, "no number is used twice"
    assert flows
    assert flows <= world.shells[A].table.keys
    world.run_ms(300)
    assert check_converged(world) is None


def test_a_history_that_a_backup_has_had_is_young_no_more() -> None:
    """The first boot of a pair: whoever was first is not outranked for it later."""
    world = a_ready_pair()
    world.cut()
    becomes_primary(world, B, 1000)
    world.heal()
    world.run_until(lambda: world.shells[A].role is Role.BACKUP, 60, "both are old: the number decides")


def test_two_that_booted_apart_are_ranked_by_number() -> None:
    world = World(1)
    world.cut()
    for index in (A, B):
        world.boot(index)
        becomes_primary(world, index, 1000)
    world.kill(B)
    world.boot(B)
    becomes_primary(world, B, 1000)
    world.heal()
    world.run_until(
        lambda: world.shells[A].role is Role.BACKUP, 60, "both are young, and B's number is higher"
    )
    world.run_until(lambda: ready(world), 3000, "whole")


def test_with_prefer_safety_a_cut_never_makes_two_primaries() -> None:
    world = a_ready_pair(prefer="safety")
    world.cut()
    world.run_ms(3000)
    assert not any(shell.armed for shell in world.shells), "safety: the lease ends, nobody is sure"
    assert events(world.shells[B], "peer_silent")
    world.heal()
    world.run_until(lambda: world.shells[A].armed, 1000, "the primary hears its echo again")
    world.run_until(lambda: ready(world), 5000, "whole again")


def test_a_primary_nobody_hears_disarms_before_its_backup_promotes() -> None:
    """One-way loss: the primary hears its backup, the backup does not hear the primary."""
    world = a_ready_pair()
    world.cut(A)
    gap_began = None
    while world.shells[B].role is not Role.PRIMARY:
        world.run_ms(1)
        if gap_began is None and not world.shells[A].armed:
            gap_began = world.now_ns
        assert world.shells[A].armed or not world.shells[B].armed or gap_began is not None
    assert gap_began is not None, "P3: the lease had ended before"
    world.run_ms(5)
    assert world.shells[A].role is Role.BACKUP, "it hears the higher generation"


def test_a_backup_nobody_hears_stays_backup() -> None:
    world = a_ready_pair()
    world.cut(B)
    world.run_ms(2000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    assert world.shells[A].armed
    assert world.shells[A].node.view(world.shells[A].now()).solo


# --- faults ------------------------------------------------------------------------------------------


def test_a_primary_in_fault_disarms_and_says_so_and_its_peer_takes_over() -> None:
    world = a_ready_pair()
    shell = world.shells[A]
    shell.perform(shell.node.receive_fault("inside: link down", shell.now()))
    assert not shell.armed
    took, _ = becomes_primary(world, B, 100)
    assert took < 5
    world.run_ms(1000)
    shell.perform(shell.node.clear_fault(shell.now()))
    world.run_until(lambda: ready(world), 3000, "it is fit again and follows")


def test_a_generation_that_cannot_be_written_ends_the_promotion() -> None:
    world = a_ready_pair()
    backup = world.shells[B]
    backup.write_fails = True
    world.kill(A)
    world.run_ms(1000)
    assert backup.role is Role.FAULT
    assert not any(shell.armed for shell in world.shells)
    assert not [report for report in backup.reports if report.role is Role.PRIMARY]
