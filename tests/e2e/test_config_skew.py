"""Two real daemons whose configurations differ: the flows are kept, and nobody can overlook it (proto/sync.md §4.3)."""

from __future__ import annotations

import pytest

from hasyncd.cli.status import complaints
from tests.e2e.world import until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_other_nat_ports_degrade_the_pair_loudly_and_a_smaller_table_is_refused() -> None:
    with world() as machines:
        a, b = machines.a, machines.b
        a.start("insecure = true", "insecure = true\ndead_after_ms = 3000")
        b.configuration = b.configuration.replace("insecure = true", "insecure = true\ndead_after_ms = 3000")
        b.start('public = ["203.0.113.5"]', 'public = ["203.0.113.5"]\nports = "2000-65535"')
        for gateway in (a, b):
            until(
                lambda node=gateway: node.status["sync"].get("reason") == "config_skew",  # type: ignore[misc]
                f"{gateway.name} says it",
            )
            assert gateway.status["sync"]["state"] == "degraded"
            assert gateway.status["peer"]["config_matches"] is False
            assert "the sync state is degraded (config_skew)" in complaints(gateway.status)
            assert "config_skew" in gateway.log
        machines.wait_traffic()
        until(lambda: b.status["flows"]["total"] == 1, "the flow is the backup's all the same")
        until(lambda: a.status["sync"]["at_risk_flows"] == 0, "and confirmed")
        b.kill()
        b.start("capacity = 4096", "capacity = 2048")
        for gateway in (a, b):
            until(
                lambda node=gateway: node.status["sync"].get("reason") == "refused: capacity",  # type: ignore[misc]
                f"{gateway.name} says it",
            )
            assert gateway.status["sync"]["state"] == "degraded"
        assert machines.talk(), "the primary serves on"
