"""Both nodes are upgraded, one after the other: proto/sync.md §4.1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.types import Role
from tests.sim.checkers import check_converged
from tests.sim.scenes import A, B, a_ready_pair, becomes_primary, events, ready
from tests.sim.simulator import World

OLD, NEW = (1, 1), (1, 2)


def stop(world: World, index: int) -> None:
    shell = world.shells[index]
    shell.perform(shell.node.command_stop(shell.now()))
    world.run_until(lambda: not shell.running, 1000, "it stops")


def start(world: World, index: int, *versions: tuple[int, int]) -> None:
    world.options = replace(world.options, protocols=(versions[0], versions[1]))
    world.boot(index)
    world.run_until(lambda: ready(world), 3000, "the pair is whole")


def spoken(world: World) -> list[tuple[int | None, int | None]]:
    """What each node says of the pair, and of the stream."""
    views = [shell.node.view(shell.now()) for shell in world.shells]
    return [(view.peer.protocol, view.sync.protocol) for view in views]


def test_a_rolling_upgrade_loses_nothing_and_ends_in_the_newer_version() -> None:
    world = a_ready_pair(protocols=(OLD, OLD))
    assert spoken(world) == [(1, 1), (1, 1)]
    stop(world, B)
    assert world.shells[A].role is Role.PRIMARY
    start(world, B, OLD, NEW)
    assert spoken(world) == [(1, 1), (1, 1)]
    assert events(world.shells[B], "protocol_changed"), "the newer one says that it speaks as the older"
    stop(world, A)
    _, report = becomes_primary(world, B, 100)
    assert report.certificate is not None
    assert report.certificate.complete
    start(world, A, NEW, NEW)
    assert spoken(world) == [(2, 2), (2, 2)]
    assert len(events(world.shells[B], "protocol_changed")) == 2, "and once more, when they speak the newer"
    world.traffic = False
    world.run_ms(300)
    assert check_converged(world) is None


@pytest.mark.parametrize("versions", [(OLD, NEW), (NEW, OLD)])
def test_the_way_back_is_open_while_one_of_them_is_pinned(versions: tuple[tuple[int, int], ...]) -> None:
    world = a_ready_pair(protocols=versions)
    for _ in range(2):
        primary = next(shell.index for shell in world.shells if shell.role is Role.PRIMARY)
        world.kill(primary)
        _, report = becomes_primary(world, 1 - primary, 1000)
        assert report.certificate is not None
        assert report.certificate.complete
        start(world, primary, OLD, OLD)
        assert spoken(world) == [(1, 1), (1, 1)]


def test_fitness_is_weighed_by_both_or_by_neither() -> None:
    world = a_ready_pair(protocols=(OLD, NEW))
    for shell in world.shells:
        shell.perform(shell.node.set_fitness(500, shell.now()))
    world.run_ms(200)
    assert [shell.node.view(shell.now()).peer.fitness for shell in world.shells] == [1000, 1000]
