"""A seed decides options and faults; the pair must stay safe through them and come together after them.

`run` is the whole life of one seed. Nothing here knows pytest: seeds run in processes of their own.
"""

from __future__ import annotations

import random

from hasyncd.core.types import MILLISECOND_NS, Role
from tests.sim.checkers import Broken, check_converged
from tests.sim.options import Options
from tests.sim.shell import Shell
from tests.sim.simulator import World

TRANSCRIPT_LINES = 120
CONVERGE_MS = 20_000
FAULTS = (
    "kill", "kill", "power", "boot", "cold boot", "alone", "pause", "cut", "one way", "slow", "break", "break", "order",
    "memory", "unfit", "unplugged",
)  # fmt: skip


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
        flow_interval_ns=rng.choice([1_000_000, 4_000_000, 20_000_000]),
        nested_answers=rng.random() < 0.5,
        generations=rng.choice([(0, 0), (0, 0), (3, 0), (0, 7), (5, 5)]),
        window=rng.choice([40, 65_536]),
        drift_ppm=rng.choice([(0, 0), (300, -300), (-200, 500)]),
        lag_max_ns=rng.choice([0, 0, 150_000_000]),
        authenticated=rng.random() < 0.6,
        paths=rng.choice([("sync",), ("sync", "inside"), ("sync", "inside", "outside")]),
        wait_ms=rng.choice([0, 0, 400]),
        protocols=rng.choice([((1, 2), (1, 2)), ((1, 1), (1, 2)), ((1, 2), (1, 1)), ((1, 1), (1, 1))]),
        rough=rng.random() < 0.2,
        hold_down_ms=rng.choice([100, 400]),
    )


def one_fault(world: World, rng: random.Random) -> None:
    """Something bad (or merely an operator) happens to the pair; where it cannot now, nothing does."""
    shell = world.shells[rng.randint(0, 1)]
    primaries = [s for s in world.shells if s.running and s.role is Role.PRIMARY]
    victim = primaries[0] if primaries and rng.random() < 0.7 else shell
    fault = rng.choice(FAULTS)
    if fault in ("unfit", "unplugged"):
        harm_machine(world, rng, fault, victim)
    elif fault in ("cut", "one way", "break"):
        harm_wire(world, rng, fault)
    elif fault == "memory":
        for _ in range(rng.choice([1, 1, 3])):
            world.corrupt(1 - victim.index)
    elif fault in ("boot", "cold boot", "alone"):
        boot_some(world, rng, fault, victim)
    elif fault == "order":
        give_order(world, rng, shell)
    elif victim.running:
        harm(world, rng, fault, victim)


def harm(world: World, rng: random.Random, fault: str, victim: Shell) -> None:
    match fault:
        case "kill":
            world.kill(victim.index)
        case "power":
            world.kill(victim.index, power=True)
        case "pause" if not victim.paused:
            world.pause(victim.index)
            after = rng.choice([20, 100, 160, 300, 2000]) * MILLISECOND_NS
            boot = victim.boot_id
            world.at(after, lambda: world.resume(victim.index) if victim.boot_id == boot else None)
        case "slow":
            slow = 1 - victim.index
            world.stop_reading(slow)
            world.at(rng.choice([20, 160, 1000, 3000]) * MILLISECOND_NS, lambda: world.read_again(slow))


def harm_machine(world: World, rng: random.Random, fault: str, victim: Shell) -> None:
    """Whatever its process does. Half of the time the other one has the same trouble a little later."""
    who = [victim.index, 1 - victim.index][: rng.choice([1, 1, 2])]
    name = rng.choice(["inside", "outside"] if fault == "unplugged" else ["gateway", "disk"])
    for index in who:
        lasts = rng.choice([60, 300, 900, 3000]) * MILLISECOND_NS
        if fault == "unplugged":
            world.unplug(index, name)
            world.at(lasts, lambda index=index: world.plug_in(index, name))  # type: ignore[misc]
        else:
            world.machines[index].set(name, False)
            world.at(lasts, lambda index=index: world.machines[index].set(name, True))  # type: ignore[misc]
        world.run_ms(rng.choice([0, 20, 120]))


def harm_wire(world: World, rng: random.Random, fault: str) -> None:
    if fault == "break" and world.options.rough and rng.random() < 0.7:
        world.mangle(rng.choice(["lost", "doubled", "changed"]))
        return
    if fault == "break":
        world.break_stream()
        return
    path = rng.choice([None, None, *world.network.paths, "inside"])
    world.cut(*([rng.randint(0, 1)] if fault == "one way" else []), path=path)
    world.at(rng.choice([50, 140, 400, 3000]) * MILLISECOND_NS, world.heal)


def boot_some(world: World, rng: random.Random, fault: str, victim: Shell) -> None:
    """Whoever is down; or both after a power cut; or, after one, a single node that finds nobody."""
    if fault == "boot":
        for dead in world.shells:
            if not dead.running:
                world.boot(dead.index, wiped=rng.random() < 0.1)
        return
    for each in rng.sample(world.shells, 2):
        if each.running:
            world.kill(each.index, power=fault == "cold boot" or rng.random() < 0.5)
    for each in [victim] if fault == "alone" else rng.sample(world.shells, 2):
        world.run_ms(rng.choice([0, 1, 40, 160, 400]))
        world.boot(each.index, wiped=rng.random() < 0.1)


def give_order(world: World, rng: random.Random, shell: Shell) -> None:
    """An operator's."""
    if not shell.running or shell.paused:
        return
    order, node = rng.choice(["switchover", "stop", "resync"]), shell.node
    if order == "resync":
        world.resync(shell.index, full=rng.random() < 0.3)
        return
    world.say("world", f"an operator says {order} to {shell.name}")
    if order == "stop":
        shell.input(node.command_stop)
    else:
        shell.input(lambda now: node.command_switchover(False, now)[2])


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
    for links in world.network.paths.values():
        for link in links:
            link.loss = 0.0
    world.network.mangling = None
    world.heal()
    for machine in world.machines:
        machine.mend()
    for index in sorted(world.network.unread):
        world.read_again(index)
    for shell in world.shells:
        world.resume(shell.index)
    world.run_ms(1000)  # whoever is stopping stops
    for shell in world.shells:
        if not shell.running:
            world.boot(shell.index)
    world.run_ms(1500)
    world.traffic = False
    world.run_until(
        lambda: check_converged(world) is None, CONVERGE_MS, f"the pair is whole ({check_converged(world)})"
    )
    world.storm.begin_quiet()
    world.run_ms(1500)
    missing = check_converged(world)
    if missing is not None:
        raise Broken(f"the pair did not stay whole: {missing}")


def run(seed: int) -> str | None:
    """None where the pair kept every promise; else the story of how it did not, and how to see it again."""
    rng = random.Random(seed * 2 + 1)
    world = World(seed, options_of(rng))
    try:
        live_through(world, rng)
        come_together(world)
    except Exception as error:
        return tell(world, seed, error)
    return None


def tell(world: World, seed: int, error: Exception) -> str:
    """What was done to the pair, what it did last, what broke, and the command that plays it again."""
    lines = world.transcript
    faults = [line for line in lines if "  world  " in line]
    return "\n".join(
        [
            f"seed {seed}: {world.options}",
            "", "what happened to the pair:", *faults,
            "", f"the last {min(len(lines), TRANSCRIPT_LINES)} of {len(lines)} steps:", *lines[-TRANSCRIPT_LINES:],
            "", f"{type(error).__name__}: {error}",
            "", f"replay: .venv/bin/pytest tests/sim/test_swarm.py --sim-seed {seed}",
        ]
    )  # fmt: skip
