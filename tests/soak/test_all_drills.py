"""Every drill at full size, as `hasyncd drill all` plays them; and those that need the sync must fail without it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions
from hasyncd.lab.scenarios import SCENARIOS
from tests.e2e.lab import play, small

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


def test_every_drill_passes_with_a_thousand_flows(tmp_path: Path) -> None:
    told, page = tmp_path / "drill.json", tmp_path / "drill.html"
    done = subprocess.run(
        [sys.executable, "-m", "hasyncd", "drill", "all", "--tcp", "700", "--udp", "300", "--seed", "1",
         "--json", str(told), "--report", str(page)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    results = json.loads(told.read_text())
    assert [result["scenario"] for result in results] == list(SCENARIOS)
    assert f"{len(results)} of {len(results)} drills passed" in done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "kill-backup",
        "backup-restart-loop",
        "slow-backup",
        "switchover-then-kill",
        "config-skew",
        "cpu-starved",
    ],
)
def test_without_sync_it_fails(name: str) -> None:
    assert not play(SCENARIOS[name], DrillOptions(seed=3, load=small(100, 50), sync_enabled=False)).passed


@pytest.mark.parametrize("percent", [10, 50])
def test_losses_in_a_sync_count_unless_the_certificate_knows_them(percent: int) -> None:
    scenario = dataclasses.replace(
        SCENARIOS[f"kill-during-full-sync-{percent}"], losses_within_certificate=False
    )
    assert not play(scenario, DrillOptions(seed=3, load=small(100, 50))).passed


def test_a_table_that_has_room_is_found() -> None:
    scenario = dataclasses.replace(SCENARIOS["table-full"], edits=lambda load: ())
    result = play(scenario, DrillOptions(seed=3, load=small(100, 50)))
    assert any("never refused one" in failure for failure in result.failures)


def test_a_cold_boot_that_loses_what_is_opened_later_is_found() -> None:
    """Nothing is kept, so old flows are excused: where they are not, the same drill fails."""
    scenario = dataclasses.replace(SCENARIOS["both-cold-boot"], old_flows_may_be_lost=False)
    assert not play(scenario, DrillOptions(seed=3, load=Load(tcp=100, udp=50))).passed
