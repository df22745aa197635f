"""All cores burnt by others: no node may take its peer for dead, and a kill in the middle of it is survived."""

from __future__ import annotations

import os

from hasyncd.lab.acts import call_roll, require_unmoved
from hasyncd.lab.lives import burnt_cores, require_complete, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage

_BURNERS_A_CORE = 2
_STARVED_S = 8.0


async def play(stage: Stage) -> None:
    """Starved for a while, then killed, starved still."""
    await stage.open_flows()
    await stage.run_for(1.0)
    before = await call_roll(stage)
    burners = _BURNERS_A_CORE * (os.cpu_count() or 1)
    with burnt_cores(stage, burners):
        async with watched(stage):
            await stage.run_for(_STARVED_S)
        await require_unmoved(stage, before, "while the cores were burnt")
        fault = await stage.kill_primary()
        await require_complete(stage, fault)
        await stage.until_proven(fault)
    stage.notes.append(f"{burners} processes burnt {os.cpu_count()} cores from before the kill to the end")


SCENARIO = Scenario(
    "cpu-starved",
    "burn every core twice over: nobody may take over, and a kill in it is survived",
    play,
    ours_only=True,
)
