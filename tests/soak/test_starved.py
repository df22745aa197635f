"""Ten minutes with both cores burnt by other processes: no false takeover."""

from __future__ import annotations

import pytest

from tests.e2e.starved import live_through
from tests.e2e.world import until, world

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SECONDS = 600


def test_no_takeover_in_ten_minutes_without_a_core() -> None:
    with world() as pair:
        pair.a.start()
        pair.a.wait_role("primary")
        pair.b.start()
        until(lambda: pair.b.status["sync"]["state"] == "ready", "the pair is ready")
        pair.wait_traffic()
        live_through(pair, SECONDS)
