"""A primary that stands still for half a minute, beside the shorter stops, at full size (`stop-cont`)."""

from __future__ import annotations

import pytest

from hasyncd.lab.drill import DrillOptions
from hasyncd.lab.scenarios import SCENARIOS
from tests.e2e.lab import play

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", range(3))
def test_half_a_minute_is_like_two_seconds(seed: int) -> None:
    result = play(SCENARIOS["stop-cont"], DrillOptions(seed=seed))
    assert result.passed, (result.failures, result.notes)
    assert len(result.faults) == 3
    counted = [note for note in result.notes if "the bridges saw" in note]
    assert len(counted) >= 2, "the verdict says how many frames the tap has counted"
