"""A hundred kills at random moments: none may lose, reset or remap a flow (`kill-primary`, full size, seed by seed)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

KILLS = 100


@pytest.mark.parametrize("seed", range(1, KILLS + 1))
def test_no_flow_is_lost(seed: int, tmp_path: Path) -> None:
    told = tmp_path / "drill.json"
    done = subprocess.run(
        [sys.executable, "-m", "hasyncd", "drill", "kill-primary", "--seed", str(seed), "--json", str(told),
         "--logs", str(tmp_path / "logs")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(told.read_text())
    for row in result["flows"].values():
        assert row["survived"] == row["opened"] > 0
