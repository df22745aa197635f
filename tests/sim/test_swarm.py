"""A seed decides options and faults; the pair must stay safe through them and come together after them."""

from __future__ import annotations

import random

import pytest

from hasyncd.core.types import MILLISECOND_NS, Role
from tests.sim.checkers import Broken, check_converged
from tests.sim.options import Options
from tests.sim.simulator import World

TRANSCRIPT_LINES = 120
CONVERGE_MS = 20_000


def options_of(rng: random.Random) -> Options:
    slow = rng.random() < 0.2
    return Options(
        priorities=rng.choice([(200, 100), (100, 200), (100, 100), (255, 1)]),
        prefer="safety" if rng.random() < 0.2 else "availability",
        sync=rng.random() > 0.05,
        capacity=rng.choice([8, 64, 400]),
        log_records=rng.choice([64, 1024, 8192]),
        loss=rng.choice([0.0, 0.0, 0.01, 0.05]),
        delay_ns=(1_000_000, 8_000_000) if slow else (50_000, 300_000),
        flow_interval_ns=rng.choice([500_000, 2_000_000, 20_000_000]),
        nested_answers=rng.random() < 0.5,
        generations=rng.choice([(0, 0), (0, 0), (3, 0), (0, 7), (5, 5)]),
    )


def one_fault(world: World, rng: random.Random) -> None:
    """Something bad (or merely an operator) happens to the pair."""
    shell = world.shells[rng.randint(0, 1)]
    primaries = [s for s in world.shells if s.running and s.role is Role.PRIMARY]
    victim = primaries[0] if primaries and rng.random() < 0.7 else shell
    match rng.choice(["kill", "kill", "power", "boot", "pause", "cut", "one way", "break", "order"]):
        case "kill" if victim.running:
            world.kill(victim.index)
        case "power" if victim.running:
            world.kill(victim.index, power=True)
        case "boot":
            for dead in world.shells:
                if not dead.running:
                    world.boot(dead.index, wiped=rng.random() < 0.1)
        case "pause" if victim.running and not victim.paused:
            world.pause(victim.index)
            after = rng.choice([20, 100, 160, 300, 2000]) * MILLISECOND_NS
            boot = victim.boot_id
            world.at(after, lambda: world.resume(victim.index) if victim.boot_id == boot else None)
        case "cut":
            world.cut()
            world.at(rng.choice([50, 140, 400, 3000]) * MILLISECOND_NS, world.heal)
        case "one way":
            world.cut(rng.randint(0, 1))
            world.at(rng.choice([50, 140, 400, 3000]) * MILLISECOND_NS, world.heal)
        case "break":
            world.break_stream()
        case "order" if shell.running and not shell.paused:
            order = rng.choice(["switchover", "stop", "resync"])
            world.say("world", f"an operator says {order} to {shell.name}")
            node = shell.node
            if order == "stop":
                shell.input(node.command_stop)
            elif order == "switchover":
                shell.input(lambda now: node.command_switchover(False, now)[2])
            else:
                shell.input(lambda now: node.command_resync(now)[2])
        case _:
            return


def live_through(world: World, rng: random.Random) -> None:
    for index in rng.sample([0, 1], 2):
        world.boot(index)
        world.run_ms(rng.choice([0, 5, 100, 700]))
    for _ in range(rng.randint(2, 12)):
        world.run_ms(rng.choice([3, 30, 200, 900, 2500]))
        one_fault(world, rng)
    world.run_ms(rng.choice([0, 50, 500]))


def come_together(world: World) -> None:
    """All faults end; the pair must be whole, and then quiet."""
    for link in world.network.links:
        link.loss = 0.0
    world.heal()
    for shell in world.shells:
        world.resume(shell.index)
    world.run_ms(1000)  # whoever is stopping stops
    for shell in world.shells:
        if not shell.running:
            world.boot(shell.index)
    world.run_ms(3000)
    world.traffic = False
    world.run_until(
        lambda: check_converged(world) is None, CONVERGE_MS, f"the pair is whole ({check_converged(world)})"
    )
    world.storm.begin_quiet()
    world.run_ms(2000)
    missing = check_converged(world)
    if missing is not None:
        raise Broken(f"the pair did not stay whole: {missing}")


def test_the_pair_survives_whatever_the_seed_brings(swarm_seed: int) -> None:
    rng = random.Random(swarm_seed * 2 + 1)
    world = World(swarm_seed, options_of(rng))
    try:
        live_through(world, rng)
        come_together(world)
    except Exception as error:
        story = "\n".join(world.transcript[-TRANSCRIPT_LINES:])
        replay = f"pytest tests/sim/test_swarm.py --sim-seed {swarm_seed}"
        pytest.fail(
            f"{world.options}\n{story}\n{type(error).__name__}: {error}\n\nreplay: {replay}", pytrace=False
        )
