"""Two nodes that are not quite alike: other versions, another configuration, a smaller window."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role, SyncState
from tests.sim.checkers import check_converged
from tests.sim.options import Options
from tests.sim.scenes import A, B, a_ready_pair, becomes_primary, events, ready
from tests.sim.simulator import World

Range = tuple[int, int]


@pytest.mark.parametrize(
    ("protocols", "chosen"), [(((1, 2), (1, 1)), 1), (((1, 1), (1, 2)), 1), (((1, 3), (2, 4)), 3)]
)
def test_an_older_and_a_newer_node_are_a_pair_in_the_older_ones_version(
    protocols: tuple[Range, Range], chosen: int
) -> None:
    world = a_ready_pair(protocols=protocols)
    for shell in world.shells:
        view = shell.node.view(shell.now())
        assert view.sync.protocol == chosen
        assert view.rejections.keys() <= {"replayed"}, "datagrams overtake each other"
    world.kill(A)
    _, report = becomes_primary(world, B, 1000)
    assert report.certificate is not None
    assert report.certificate.complete
    world.boot(A)
    world.run_until(lambda: ready(world), 3000, "and the other way round")


def test_nodes_without_a_version_in_common_know_who_leads_and_do_not_sync() -> None:
    """Both at once would be the worst of all: heartbeats are the same in every version."""
    world = World(1, Options(protocols=((3, 4), (1, 2))))
    world.boot(A)
    world.boot(B)
    world.run_ms(5000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    for shell in world.shells:
        sync = shell.node.view(shell.now()).sync
        assert (sync.state, sync.reason) == (SyncState.DEGRADED, "refused: protocol")
    assert len(events(world.shells[A], "stream_refused")) < 12, "asked ever more seldom"
    world.kill(A)
    took, _ = becomes_primary(world, B, 1000)
    assert took < 200


def test_nodes_of_different_configurations_sync_and_are_not_called_ready() -> None:
    world = World(1, Options(skewed=True))
    world.boot(A)
    world.boot(B)
    world.run_until(lambda: all(events(shell, "config_skew") for shell in world.shells), 1000, "it is said")
    world.run_ms(2000)
    for shell in world.shells:
        view = shell.node.view(shell.now())
        assert (view.sync.state, view.sync.reason) == (SyncState.DEGRADED, "config_skew")
        assert len(events(shell, "config_skew")) == 1, "once"
    world.traffic = False
    world.run_ms(300)
    one, other = (shell.table for shell in world.shells)
    assert one.recount() == other.recount(), "every flow is there"
    assert one.acked == one.head
    assert check_converged(world) == "the primary does not call its peer ready"


def test_a_change_of_configuration_goes_through_a_switchover() -> None:
    world = World(1, Options(skewed=True))
    world.boot(A)
    world.boot(B)
    world.run_ms(1500)
    shell = world.shells[A]
    accepted, _, effects = shell.node.command_switchover(False, shell.now())
    assert accepted
    shell.perform(effects)
    _, report = becomes_primary(world, B, 100)
    assert report.certificate is not None
    assert report.certificate.complete


def test_a_small_window_slows_the_stream_and_loses_nothing() -> None:
    world = a_ready_pair(window=1, flow_interval_ns=500_000)
    world.run_ms(1000)
    world.traffic = False
    world.run_ms(500)
    assert check_converged(world) is None
