"""Starts that go wrong, and peers that are slow: directed scenarios of what the swarm mixes."""

from __future__ import annotations

import pytest

from hasyncd.core.types import Role, SyncState
from tests.sim.checkers import check_converged
from tests.sim.scenes import A, B, a_ready_pair, becomes_primary, events, full_syncs, ready, state


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_after_a_power_cut_of_both_exactly_one_serves_and_the_other_follows(
    seed: int, authenticated: bool
) -> None:
    world = a_ready_pair(seed, authenticated=authenticated)
    for index in (A, B):
        world.kill(index, power=True)
    world.run_ms(10)
    world.boot(B)
    world.run_ms(1)
    world.boot(A)
    world.run_until(lambda: ready(world), 5000, "whole again")
    assert [shell.role for shell in world.shells].count(Role.PRIMARY) == 1
    assert min(shell.durable_generation for shell in world.shells) == 2, "and both know the new number"


def test_the_one_that_restarts_alone_serves_and_the_other_rejoins_as_backup() -> None:
    world = a_ready_pair()
    for index in (A, B):
        world.kill(index, power=True)
    world.boot(B)
    becomes_primary(world, B, 1000)
    world.run_ms(1000)
    world.boot(A)
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert [shell.role for shell in world.shells] == [Role.BACKUP, Role.PRIMARY], (
        "priority takes nothing back"
    )
    world.traffic = False
    world.run_ms(300)
    assert check_converged(world) is None


def test_a_node_with_a_wiped_state_directory_does_not_outrank_its_peer() -> None:
    world = a_ready_pair()
    world.kill(A)
    becomes_primary(world, B, 1000)
    generation = world.shells[B].durable_generation
    world.boot(A, wiped=True)
    world.run_until(lambda: ready(world), 3000, "whole again")
    assert [shell.role for shell in world.shells] == [Role.BACKUP, Role.PRIMARY]
    assert world.shells[A].durable_generation == generation, "it has learnt the number"


def test_the_end_of_an_old_connection_that_comes_late_does_not_close_the_new_one() -> None:
    """Connections overtake each other: the new stream stands before the old one's end has arrived."""
    world = a_ready_pair(lag_max_ns=0)
    old = world.shells[B].stream
    assert old is not None
    old.lag_ns = 300_000_000
    world.break_stream()
    world.run_until(lambda: ready(world) and world.shells[B].stream is not old, 2000, "a new stream")
    count = full_syncs(world)
    world.run_ms(1000)
    assert ready(world)
    assert full_syncs(world) == count


def test_clocks_that_run_apart_change_nothing() -> None:
    world = a_ready_pair(drift_ppm=(500, -500))
    world.run_ms(20_000)
    assert [shell.role for shell in world.shells] == [Role.PRIMARY, Role.BACKUP]
    assert world.shells[A].durable_generation == 1


def test_a_late_heartbeat_of_a_former_life_does_not_silence_the_peer_for_ever() -> None:
    """gw-b starts; it hears gw-a's new process, and after it a datagram of the one before."""
    world = a_ready_pair()
    late: list[bytes] = []
    send = world.network.send_datagram

    def keep(sender: int, payload: bytes, path: str | None = None) -> None:
        if sender == A:
            late.append(payload)
        send(sender, payload, path)

    world.network.send_datagram = keep  # type: ignore[method-assign]
    world.run_ms(60)
    for index in (A, B):
        world.kill(index)
    world.boot(B)
    world.boot(A)
    world.run_ms(1)
    world.network.deliver_datagram(B, late[0], "sync")
    world.run_until(lambda: ready(world), 3000, "they find each other")


# --- slow consumers ----------------------------------------------------------------------------------------


def test_a_backup_that_reads_nothing_for_a_while_catches_up_from_the_log() -> None:
    world = a_ready_pair(flow_interval_ns=1_000_000)
    count = full_syncs(world)
    world.stop_reading(B)
    world.run_ms(500)
    assert world.shells[A].armed, "forwarding goes on"
    world.read_again(B)
    world.run_ms(500)
    assert full_syncs(world) == count, "the log still held everything"
    assert ready(world)


def test_a_backup_that_reads_nothing_for_longer_than_the_log_reaches_gets_few_full_syncs() -> None:
    world = a_ready_pair(flow_interval_ns=1_000_000, log_records=64, capacity=32)
    world.stop_reading(B)
    world.run_ms(5000)
    assert world.shells[A].armed, "forwarding goes on"
    assert state(world.shells[A]) is not SyncState.READY
    assert events(world.shells[A], "log_overrun")
    assert full_syncs(world) < 12, "the pauses between two attempts grow"
    world.read_again(B)
    world.run_until(lambda: ready(world), 5000, "it catches up")
    world.traffic = False
    world.run_ms(1500)
    assert check_converged(world) is None
