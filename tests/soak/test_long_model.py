"""The engine beside its model, twenty thousand random stories long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

EXAMPLES = 20_000
ROOT = Path(__file__).parents[2]


def test_no_story_ends_otherwise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout", "7000", "tests/native/test_model.py"],
        check=False, capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"HS_MODEL_EXAMPLES": str(EXAMPLES)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
