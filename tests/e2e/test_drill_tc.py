"""Drills with the tc engine: established flows are forwarded by the kernel before, during and after the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.lab import SMALL
from tests.e2e.test_drill_scenarios import drill

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "scenario", ["kill-primary", "double-kill", "switchover", "stop-cont", "backend-dies"]
)
def test_flows_of_the_kernels_survive(tmp_path: Path, scenario: str) -> None:
    result = drill(tmp_path, scenario, *SMALL, "--engine", "tc")
    assert result["engine"] == "tc"
    assert result["passed"], result["said"]


def test_bulk_is_forwarded_by_the_kernel_bit_for_bit(tmp_path: Path) -> None:
    result = drill(tmp_path, "bulk", "--bulk-bytes", str(256 << 20), "--engine", "tc")
    assert result["passed"], result["said"]
    assert any(note.endswith("was forwarded by the kernel") for note in result["notes"])


def test_idle_flows_are_in_the_backups_cache_before_the_fault(tmp_path: Path) -> None:
    result = drill(tmp_path, "kill-primary", *SMALL, "--background-flows", "5000", "--engine", "tc")
    assert result["passed"], result["said"]
    # The primary's own cache has the drill's flows only; of idle ones it has seen too few packets. Who is primary is
    # decided by who listened first.
    [note] = [
        note for note in result["notes"] if note.endswith("flows in the kernel's caches of gw-a and gw-b")
    ]
    assert "5,000" in note.replace(" flows", "").split()[:3]
