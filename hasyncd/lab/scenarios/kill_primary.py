"""SIGKILL the primary at a random moment, under traffic that keeps opening connections."""

from __future__ import annotations

from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """One kill."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.5, 3.5))
    await stage.until_proven(await stage.kill_primary())


SCENARIO = Scenario(
    "kill-primary", "kill the primary under traffic: every flow must live on the backup", play
)
