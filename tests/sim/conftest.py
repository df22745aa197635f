"""Options of the swarm: how many seeds, or one to replay."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sim-seeds", type=int, default=500, help="how many seeds the simulated swarm runs")
    parser.addoption("--sim-seed", type=int, default=None, help="replay this one seed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "swarm_seed" in metafunc.fixturenames:
        one = metafunc.config.getoption("--sim-seed", default=None)
        count = metafunc.config.getoption("--sim-seeds", default=500)
        metafunc.parametrize("swarm_seed", range(count) if one is None else [one])
