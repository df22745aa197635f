"""SIGKILL the backup: nobody may notice, the primary says what is at risk now, and the backup comes back as one."""

from __future__ import annotations

from hasyncd.lab.acts import Roll, call_roll, require_unmoved, unharmed
from hasyncd.lab.lives import kill_backup, prove, return_to, status_of, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """One kill, and a return under traffic."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.5, 3.5))
    before = await call_roll(stage)
    async with watched(stage):
        fault = await kill_backup(stage, before)
        await _require_said(stage, before)
        await prove(stage, fault)
        await return_to(stage, before.backup)
        await stage.run_for(1.0)
        unharmed(stage, fault.at_ns, "the backup was dead, came back and synchronised")
    await require_unmoved(stage, before, "while the backup was dead and came back")


async def _require_said(stage: Stage, before: Roll) -> None:
    """Without a backup every flow is at risk (proto/sync.md §5), and the primary says so."""

    async def all_at_risk() -> bool:
        status = await status_of(stage, before.primary)
        return bool(
            status["sync"]["at_risk_flows"] >= stage.load.tcp
            and status["sync"]["state"] != "ready"
            and status["peer"]["state"] != "connected"
        )

    await stage.require_soon(all_at_risk, f"{before.primary} did not say that its flows are at risk", 10)


SCENARIO = Scenario(
    "kill-backup",
    "kill the backup and start it again: no question may be lost, every flow is said to be at risk meanwhile",
    play,
    datagrams_may_be_lost=False,
    ours_only=True,
)
