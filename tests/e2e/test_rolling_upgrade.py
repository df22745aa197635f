"""Old and new protocol in one pair, both nodes upgraded in their turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.lab import SMALL, hasyncd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_both_nodes_are_upgraded_and_nothing_is_lost(tmp_path: Path) -> None:
    results = tmp_path / "out.json"
    done = hasyncd("drill", "rolling-upgrade", *SMALL, "--json", str(results))
    assert results.exists(), done.stdout + done.stderr
    [result] = json.loads(results.read_text())
    assert result["passed"], done.stdout + done.stderr
    assert result["flows"]["udp"]["lost_datagrams"] == 0
    assert result["requirements"] >= 14, "both nodes were asked for their version three times"


def test_a_program_that_cannot_be_run_is_bad_usage(tmp_path: Path) -> None:
    done = hasyncd("drill", "rolling-upgrade", "--old-program", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "cannot be run" in done.stderr


def test_an_old_program_without_an_upgrade_is_bad_usage() -> None:
    done = hasyncd("drill", "kill-primary", "--old-program", "/bin/true")
    assert done.returncode == 2
    assert "nothing is upgraded" in done.stderr
