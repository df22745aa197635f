"""The drill's scenarios: one small file each, a `Scenario` named SCENARIO in it."""

from __future__ import annotations

from hasyncd.lab.scenarios.backend_dies import SCENARIO as BACKEND_DIES
from hasyncd.lab.scenarios.backup_restart_loop import SCENARIO as BACKUP_RESTART_LOOP
from hasyncd.lab.scenarios.both_cold_boot import SCENARIO as BOTH_COLD_BOOT
from hasyncd.lab.scenarios.bulk import SCENARIO as BULK
from hasyncd.lab.scenarios.clock_step import SCENARIO as CLOCK_STEP
from hasyncd.lab.scenarios.config_skew import SCENARIO as CONFIG_SKEW
from hasyncd.lab.scenarios.cpu_starved import SCENARIO as CPU_STARVED
from hasyncd.lab.scenarios.double_kill import SCENARIO as DOUBLE_KILL
from hasyncd.lab.scenarios.drain_backend import SCENARIO as DRAIN_BACKEND
from hasyncd.lab.scenarios.garp_lost import SCENARIO as GARP_LOST
from hasyncd.lab.scenarios.kill_backup import SCENARIO as KILL_BACKUP
from hasyncd.lab.scenarios.kill_in_sync import SCENARIOS_IN_SYNC
from hasyncd.lab.scenarios.kill_primary import SCENARIO as KILL_PRIMARY
from hasyncd.lab.scenarios.kill_under_load import SCENARIO as KILL_UNDER_LOAD
from hasyncd.lab.scenarios.lan_cut import SCENARIO as LAN_CUT
from hasyncd.lab.scenarios.node_dies import SCENARIO as NODE_DIES
from hasyncd.lab.scenarios.one_way_cut import SCENARIO as ONE_WAY_CUT
from hasyncd.lab.scenarios.reload_under_load import RELOAD_UNDER_LOAD, SCALE_OUT
from hasyncd.lab.scenarios.restart_alone import SCENARIO as RESTART_ALONE
from hasyncd.lab.scenarios.rolling_upgrade import SCENARIO as ROLLING_UPGRADE
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.scenarios.slow_backup import SCENARIO as SLOW_BACKUP
from hasyncd.lab.scenarios.split_and_heal import SCENARIO as SPLIT_AND_HEAL
from hasyncd.lab.scenarios.stop_cont import SCENARIO as STOP_CONT
from hasyncd.lab.scenarios.switchover import SCENARIO as SWITCHOVER
from hasyncd.lab.scenarios.switchover_then_kill import SCENARIO as SWITCHOVER_THEN_KILL
from hasyncd.lab.scenarios.switchover_under_load import SCENARIO as SWITCHOVER_UNDER_LOAD
from hasyncd.lab.scenarios.syn_flood import SCENARIO as SYN_FLOOD
from hasyncd.lab.scenarios.sync_link_cut import SCENARIO as SYNC_LINK_CUT
from hasyncd.lab.scenarios.sync_loss import SCENARIO as SYNC_LOSS
from hasyncd.lab.scenarios.table_full import SCENARIO as TABLE_FULL

_DEATHS = (KILL_PRIMARY, NODE_DIES, DOUBLE_KILL, KILL_UNDER_LOAD, BULK, BOTH_COLD_BOOT, RESTART_ALONE)
_BACKUPS = (KILL_BACKUP, BACKUP_RESTART_LOOP, SLOW_BACKUP, *SCENARIOS_IN_SYNC)
_MOVES = (SWITCHOVER, SWITCHOVER_UNDER_LOAD, SWITCHOVER_THEN_KILL, ROLLING_UPGRADE)
_CUTS = (SYNC_LINK_CUT, LAN_CUT, ONE_WAY_CUT, SPLIT_AND_HEAL, SYNC_LOSS, GARP_LOST)
_BACKENDS = (BACKEND_DIES, DRAIN_BACKEND, SCALE_OUT, RELOAD_UNDER_LOAD)
_TIME = (STOP_CONT, CLOCK_STEP)
_PRESSURE = (CPU_STARVED, TABLE_FULL, SYN_FLOOD, CONFIG_SKEW)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (*_DEATHS, *_BACKUPS, *_MOVES, *_CUTS, *_BACKENDS, *_TIME, *_PRESSURE)
}
DEFAULT = KILL_PRIMARY.name

__all__ = ["DEFAULT", "SCENARIOS", "Scenario"]
