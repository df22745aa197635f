"""A backup that is killed and started again five times in a row: no flow may notice, and each return costs one sync."""

from __future__ import annotations

from hasyncd.lab.acts import call_roll, calm_down, require_unmoved, unharmed
from hasyncd.lab.lives import kill_backup, return_to, status_of, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage

_RESTARTS = 5


async def play(stage: Stage) -> None:
    """Each kill comes up to half a second after the pair was ready again."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(0.5, 1.5))
    before = await call_roll(stage)
    syncs = (await status_of(stage, before.primary))["sync"]["full_syncs"]
    async with watched(stage):
        for number in range(_RESTARTS):
            stage.progress.step(f"restart {number + 1} of {_RESTARTS}")
            fault = await kill_backup(stage, before)
            await stage.run_for(stage.chance.uniform(0.0, 0.5))
            await return_to(stage, before.backup)
            calm_down(stage)  # what is opened all the time would grow into thousands
            await stage.run_for(stage.chance.uniform(0.0, 0.5))
        unharmed(stage, stage.faults[0].at_ns, "the backup came and went")
    await require_unmoved(stage, before, "while the backup came and went")
    made = (await status_of(stage, before.primary))["sync"]["full_syncs"] - syncs
    stage.require(made <= _RESTARTS, f"{_RESTARTS} restarts of the backup cost {made} full syncs")
    stage.notes.append(f"{_RESTARTS} restarts cost {made} full syncs")
    await stage.until_proven(fault)


SCENARIO = Scenario(
    "backup-restart-loop",
    "kill and start the backup five times in a row: nobody may notice, and each return costs one sync at most",
    play,
    datagrams_may_be_lost=False,
    deed="was killed as backup",
    ours_only=True,
)
