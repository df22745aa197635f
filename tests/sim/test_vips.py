"""Who has the VIPs is asked on the LANs before silence is taken for death (proto/pair.md §4c, §4d)."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role, VipView
from tests.sim.options import Options
from tests.sim.scenes import (
    PROBE_MS,
    SILENCE_MS,
    A,
    B,
    a_ready_pair,
    becomes_primary,
    events,
    ready,
)
from tests.sim.shell import Shell
from tests.sim.simulator import World

STRANGER = "02:99:00:00:00:01"


def details(shell: Shell, name: str) -> list[str]:
    return [event.detail for event in events(shell, name)]


def vips(shell: Shell) -> tuple[VipView, ...]:
    return shell.node.view(shell.now()).vips


# --- before acting alone -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lan", ["inside", "outside"])
def test_a_cut_of_the_sync_link_alone_makes_no_second_primary(seed: int, lan: str) -> None:
    """The one path is cut, and a LAN too: the other LAN still carries ARP, and `OneArmed` watches."""
    world = a_ready_pair(seed)
    world.run_ms(seed * 7)
    world.cut(path="sync")
    world.cut(path=lan)
    world.run_ms(3000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP], "and the primary stays"
    assert [shell.node.generation for shell in world.shells] == [1, 1]
    assert world.shells[A].armed
    left = {"inside": "203.0.113.5 (outside)", "outside": "10.0.1.1 (inside)"}[lan]
    assert details(world.shells[B], "vip_still_owned") == [f"{left}: gw-a has it"], "said once"
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")


def test_a_primary_that_dies_behind_the_cut_is_replaced_when_it_no_longer_answers() -> None:
    world = a_ready_pair()
    world.cut(path="sync")
    world.run_ms(2000)
    assert world.shells[B].role is Role.BACKUP
    world.kill(A)
    took, report = becomes_primary(world, B, 1000)
    assert took <= SILENCE_MS + PROBE_MS
    assert "silent" in report.reason


def test_whoever_takes_owned_vips_does_so_loudly() -> None:
    world = World(1, Options(takes_owned_vips=True))
    world.squatters["inside"] = STRANGER
    world.boot(A)
    becomes_primary(world, A, 1000)
    assert details(world.shells[A], "vip_conflict")[0] == f"10.0.1.1 (inside): {STRANGER} has it"


def test_a_node_that_boots_finds_a_third_host_before_it_takes_its_vip() -> None:
    world = World(1)
    world.squatters["outside"] = STRANGER
    world.boot(A)
    world.run_ms(3000)
    assert world.shells[A].role is Role.INIT
    assert details(world.shells[A], "vip_still_owned") == [f"203.0.113.5 (outside): {STRANGER} has it"]
    world.squatters.clear()
    becomes_primary(world, A, 1000)


def test_a_node_that_boots_inside_a_partition_finds_the_primary() -> None:
    world = World(1)
    world.boot(A)
    becomes_primary(world, A, 1000)
    world.cut(path="sync")
    world.boot(B)
    world.run_ms(3000)
    assert world.shells[B].role is Role.INIT
    world.heal()
    world.run_until(lambda: ready(world), 3000, "they find each other")


def test_a_paired_primary_that_slept_finds_who_replaced_it() -> None:
    world = a_ready_pair()
    world.pause(A)
    becomes_primary(world, B, 1000)
    world.cut(path="sync")
    world.resume(A)
    world.run_ms(3000)
    assert not world.shells[A].armed
    assert details(world.shells[A], "vip_still_owned") == [
        "10.0.1.1 (inside): gw-b has it; 203.0.113.5 (outside): gw-b has it"
    ]
    assert world.shells[B].armed
    world.heal()
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert world.shells[B].role is Role.PRIMARY


def test_a_solo_primary_that_slept_finds_who_replaced_it() -> None:
    world = World(1)
    world.boot(A)
    becomes_primary(world, A, 1000)
    world.pause(A)
    world.boot(B)
    becomes_primary(world, B, 2000)
    world.cut(path="sync")
    world.resume(A)
    world.run_ms(2000)
    assert not world.shells[A].armed
    assert world.shells[B].armed
    world.kill(B)
    world.run_until(lambda: world.shells[A].armed, 1000, "nobody has them now")


def test_proof_of_death_needs_no_question() -> None:
    world = a_ready_pair()
    world.kill(A)
    took, _ = becomes_primary(world, B, 100)
    assert took < 5


# --- afterwards --------------------------------------------------------------------------------------


def test_every_vip_is_verified_once_traffic_has_come_and_nobody_else_has_it() -> None:
    world = a_ready_pair()
    world.kill(A)
    becomes_primary(world, B, 100)
    backup = world.shells[B]
    assert vips(backup) == ()
    world.run_until(lambda: bool(events(backup, "converged")), 500, "traffic and a question")
    assert [vip.address for vip in vips(backup)] == ["10.0.1.1", "203.0.113.5"]
    assert all(vip.verified_ms is not None and PROBE_MS - 1 < vip.verified_ms < 500 for vip in vips(backup))


def test_without_traffic_nothing_is_verified_and_that_is_said() -> None:
    world = a_ready_pair()
    world.traffic = False
    world.kill(A)
    becomes_primary(world, B, 100)
    world.run_ms(7000)
    backup = world.shells[B]
    assert [vip.verified_ms for vip in vips(backup)] == [None, None]
    assert [text.split(":")[0] for text in details(backup, "vip_unverified")] == ["10.0.1.1, 203.0.113.5"]
    world.traffic = True
    world.run_ms(1500)
    assert all(vip.verified_ms is not None for vip in vips(backup)), "late, but true"


def test_a_third_host_is_a_conflict_until_it_is_gone() -> None:
    world = a_ready_pair()
    primary = world.shells[A]
    world.squatters["inside"] = STRANGER
    world.run_until(lambda: bool(events(primary, "vip_conflict")), 11_000, "the next question finds it")
    assert details(primary, "vip_conflict") == [f"10.0.1.1 (inside): {STRANGER} has it"]
    inside, outside = vips(primary)
    assert (inside.verified_ms, inside.claimant) == (None, STRANGER)
    assert (outside.verified_ms is not None, outside.claimant) == (True, None)
    assert primary.armed, "the address is not given up"
    world.squatters.clear()
    world.run_until(lambda: bool(events(primary, "vip_conflict_over")), 3000, "it is gone")
    world.run_ms(1500)
    assert vips(primary)[0].verified_ms is not None


def test_a_switchover_is_verified_too() -> None:
    world = a_ready_pair()
    shell = world.shells[A]
    shell.perform(shell.node.command_switchover(False, shell.now())[2])
    becomes_primary(world, B, 500)
    world.run_ms(500)
    assert not events(world.shells[B], "vip_conflict"), "what the old primary had said before counts no more"
    assert events(world.shells[B], "converged")
    assert vips(shell) == (), "what is not armed has nothing to verify"
