"""A table without a free place: new flows are refused and counted, those that are in it live, through a kill too."""

from __future__ import annotations

from dataclasses import replace

from hasyncd.lab.acts import call_roll
from hasyncd.lab.crew import Load
from hasyncd.lab.lives import require_complete, status_of, watched
from hasyncd.lab.scenarios.scenario import Edits, Scenario
from hasyncd.lab.stage import Stage

_LEAST_CAPACITY = 1024
_ROOM = 500


def _capacity(load: Load) -> int:
    return max(_LEAST_CAPACITY, load.tcp + load.udp + load.background + _ROOM)


def _edits(load: Load) -> Edits:
    return (("[node]\n", f"[node]\ncapacity = {_capacity(load)}\n"),)


async def play(stage: Stage) -> None:
    """Twice as many idle flows as there is room for, then a kill."""
    capacity = _capacity(stage.load)
    await stage.open_flows()
    before = await call_roll(stage)
    await stage.crew.start_background(2 * capacity)

    async def full() -> bool:
        status = await status_of(stage, before.primary)
        stage.progress.step("filling the table", status["flows"]["total"], capacity)
        return bool(status["flows"]["total"] == capacity and status["counters"]["drop_table_full"])

    async def full_there_too() -> bool:
        return bool((await status_of(stage, before.backup))["flows"]["total"] == capacity)

    async with watched(stage):
        await stage.require_soon(full, f"the table of {capacity} flows never refused one")
        await stage.require_soon(
            full_there_too, f"the backup does not hold the {capacity} flows of the primary"
        )
        await stage.run_for(stage.chance.uniform(1.0, 2.0))
        refused = (await status_of(stage, before.primary))["counters"]["drop_table_full"]
        state = (await status_of(stage, before.primary))["sync"]["state"]
        stage.require(state == "ready", f"with a full table the pair was {state} and not ready")
        fault = await stage.kill_primary()
    await require_complete(stage, fault)
    await stage.until_proven(fault)
    stage.notes.append(
        f"a table of {capacity:,} flows was full, and {refused:,} packets of new ones were refused"
    )


SCENARIO = Scenario(
    "table-full",
    "fill a small table: new flows are refused and counted, those in it live, through a kill too",
    play,
    ours_only=True,
    load=lambda load: replace(load, open_rate=0.0),
    edits=_edits,
)
