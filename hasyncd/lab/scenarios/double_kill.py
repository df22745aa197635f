"""Kill the primary, bring it back as backup, wait until it is ready, kill the new primary."""

from __future__ import annotations

from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """Two kills; the flows of before the first have to survive the second too."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.5, 3.5))
    first = await stage.kill_primary()
    await stage.until_proven(first)
    await stage.recover(first)
    await stage.run_for(stage.chance.uniform(1.0, 3.0))
    await stage.until_proven(await stage.kill_primary())


SCENARIO = Scenario(
    "double-kill", "kill, let the killed node return and synchronise, kill the new primary", play
)
