"""The same seed gives the same run, in this process and in any other."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.sim.simulator import World
from tests.sim.swarm import live_through, options_of

ROOT = Path(__file__).parents[2]
TELL = "from tests.sim.test_determinism import story; print(story(7))"


def story(seed: int) -> str:
    rng = random.Random(seed * 2 + 1)
    world = World(seed, options_of(rng))
    live_through(world, rng)
    return "\n".join(world.transcript)


def test_the_same_seed_gives_the_same_run() -> None:
    assert story(7) == story(7)


def test_the_order_of_sets_and_hashes_reaches_nothing() -> None:
    def elsewhere(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TELL]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.rstrip("\n")

    assert elsewhere("1") == elsewhere("2") == story(7)
