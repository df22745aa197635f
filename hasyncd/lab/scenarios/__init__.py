"""The drill's scenarios: one small file each, a `Scenario` named SCENARIO in it."""

from __future__ import annotations

from hasyncd.lab.scenarios.bulk import SCENARIO as BULK
from hasyncd.lab.scenarios.clock_step import SCENARIO as CLOCK_STEP
from hasyncd.lab.scenarios.double_kill import SCENARIO as DOUBLE_KILL
from hasyncd.lab.scenarios.garp_lost import SCENARIO as GARP_LOST
from hasyncd.lab.scenarios.kill_primary import SCENARIO as KILL_PRIMARY
from hasyncd.lab.scenarios.kill_under_load import SCENARIO as KILL_UNDER_LOAD
from hasyncd.lab.scenarios.lan_cut import SCENARIO as LAN_CUT
from hasyncd.lab.scenarios.node_dies import SCENARIO as NODE_DIES
from hasyncd.lab.scenarios.one_way_cut import SCENARIO as ONE_WAY_CUT
from hasyncd.lab.scenarios.rolling_upgrade import SCENARIO as ROLLING_UPGRADE
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.scenarios.split_and_heal import SCENARIO as SPLIT_AND_HEAL
from hasyncd.lab.scenarios.stop_cont import SCENARIO as STOP_CONT
from hasyncd.lab.scenarios.switchover import SCENARIO as SWITCHOVER
from hasyncd.lab.scenarios.sync_link_cut import SCENARIO as SYNC_LINK_CUT
from hasyncd.lab.scenarios.sync_loss import SCENARIO as SYNC_LOSS

_ALL = (
    KILL_PRIMARY,
    NODE_DIES,
    DOUBLE_KILL,
    KILL_UNDER_LOAD,
    BULK,
    SWITCHOVER,
    ROLLING_UPGRADE,
    SYNC_LINK_CUT,
    LAN_CUT,
    ONE_WAY_CUT,
    SPLIT_AND_HEAL,
    SYNC_LOSS,
    GARP_LOST,
    STOP_CONT,
    CLOCK_STEP,
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
DEFAULT = KILL_PRIMARY.name

__all__ = ["DEFAULT", "SCENARIOS", "Scenario"]
