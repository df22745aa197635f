"""Who is fitter leads, and nothing is lost by it (proto/pair.md §4e), one story at a time."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role
from tests.sim.scenes import A, B, a_ready_pair, becomes_primary, events, ready
from tests.sim.simulator import World

FALL_MS = 110
"""Two bad samples of the gateway, the first of them at once."""


def roles(world: World) -> list[Role]:
    return [shell.role for shell in world.shells]


def fitness(world: World) -> list[int]:
    return [shell.node.view(shell.now()).fitness for shell in world.shells]


@pytest.mark.parametrize("seed", range(5))
def test_a_primary_that_loses_its_gateway_hands_over_and_loses_nothing(seed: int) -> None:
    world = a_ready_pair(seed)
    world.machines[A].set("gateway", False)
    took, report = becomes_primary(world, B, 1000)
    assert FALL_MS + 400 - 60 < took < FALL_MS + 400 + 100, "two samples, then the hold-down"
    assert report.reason == "the primary handed over"
    assert report.certificate is not None
    assert report.certificate.complete
    former = world.shells[A]
    assert former.reports[-1].reason == "the peer is fitter"
    assert [event.detail for event in events(former, "track_failed")] == [
        "gateway: unwell, the fitness is 250"
    ]
    assert [event.detail for event in events(former, "handover_by_fitness")] == [
        "250 against 1000 of gw-b; gateway: unwell"
    ]
    world.run_until(lambda: ready(world), 3000, "the unfit node is a ready backup")
    world.machines[A].set("gateway", True)
    world.run_ms(5000)
    assert fitness(world) == [1000, 1000]
    assert roles(world) == [Role.BACKUP, Role.PRIMARY], "fit again is not fitter: nothing moves back"


@pytest.mark.parametrize("lan", ["inside", "outside"])
def test_a_primary_whose_lan_goes_down_hands_over_after_the_time_of_a_death(lan: str) -> None:
    world = a_ready_pair()
    world.unplug(A, lan)
    took, report = becomes_primary(world, B, 1000)
    assert 150 < took < 260
    assert report.certificate is not None
    assert report.certificate.complete
    world.run_until(lambda: ready(world), 3000, "cut off from a LAN it still holds the flows")


def test_a_small_loss_moves_nothing() -> None:
    world = a_ready_pair()
    world.machines[A].set("disk", False)
    becomes_primary(world, B, 1000)
    other = a_ready_pair(fitness_margin=250)
    other.machines[A].set("disk", False)
    other.run_ms(5000)
    assert fitness(other) == [750, 1000]
    assert roles(other) == [Role.PRIMARY, Role.BACKUP], "250 is not more than 250"


def test_what_both_have_lost_moves_nothing() -> None:
    world = a_ready_pair()
    for index in (A, B):
        world.machines[index].set("gateway", False)
    world.run_ms(5000)
    assert fitness(world) == [250, 250]
    for index in (A, B):
        world.machines[index].set("outside", False)
    world.run_ms(5000)
    assert fitness(world) == [0, 0]
    assert roles(world) == [Role.PRIMARY, Role.BACKUP]
    assert world.shells[A].node.generation == 1


def test_a_switch_that_reboots_under_both_moves_nothing() -> None:
    """One sees it a little sooner, and comes back a little later."""
    world = a_ready_pair()
    world.machines[A].set("outside", False)
    world.run_ms(100)
    world.machines[B].set("outside", False)
    world.run_ms(3000)
    world.machines[B].set("outside", True)
    world.run_ms(100)
    world.machines[A].set("outside", True)
    world.run_ms(3000)
    assert roles(world) == [Role.PRIMARY, Role.BACKUP]
    assert not events(world.shells[A], "handover_by_fitness")


def test_a_flutter_shorter_than_the_hold_down_moves_nothing() -> None:
    world = a_ready_pair()
    for _ in range(20):
        world.machines[A].set("disk", False)
        world.run_ms(250)
        world.machines[A].set("disk", True)
        world.run_ms(250)
    assert len(events(world.shells[A], "track_failed")) == 20
    assert roles(world) == [Role.PRIMARY, Role.BACKUP]


def test_trouble_that_jumps_from_node_to_node_is_followed_ever_more_slowly() -> None:
    world = a_ready_pair()
    moments = []
    for _ in range(10):
        unfit = A if world.shells[A].role is Role.PRIMARY else B
        world.machines[unfit].set("gateway", False)
        world.machines[1 - unfit].set("gateway", True)
        began = world.now_ns
        becomes_primary(world, 1 - unfit, 60_000)
        moments.append((world.now_ns - began) / 1e6)
        world.run_until(lambda: ready(world), 3000, "in step again")
    assert moments[0] < 700
    assert moments[8] > 400 * 16
    for earlier, later in zip(moments[0::2], moments[2::2], strict=False):
        assert later > 1.4 * earlier, f"each node waits twice as long as before: {moments}"


def test_an_unfit_node_without_a_peer_serves_on() -> None:
    world = a_ready_pair()
    world.kill(B)
    world.run_ms(500)
    world.unplug(A, "outside")
    world.machines[A].set("gateway", False)
    world.run_ms(5000)
    assert world.shells[A].armed, "whoever else might serve is not there"
    announced = world.shells[A].announced
    world.plug_in(A, "outside")
    world.run_ms(100)
    assert world.shells[A].announced > announced, "what was said meanwhile was heard by nobody"


def test_an_unfit_backup_takes_over_from_the_dead_and_gives_way_to_the_returned() -> None:
    world = a_ready_pair()
    world.machines[B].set("gateway", False)
    world.run_ms(1000)
    world.kill(A)
    took, _ = becomes_primary(world, B, 1000)
    assert took < 12, "fitness knows nothing of death"
    world.boot(A)
    world.run_until(lambda: ready(world), 3000, "the fitter node is back and in step")
    _, report = becomes_primary(world, A, 3000)
    assert report.reason == "the primary handed over"


def test_an_unfit_primary_waits_until_its_peer_is_ready() -> None:
    world = a_ready_pair()
    world.kill(B)
    world.run_ms(500)
    world.machines[A].set("gateway", False)
    world.run_ms(2000)
    world.stop_reading(B)
    world.boot(B)
    world.run_ms(3000)
    assert roles(world)[A] is Role.PRIMARY, "flows would be lost"
    world.read_again(B)
    _, report = becomes_primary(world, B, 3000)
    assert report.certificate is not None
    assert report.certificate.complete


@pytest.mark.parametrize("wait_ms", [0, 2000])
def test_a_primary_cut_off_from_a_lan_steps_aside_for_a_peer_that_is_not_ready(wait_ms: int) -> None:
    world = a_ready_pair(wait_ms=wait_ms)
    world.stop_reading(B)
    world.break_stream()
    world.run_ms(100)
    world.unplug(A, "outside")
    took, report = becomes_primary(world, B, 5000)
    assert 400 + wait_ms <= took + 100 <= 400 + wait_ms + 400
    assert report.reason == "the primary has left"
    world.read_again(B)
    reasons = [report.reason for report in world.shells[A].reports]
    assert "fault: outside is down, and gw-b, not ready, can forward" in reasons
    world.run_until(lambda: ready(world), 3000, "no longer in fault, although its LAN is down")
    assert fitness(world) == [0, 1000]
    assert roles(world) == [Role.BACKUP, Role.PRIMARY]


def test_whoever_stepped_aside_for_a_peer_that_dies_is_back() -> None:
    world = a_ready_pair()
    world.stop_reading(B)
    world.break_stream()
    world.run_ms(100)
    world.unplug(A, "outside")
    world.run_until(lambda: roles(world)[A] is Role.FAULT, 3000, "it steps aside")
    world.kill(B, power=True)
    becomes_primary(world, A, 2000)
    assert world.shells[A].armed


def test_an_operator_is_told_that_a_switchover_would_be_undone() -> None:
    world = a_ready_pair()
    world.machines[B].set("gateway", False)
    world.run_ms(500)
    shell = world.shells[A]
    accepted, message, _ = shell.node.command_switchover(False, shell.now())
    assert not accepted
    assert message == "the peer is less fit (250, this node 1000) and would hand back; --force does it anyhow"
    accepted, _, effects = shell.node.command_switchover(True, shell.now())
    assert accepted
    shell.perform(effects)
    becomes_primary(world, B, 100)
    world.run_until(lambda: roles(world) == [Role.PRIMARY, Role.BACKUP], 5000, "and it is undone")


@pytest.mark.parametrize("protocols", [((1, 2), (1, 1)), ((1, 1), (1, 2))])
def test_in_a_pair_of_version_1_only_a_lan_that_is_down_counts(
    protocols: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    world = a_ready_pair(protocols=protocols)
    world.machines[A].set("gateway", False)
    world.run_ms(5000)
    assert roles(world) == [Role.PRIMARY, Role.BACKUP]
    world.unplug(A, "inside")
    becomes_primary(world, B, 1000)
    world.run_ms(3000)
    assert roles(world) == [Role.BACKUP, Role.PRIMARY]


def test_a_hand_over_that_is_taken_back_is_tried_again_more_slowly() -> None:
    world = a_ready_pair()
    world.machines[A].set("gateway", False)
    world.run_until(lambda: bool(events(world.shells[A], "handover_by_fitness")), 3000, "it begins")
    world.break_stream()
    world.run_until(lambda: world.shells[A].armed, 1000, "armed again")
    began = world.now_ns
    assert events(world.shells[A], "switchover_aborted")
    took, _ = becomes_primary(world, B, 5000)
    assert took > 2 * 400 - 100
    assert world.now_ns > began
