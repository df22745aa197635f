"""Both nodes die at once and boot together: nothing is kept, and the pair serves again, one primary, one history.

No flow outlives both its nodes: what was opened before the kill may be lost, and each loss is told. What is opened from
the kill on has to live, also what was opened while nobody was there: its kernel tries again.
"""

from __future__ import annotations

import asyncio

from hasyncd.lab.acts import NAMES, Roll, call_roll, nodes_of
from hasyncd.lab.lives import status_of, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.traffic.process import now_ns

_NOBODY_S = (0.2, 1.0)


async def play(stage: Stage) -> None:
    """Power fails, power returns."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    before = await call_roll(stage)
    async with watched(stage) as watch:
        stage.pair.kill(before.backup)
        fault = stage.mark_fault("the pair", stage.pair.kill(before.primary), "was killed")
        await asyncio.sleep(stage.chance.uniform(*_NOBODY_S))
        if stage.chance.random() < 0.5:
            stage.notes.append("what the nodes keep on disk was lost too")
            for name in NAMES:
                await asyncio.to_thread(nodes_of(stage).processes[name].wait)
                nodes_of(stage).forget(name)
            lost_disks = True
        else:
            lost_disks = False
        for name in NAMES:
            await stage.pair.restart(name)
        await _require_served(stage, before, fault, lost_disks)
        await stage.until_proven(fault)
    promoted = [name for name in NAMES if "primary" in watch.roles[name][1:]]
    stage.require(len(promoted) == 1, f"{' and '.join(promoted) or 'no node'} became primary after the boot")


async def _require_served(stage: Stage, before: Roll, fault: Fault, lost_disks: bool) -> None:
    async def one_primary() -> bool:
        statuses = [await stage.pair.status(name) for name in NAMES]
        roles = sorted(status["role"] for status in statuses if status is not None)
        if fault.promoted_ms is None and "primary" in roles:
            fault.promoted_ms = round((now_ns() - fault.at_ns) / 1e6, 1)
        return roles == ["backup", "primary"] and all(
            status["sync"]["state"] == "ready" for status in statuses if status is not None
        )

    await stage.require_soon(
        one_primary, "after the boot the pair did not become one primary and one ready backup"
    )
    generation = (await status_of(stage, await stage.pair.primary()))["generation"]
    stage.require(
        lost_disks or generation > before.generation,
        f"after the boot the generation was {generation}, and {before.generation} before: a number was used twice",
    )


SCENARIO = Scenario(
    "both-cold-boot",
    "kill both at once and start both: one primary, one history, and whatever is opened from the kill on lives",
    play,
    old_flows_may_be_lost=True,
    ours_only=True,
)
