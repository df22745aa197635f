"""The drill's scenarios: one small file each, a `Scenario` named SCENARIO in it."""

from __future__ import annotations

from hasyncd.lab.scenarios.bulk import SCENARIO as BULK
from hasyncd.lab.scenarios.double_kill import SCENARIO as DOUBLE_KILL
from hasyncd.lab.scenarios.kill_primary import SCENARIO as KILL_PRIMARY
from hasyncd.lab.scenarios.kill_under_load import SCENARIO as KILL_UNDER_LOAD
from hasyncd.lab.scenarios.node_dies import SCENARIO as NODE_DIES
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.scenarios.switchover import SCENARIO as SWITCHOVER
from hasyncd.lab.scenarios.switchover_under_load import SCENARIO as SWITCHOVER_UNDER_LOAD

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        KILL_PRIMARY,
        NODE_DIES,
        DOUBLE_KILL,
        KILL_UNDER_LOAD,
        BULK,
        SWITCHOVER,
        SWITCHOVER_UNDER_LOAD,
    )
}
DEFAULT = KILL_PRIMARY.name

__all__ = ["DEFAULT", "SCENARIOS", "Scenario"]
