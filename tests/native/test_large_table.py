"""The flow table at eight million flows, and a million of them due in one second."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.native.optimized import build

LARGE = Path(__file__).parent / "large_table.c"


def test_eight_million_flows_come_are_found_and_go(tmp_path: Path) -> None:
    program = build(LARGE, tmp_path)
    done = subprocess.run([program, str(8 << 20)], check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
