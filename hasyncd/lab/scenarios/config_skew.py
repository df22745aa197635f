"""A backup that returns with another configuration: flows are kept or refused by rule, loudly, until it is mended."""

from __future__ import annotations

from hasyncd.lab.acts import NAMES, Roll, call_roll, nodes_of, require_unmoved, unharmed
from hasyncd.lab.lives import kill_again, kill_backup, require_complete, return_to, status_of, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage
from hasyncd.lab.traffic.process import now_ns

_PORTS = 'public = ["203.0.113.5"]\n', 'public = ["203.0.113.5"]\nports = "2000-65535"\n'
_CAPACITY = "[node]\n", "[node]\ncapacity = 2048\n"


async def play(stage: Stage) -> None:
    """Other NAT ports, then a smaller table, then equal again, then a kill."""
    nodes = nodes_of(stage)
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(0.5, 1.5))
    before = await call_roll(stage)
    async with watched(stage):
        fault = await kill_backup(stage, before)
        nodes.edit(before.backup, *_PORTS)
        await _return_skewed(stage, before, "config_skew")
        await _require_kept(stage, before)
        unharmed(stage, fault.at_ns, "the backup was dead, and back with other NAT ports")
        refused_ns = now_ns()
        stage.pair.kill(before.backup)
        nodes.edit(before.backup, *reversed(_PORTS))
        nodes.edit(before.backup, *_CAPACITY)
        await _return_skewed(stage, before, "refused: capacity")
        stage.pair.kill(before.backup)
        nodes.edit(before.backup, *reversed(_CAPACITY))
        await return_to(stage, before.backup)
        # A refused backup has no stream that could end: only silence tells of its death, and the lease pauses us (P3).
        unharmed(stage, refused_ns, "the backup's table was too small, and mended", strict=False)
    await require_unmoved(stage, before, "while the nodes were configured differently")
    await require_complete(stage, await kill_again(stage))


async def _return_skewed(stage: Stage, before: Roll, reason: str) -> None:
    """Both nodes say what is the matter, in their status and in their logs."""
    await stage.pair.restart(before.backup)
    stage.progress.step(f"{before.backup} is back: {reason}")

    async def both_say_it() -> bool:
        found = [((await stage.pair.status(name)) or {}).get("sync") or {} for name in NAMES]
        return all((sync.get("state"), sync.get("reason")) == ("degraded", reason) for sync in found)

    await stage.require_soon(both_say_it, f"not both nodes called their sync degraded ({reason})")
    if reason == "config_skew":
        for name in NAMES:
            stage.require(bool(before.events.of(name, "config_skew")), f"{name} did not log config_skew")
    else:
        held = (await status_of(stage, before.backup))["flows"]["total"]
        stage.require(held == 0, f"{before.backup} took {held} flows although it had refused them")
    await stage.run_for(0.5)


async def _require_kept(stage: Stage, before: Roll) -> None:
    """Under a skew the backup has every flow all the same (proto/sync.md §4.3)."""

    async def kept() -> bool:
        there, here = [await status_of(stage, name) for name in (before.primary, before.backup)]
        return bool(
            here["flows"]["total"] >= stage.load.tcp and there["sync"]["at_risk_flows"] < stage.load.tcp
        )

    await stage.require_soon(kept, f"{before.backup} was not given the flows under a configuration skew")


SCENARIO = Scenario(
    "config-skew",
    "start the backup with other NAT ports, then a smaller table: loud, by rule, healed when equal; then a kill",
    play,
    ours_only=True,
)
