"""The drills of nodes that end and return, of moves and of pressure, small; the long forms are in tests/soak."""

from __future__ import annotations

import dataclasses

import pytest

from hasyncd.lab.drill import DrillOptions, Result
from hasyncd.lab.scenarios import SCENARIOS, Scenario
from tests.e2e.lab import play, small

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def played(scenario: Scenario) -> Result:
    return play(scenario, DrillOptions(seed=3, load=small(100, 50)))


@pytest.mark.parametrize(
    "name",
    [
        "kill-backup",
        "restart-alone-then-rejoin",
        "switchover-then-kill",
        "kill-during-full-sync-50",
        "table-full",
        "syn-flood",
        "config-skew",
    ],
)
def test_the_pair_keeps_its_promise(name: str) -> None:
    result = played(SCENARIOS[name])
    assert result.passed, (result.failures, result.notes, result.judgement.losses)
    assert result.judgement.tcp.opened >= 100
    assert result.requirements > 0


def test_a_flood_that_nothing_caps_is_found() -> None:
    scenario = dataclasses.replace(SCENARIOS["syn-flood"], edits=lambda load: ())
    result = played(scenario)
    assert not result.passed
    assert "no SYN of the flood was refused" in result.failures
