"""A backup that has not everything, and a primary that falls silent: [peer] wait_ms (proto/pair.md §4b)."""

from __future__ import annotations

from hasyncd.core.types import Role
from tests.sim.checkers import check_converged
from tests.sim.options import Options
from tests.sim.scenes import SILENCE_MS, A, B, a_ready_pair, becomes_primary, events, ready
from tests.sim.simulator import World

WAIT_MS = 2000


def in_the_middle_of_a_full_sync(wait_ms: int = WAIT_MS, prefer: str = "availability") -> World:
    """gw-a is primary, gw-b holds a part of its flows."""
    world = World(3, Options(capacity=400, flow_interval_ns=200_000, wait_ms=wait_ms, prefer=prefer))
    world.boot(A)
    if prefer == "safety":
        world.shells[A].input(lambda now: world.shells[A].node.command_switchover(True, now)[2])
    world.run_ms(600)
    world.boot(B)
    world.run_until(lambda: len(world.shells[B].table.flows) >= 100, 1000, "a part of the full sync is there")
    return world


def names(world: World) -> list[str]:
    return [event.name for event in world.shells[B].events]


def test_the_silent_primary_is_waited_for_and_then_replaced_loudly() -> None:
    world = in_the_middle_of_a_full_sync()
    world.kill(A, power=True)
    took, report = becomes_primary(world, B, 4000)
    assert SILENCE_MS + WAIT_MS - 51 < took <= SILENCE_MS + WAIT_MS + 2
    assert report.reason.startswith("the primary is silent for 21")
    assert report.certificate is not None
    assert not report.certificate.complete
    assert report.certificate.flows_missing_is == "at_most"
    assert report.certificate.flows_held >= 100, "what had arrived is kept"
    assert [name for name in names(world) if "promot" in name] == ["promotion_waits", "promoted_incomplete"]


def test_without_wait_ms_it_is_replaced_at_once_and_as_loudly() -> None:
    world = in_the_middle_of_a_full_sync(wait_ms=0)
    world.kill(A, power=True)
    took, _ = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2
    assert [name for name in names(world) if "promot" in name] == ["promoted_incomplete"]


def test_a_primary_that_comes_back_in_time_stays_primary_and_nothing_is_lost() -> None:
    world = in_the_middle_of_a_full_sync()
    world.pause(A)
    world.run_ms(1000)
    assert len(events(world.shells[B], "promotion_waits")) == 1
    assert world.shells[B].role is Role.BACKUP
    world.resume(A)
    world.run_until(lambda: ready(world), 3000, "the sync is completed")
    world.run_ms(WAIT_MS + 500)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    assert [shell.node.generation for shell in world.shells] == [1, 1]
    world.traffic = False
    world.run_until(lambda: check_converged(world) is None, 1000, "the tables are equal")


def test_nobody_waits_for_a_process_that_is_proven_dead() -> None:
    world = in_the_middle_of_a_full_sync()
    world.kill(A)
    took, report = becomes_primary(world, B, 1000)
    assert took < 20
    assert report.reason == "the primary's process is dead"
    assert report.certificate is not None
    assert not report.certificate.complete


def test_proof_that_comes_while_it_waits_ends_the_waiting() -> None:
    world = in_the_middle_of_a_full_sync()
    world.pause(A)
    world.run_ms(500)
    world.kill(A)
    took, report = becomes_primary(world, B, 1000)
    assert took < 20
    assert report.reason == "the primary's process is dead"


def test_an_operator_does_not_wait() -> None:
    world = in_the_middle_of_a_full_sync()
    world.kill(A, power=True)
    world.run_ms(500)
    shell = world.shells[B]
    shell.input(lambda now: shell.node.command_switchover(True, now)[2])
    assert shell.role is Role.PRIMARY


def test_a_ready_backup_does_not_wait() -> None:
    world = a_ready_pair(wait_ms=WAIT_MS)
    world.kill(A, power=True)
    took, report = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + 2
    assert report.certificate is not None
    assert report.certificate.flows_missing_is in ("exact", "at_most")
    assert "promotion_waits" not in names(world)


def test_with_prefer_safety_silence_promotes_nobody_however_long() -> None:
    world = in_the_middle_of_a_full_sync(prefer="safety")
    world.kill(A, power=True)
    world.run_ms(3 * WAIT_MS)
    assert world.shells[B].role is Role.BACKUP
    assert "promotion_waits" not in names(world)
