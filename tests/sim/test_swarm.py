"""Every seed of the swarm (`swarm.py`), on every core of the machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.sim.swarm import run

PROCESSES = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def story_of(request: pytest.FixtureRequest) -> Iterator[Callable[[int], str | None]]:
    """What came of a seed. All that were collected run ahead of the tests that ask for them."""
    seeds = [item.callspec.params["swarm_seed"] for item in request.session.items
             if "swarm_seed" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")]  # fmt: skip
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("fork")) as pool:
        stories: dict[int, Future[str | None]] = {seed: pool.submit(run, seed) for seed in seeds}
        yield lambda seed: stories[seed].result()
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
def test_the_pair_survives_whatever_the_seed_brings(
    swarm_seed: int, story_of: Callable[[int], str | None]
) -> None:
    story = story_of(swarm_seed)
    if story is not None:
        pytest.fail(story, pytrace=False)
