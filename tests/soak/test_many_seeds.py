"""The simulator over ten times the seeds of the full run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

SEEDS = 5000
ROOT = Path(__file__).parents[2]


def test_no_seed_breaks_an_invariant() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/sim/test_swarm.py", "--sim-seeds", str(SEEDS)],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:]
