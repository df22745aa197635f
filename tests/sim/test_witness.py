"""A third party decides who acts alone on silence (proto/pair.md §7b). `OneArmed` watches every run."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role, WitnessView
from tests.sim.options import Options
from tests.sim.scenes import SILENCE_MS, A, B, a_ready_pair, becomes_primary, events, ready
from tests.sim.simulator import World

BOTH = pytest.mark.parametrize("prefer", ["safety", "availability"])


def a_watched_pair(seed: int = 1, prefer: str = "safety", **options: object) -> World:
    return a_ready_pair(seed, witness=True, prefer=prefer, **options)


def view(world: World, index: int) -> WitnessView:
    shell = world.shells[index]
    seen = shell.node.view(shell.now()).witness
    assert seen is not None
    return seen


def roles(world: World) -> list[Role]:
    return [shell.role for shell in world.shells]


def armed(world: World) -> list[bool]:
    return [shell.armed for shell in world.shells]


# --- the pair is cut apart -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("seed", range(10))
def test_a_cut_of_everything_between_the_two_leaves_one_armed_the_one_that_was(
    seed: int, prefer: str
) -> None:
    world = a_watched_pair(seed, prefer)
    world.run_ms(seed * 13)
    world.cut()
    world.run_ms(3000)
    assert armed(world) == [True, False]
    assert [shell.node.generation for shell in world.shells] == [1, 1]
    assert [event.detail for event in events(world.shells[B], "witness_refused")] == [
        "gw-a acts alone in generation 1"
    ], "said once"
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert roles(world) == [Role.PRIMARY, Role.BACKUP]


@pytest.mark.parametrize("seed", range(10))
def test_a_primary_cut_from_everybody_mutes_and_is_replaced(seed: int) -> None:
    world = a_watched_pair(seed)
    world.run_ms(seed * 13)
    world.cut()
    world.cut_from_witness(A)
    took, report = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2
    assert "silent" in report.reason
    assert armed(world) == [False, True]
    world.run_ms(2000)
    assert events(world.shells[A], "muted_without_witness")
    world.heal_witness()
    world.run_ms(1000)
    assert armed(world) == [False, True], "its generation is gone"
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert roles(world) == [Role.BACKUP, Role.PRIMARY]


def test_with_prefer_safety_nobody_serves_where_nobody_is_sure_and_asking_again_ends_it() -> None:
    world = a_watched_pair()
    world.cut()
    world.cut_from_witness()
    world.run_ms(3000)
    assert armed(world) == [False, False]
    world.heal_witness()
    world.run_ms(1500)
    assert armed(world).count(True) == 1


def test_with_prefer_availability_both_go_on_loudly_until_the_witness_is_back() -> None:
    world = a_watched_pair(prefer="availability")
    world.cut()
    world.cut_from_witness()
    becomes_primary(world, B, 1500)
    assert armed(world) == [True, True]
    assert all(events(shell, "solo_without_witness") for shell in world.shells)
    world.heal_witness()
    world.run_ms(2500)
    assert armed(world).count(True) == 1, "the register takes one"


# --- deaths --------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("seed", range(10))
def test_a_machine_that_loses_power_is_replaced_as_soon_as_without_a_witness(seed: int, prefer: str) -> None:
    world = a_watched_pair(seed, prefer)
    world.run_ms(seed * 13)
    world.kill(A, power=True)
    took, _ = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2
    assert view(world, B).licensed


@BOTH
def test_proof_of_death_waits_for_no_witness(prefer: str) -> None:
    world = a_watched_pair(prefer=prefer)
    world.kill(A)
    took, _ = becomes_primary(world, B, 100)
    assert took < 5
    world.run_ms(10)
    assert view(world, B) == WitnessView(True, True, "gw-b", 2, True), "and is written down"


def test_a_solo_primary_that_dies_is_not_in_the_way_of_its_own_next_life() -> None:
    world = a_watched_pair()
    world.kill(B)
    world.run_ms(500)
    world.kill(A, power=True)
    world.run_ms(500)
    world.boot(A)
    _, report = becomes_primary(world, A, 1000)
    assert report.generation == 2


def test_a_pair_that_was_solo_once_can_lose_its_primary() -> None:
    """The claim of then is void since the two are paired again."""
    world = a_watched_pair()
    world.kill(B)
    world.run_ms(500)
    assert view(world, A).alone
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "whole")
    world.run_ms(100)
    assert view(world, A) == WitnessView(True, False, "gw-a", 1, False)
    world.kill(A, power=True)
    becomes_primary(world, B, 1000)


@BOTH
def test_the_other_half_of_a_dead_solo_primary_waits_for_it_or_for_an_operator(prefer: str) -> None:
    world = a_watched_pair(prefer=prefer)
    world.kill(B)
    world.run_ms(500)
    world.kill(A, power=True)
    world.boot(B)
    world.run_ms(3000)
    shell = world.shells[B]
    assert shell.role is Role.INIT, "gw-a may well be alive behind a cut"
    assert events(shell, "witness_refused")
    accepted, _, effects = shell.node.command_switchover(True, shell.now())
    assert accepted
    shell.perform(effects)
    world.run_ms(1000)
    assert armed(world) == [False, True]
    assert view(world, B) == WitnessView(True, True, "gw-b", 2, True)


def test_a_stop_of_a_solo_primary_leaves_the_register_to_everybody() -> None:
    world = a_watched_pair()
    world.kill(B)
    world.run_ms(500)
    shell = world.shells[A]
    effects = shell.node.command_stop(shell.now())
    shell.perform([effect for effect in effects if type(effect).__name__ != "Stop"])
    world.run_ms(50)
    shell.die(power=False)
    assert world.witness.register is not None
    assert not world.witness.register.alone
    world.boot(B)
    _, report = becomes_primary(world, B, 1000)
    assert report.generation == 2


# --- the witness dies ----------------------------------------------------------------------------------


@BOTH
def test_a_witness_that_ends_changes_nothing_for_a_healthy_pair(prefer: str) -> None:
    world = a_watched_pair(prefer=prefer)
    world.end_witness()
    world.run_ms(12_000)
    assert armed(world) == [True, False]
    assert [len(shell.reports) for shell in world.shells] == [1, 1]
    for shell in world.shells:
        assert [event.detail for event in events(shell, "witness_lost")] == ["connection refused"]
    assert view(world, A).reachable is False
    world.heal_witness()
    world.run_ms(6000)
    assert all(events(shell, "witness_back") for shell in world.shells)
    assert view(world, B).reachable


def test_without_a_witness_proof_of_death_serves_for_a_lease_where_safety_is_preferred() -> None:
    world = a_watched_pair()
    world.end_witness()
    world.kill(A)
    becomes_primary(world, B, 100)
    world.run_ms(500)
    assert armed(world) == [False, False]
    assert events(world.shells[B], "muted_without_witness")
    world.heal_witness()
    world.run_until(lambda: world.shells[B].armed, 1000, "granted late")


def test_without_a_witness_availability_goes_on_as_ever() -> None:
    world = a_watched_pair(prefer="availability")
    world.end_witness()
    world.run_ms(6000)
    world.kill(A, power=True)
    took, _ = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2, "known to be lost: not waited for"
    assert events(world.shells[B], "solo_without_witness")
    world.heal_witness()
    world.run_ms(1000)
    assert view(world, B).licensed


def test_a_register_that_is_forgotten_is_written_again() -> None:
    world = a_watched_pair()
    world.kill(B)
    world.run_ms(500)
    world.witness.register = None
    world.run_ms(6000)
    assert view(world, A) == WitnessView(True, True, "gw-a", 1, True)
    assert world.shells[A].armed


# --- sleep ---------------------------------------------------------------------------------------------


def test_a_solo_primary_that_slept_asks_again() -> None:
    world = a_watched_pair()
    world.kill(B)
    world.run_ms(500)
    world.pause(A)
    world.run_ms(1000)
    world.cut_from_witness(A)
    world.resume(A)
    world.run_ms(1000)
    assert not world.shells[A].armed
    world.heal_witness()
    world.run_until(lambda: world.shells[A].armed, 1500, "granted again")


def test_what_was_granted_and_is_not_used_is_given_back() -> None:
    """The backup's claim is granted while the LANs are asked still; there the primary answers for the VIPs."""
    world = a_watched_pair(prefer="availability")
    world.cut_from_witness(A)
    world.run_ms(7000)
    assert view(world, A).reachable is False
    world.cut(path="sync")
    backup = world.shells[B]
    world.run_until(lambda: bool(events(backup, "vip_still_owned")), 500, "the primary answers on the LANs")
    assert "node='gw-b'" in next(line for line in reversed(world.transcript) if "alone=True" in line)
    world.run_ms(30)
    assert world.witness.register is not None
    assert not world.witness.register.alone
    assert armed(world) == [True, False]


def test_first_election_of_a_node_alone_asks_too() -> None:
    world = World(1, Options(witness=True, prefer="safety"))
    world.boot(A)
    becomes_primary(world, A, 1000)
    assert view(world, A) == WitnessView(True, True, "gw-a", 1, True)
