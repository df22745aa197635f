"""The short form of tests/soak/test_starved.py."""

from __future__ import annotations

import pytest

from tests.e2e.starved import live_through
from tests.e2e.world import until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_no_takeover_while_both_cores_are_burnt_by_others() -> None:
    with world() as pair:
        pair.a.start()
        pair.a.wait_role("primary")
        pair.b.start()
        until(lambda: pair.b.status["sync"]["state"] == "ready", "the pair is ready")
        pair.wait_traffic()
        live_through(pair, 20)
