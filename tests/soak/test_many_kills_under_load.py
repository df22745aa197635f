"""Kills under 2,000 new connections a second: a hundred under `ack`, twenty under `emit`, in one lab each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(("commit", "kills"), [("ack", 100), ("emit", 20)])
def test_no_completed_handshake_is_lost(commit: str, kills: int, tmp_path: Path) -> None:
    told = tmp_path / "drill.json"
    words = ["--kills", str(kills), "--commit", commit, "--seed", "100", "--json", str(told)]
    done = subprocess.run(
        [sys.executable, "-m", "hasyncd", "drill", "kill-under-load", *words],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(told.read_text())
    assert len(result["rounds"]) == kills
    lost = result["flows"]["tcp"]["opened"] - result["flows"]["tcp"]["survived"]
    assert lost == (0 if commit == "ack" else sum(each["lost_announced"] for each in result["rounds"]))
