"""A million flows leave nothing behind (N4); tests/soak makes ten."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.native.optimized import build

MANY = Path(__file__).parent / "many_flows.c"


def run(flows: int, directory: Path) -> None:
    done = subprocess.run(
        [build(MANY, directory), str(flows)], check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_a_million_flows_leave_nothing_behind(tmp_path: Path) -> None:
    run(1_000_000, tmp_path)
