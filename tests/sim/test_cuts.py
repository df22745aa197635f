"""The stories of the drills of cuts, losses and stops (`hasyncd/lab/scenarios`), without kernels."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role
from tests.sim.scenes import A, B, a_ready_pair, becomes_primary, events, ready
from tests.sim.simulator import World

ALL = ("sync", "inside", "outside")


def stands(world: World) -> bool:
    """As it was at first, and armed."""
    return (
        [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
        and [shell.node.generation for shell in world.shells] == [1, 1]
        and world.shells[A].armed
    )


@pytest.mark.parametrize(("percent", "paths"), [(1, ("sync",)), (5, ("sync",)), (5, ALL), (20, ALL)])
def test_loss_is_no_death(percent: int, paths: tuple[str, ...]) -> None:
    """With three paths 20 % are borne, on all of them: no silence comes about at all."""
    world = a_ready_pair(paths=paths, loss=percent / 100)
    for _ in range(20):
        world.run_ms(1000)
        assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
        assert [shell.node.generation for shell in world.shells] == [1, 1]
    if paths == ALL:
        assert not any(events(shell, "solo") for shell in world.shells)
    world.run_until(lambda: stands(world), 500, "it forwards")


@pytest.mark.parametrize("seed", range(3))
def test_much_loss_on_the_only_path_may_move_the_pair_and_never_doubles_it(seed: int) -> None:
    """Three heartbeats in a row that do not arrive are a primary that nobody hears (proto/pair.md §4c): at 20 % that is
    every few seconds, and where it hears its backup meanwhile it is mute, and replaced. `OneArmed` watches.
    """
    world = a_ready_pair(seed, loss=0.2)
    world.run_ms(20_000)
    world.run_until(lambda: ready(world), 5000, "one primary and its ready backup")


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("mute", [A, B])
def test_one_direction_of_one_path_moves_nobody(path: str, mute: int) -> None:
    world = a_ready_pair(paths=ALL)
    world.cut(mute, path=path)
    world.run_ms(2000)
    assert stands(world)
    assert not world.shells[A].node.view(world.shells[A].now()).solo
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert stands(world)


def test_a_primary_that_nobody_hears_on_any_path_is_replaced_and_follows() -> None:
    world = a_ready_pair(paths=ALL)
    world.cut(A)
    becomes_primary(world, B, 1000)
    world.run_until(lambda: world.shells[A].role is Role.BACKUP, 60, "it hears the higher generation")
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert [shell.node.generation for shell in world.shells] == [2, 2]


def test_a_primary_that_hears_nobody_on_any_path_stays() -> None:
    world = a_ready_pair(paths=ALL)
    world.cut(B)
    world.run_ms(2000)
    assert stands(world)
    assert world.shells[A].node.view(world.shells[A].now()).solo
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert stands(world)


@pytest.mark.parametrize("stopped_ms", [200, 2000, 30_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_stopped_primary_goes_on_or_follows(stopped_ms: int, seed: int) -> None:
    """`OneArmed` watches. At 200 ms it may be either, by how long ago the last heartbeat was."""
    world = a_ready_pair(seed, paths=ALL)
    world.run_ms(seed * 17)
    world.pause(A)
    world.run_ms(stopped_ms)
    replaced = world.shells[B].role is Role.PRIMARY
    assert replaced or stopped_ms == 200
    world.resume(A)
    world.run_until(lambda: ready(world), 3000, "whole again")
    primary = B if replaced else A
    assert world.shells[primary].role is Role.PRIMARY
    assert {shell.node.generation for shell in world.shells} == {2 if replaced else 1}


def test_the_winner_of_a_split_announces_itself_to_hosts_that_know_the_loser() -> None:
    """However long after its promotion the halves meet: the train of that has long left."""
    world = a_ready_pair(paths=ALL)
    world.cut()
    becomes_primary(world, B, 1000)
    world.run_ms(20_000)
    before = world.shells[B].announced
    loser = world.shells[A].announced
    world.heal()
    world.run_until(lambda: not world.shells[A].armed, 60, "the lower rank disarms")
    world.run_until(lambda: world.shells[B].announced > before, 60, "at once")
    world.run_ms(6000)
    assert world.shells[B].announced == before + 5, "and with its whole train"
    assert world.shells[A].announced == loser
    assert ready(world)


def test_a_primary_that_was_never_alone_announces_itself_once() -> None:
    world = a_ready_pair(paths=ALL)
    world.run_ms(6000)
    before = world.shells[A].announced
    world.cut(path="sync")
    world.run_ms(2000)
    world.heal()
    world.run_ms(6000)
    assert world.shells[A].announced == before
