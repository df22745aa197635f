"""Several ways between the two: a node is silent only when it is silent on all of them (proto/pair.md §5b)."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role, SyncState
from tests.sim.scenes import SILENCE_MS, A, B, a_ready_pair, becomes_primary, events, ready, state
from tests.sim.shell import Shell
from tests.sim.simulator import World

ALL = ("sync", "inside", "outside")


def up(shell: Shell) -> dict[str, bool]:
    return {path.name: path.up for path in shell.node.view(shell.now()).peer.paths}


def told(shell: Shell, name: str) -> list[str]:
    return [event.detail.split(":")[0] for event in events(shell, name)]


def a_pair_on_all_paths(**options: object) -> World:
    world = a_ready_pair(paths=ALL, **options)
    for shell in world.shells:
        assert up(shell) == dict.fromkeys(ALL, True)
        assert sorted(told(shell, "path_up")) == sorted(ALL)
        assert told(shell, "path_down") == []
    return world


def test_copies_of_a_heartbeat_are_no_replays() -> None:
    world = a_pair_on_all_paths(delay_ns=(100_000, 100_000))  # nothing overtakes on its own path
    world.run_ms(1000)
    assert all(shell.node.view(shell.now()).rejections == {} for shell in world.shells)


@pytest.mark.parametrize("authenticated", [False, True])
def test_a_cut_sync_link_moves_nobody_and_is_told(authenticated: bool) -> None:
    world = a_pair_on_all_paths(authenticated=authenticated)
    world.cut(path="sync")
    world.run_until(lambda: all(told(shell, "path_down") for shell in world.shells), 210, "both have noticed")
    world.run_ms(3000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    assert [shell.node.generation for shell in world.shells] == [1, 1]
    primary, backup = (shell.node.view(shell.now()) for shell in world.shells)
    assert world.shells[A].armed
    assert not primary.solo, "the backup is heard, and hears"
    assert not primary.commit_held, "nothing waits for a stream that cannot flow"
    for shell, view in ((world.shells[A], primary), (world.shells[B], backup)):
        assert (view.sync.state, view.sync.reason) == (SyncState.DEGRADED, "path_down: sync")
        assert view.peer.state == "connected"
        assert up(shell) == {"sync": False, "inside": True, "outside": True}
        assert told(shell, "path_down") == ["sync"]
    world.heal()
    world.run_until(lambda: ready(world), 3000, "the stream is there again")
    assert all(up(shell) == dict.fromkeys(ALL, True) for shell in world.shells)


@pytest.mark.parametrize("path", ["inside", "outside"])
def test_a_cut_lan_costs_its_path_and_nothing_else(path: str) -> None:
    world = a_pair_on_all_paths()
    world.cut(path=path)
    world.run_ms(2000)
    assert ready(world)
    assert all(told(shell, "path_down") == [path] for shell in world.shells)
    assert state(world.shells[A]) is SyncState.READY


@pytest.mark.parametrize("deaf", [A, B])
def test_one_way_loss_is_seen_at_both_ends(deaf: int) -> None:
    world = a_pair_on_all_paths()
    world.cut(1 - deaf, path="inside")
    world.run_ms(500)
    details = [events(shell, "path_down")[0].detail for shell in world.shells]
    assert details[deaf].startswith("inside: the peer was not heard there for 15")
    assert details[1 - deaf] == "inside: the peer does not hear us there"
    world.heal()
    world.run_until(
        lambda: all(up(shell) == dict.fromkeys(ALL, True) for shell in world.shells), 200, "it is mended"
    )
    assert ready(world)


def test_silence_on_every_path_is_silence() -> None:
    world = a_pair_on_all_paths()
    for path in ALL:
        world.cut(path=path)
    took, report = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2
    assert "silent" in report.reason


def test_one_path_that_is_left_keeps_the_pair_as_it_is() -> None:
    world = a_pair_on_all_paths()
    world.cut(path="sync")
    world.run_ms(400)
    world.cut(path="inside")
    world.run_ms(2000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    assert world.shells[A].armed
    world.cut(path="outside")
    becomes_primary(world, B, 1000)


def test_a_process_that_dies_behind_a_cut_sync_link_is_replaced_after_its_silence() -> None:
    world = a_pair_on_all_paths()
    world.cut(path="sync")
    world.run_ms(1000)
    world.kill(A)
    took, _ = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2


def test_a_killed_process_is_still_replaced_at_once() -> None:
    world = a_pair_on_all_paths()
    world.kill(A)
    took, report = becomes_primary(world, B, 100)
    assert took < 5
    assert report.reason == "the primary's process is dead"


def test_a_path_that_never_worked_is_told_once() -> None:
    world = World(1, a_pair_on_all_paths().options)
    world.cut(path="outside")
    world.boot(A)
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "the others are enough")
    world.run_ms(1000)
    for shell in world.shells:
        assert [event.detail for event in events(shell, "path_down")] == [
            "outside: the peer was never heard there"
        ]


def test_a_sleeper_does_not_call_its_paths_down() -> None:
    world = a_pair_on_all_paths()
    world.pause(B)
    world.run_ms(120)
    world.resume(B)
    world.run_ms(1000)
    assert told(world.shells[B], "path_down") == []
    assert ready(world)
