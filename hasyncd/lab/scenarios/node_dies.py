"""The machine of the primary is gone without a word: all its links at once, at a random moment, under traffic."""

from __future__ import annotations

from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """One cut; nothing says that the peer is dead, so its silence has to."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.5, 3.5))
    await stage.until_proven(await stage.cut_off_primary())


SCENARIO = Scenario(
    "node-dies",
    "cut all links of the primary at once: only its silence tells that it is gone",
    play,
    deed="died silently",
)
