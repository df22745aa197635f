"""A backup that stops and goes on, for moments and for seconds: the primary forwards on, bounded, and says what it did.

Short stops are within the patience of the pair: nobody may notice. Long ones are deaths that were none: what waits for
confirmation is released (`fail_open`), and the backup wakes late and must not take what it sees for a dead primary. At
each of them the primary pauses for a fifth of dead_after, from the end of its lease until it acts alone (proto/pair.md,
P3): some datagrams are lost then, and told.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from hasyncd.lab.acts import Roll, call_roll, nodes_of, require_unmoved, require_whole, strike, unharmed
from hasyncd.lab.lives import memory_of, status_of, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage
from hasyncd.lab.traffic.process import now_ns

_SHORT, _LONG = ((0.04, 0.16, 12),), ((0.4, 0.3, 4), (3.0, 1.0, 1))
"""Seconds stopped, seconds running, how often."""
_GROWTH_MOST = 64 << 20


async def play(stage: Stage) -> None:
    """Short stops, long ones, a very long one."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    before = await call_roll(stage)
    pid = nodes_of(stage).processes[before.backup].pid
    held = memory_of(stage, before.primary)

    async with watched(stage) as watch:
        try:
            fault = await strike(
                stage, lambda: _stop(pid), before.backup, "stopped and went on again and again"
            )
            os.kill(pid, signal.SIGCONT)
            await _stop_and_go(stage, pid, _SHORT)
            unharmed(stage, fault.at_ns, "the backup stopped for moments")
            long_ns = now_ns()
            await _stop_and_go(stage, pid, _LONG)
        finally:
            os.kill(pid, signal.SIGCONT)
        await require_whole(stage, before, "after the backup had stopped for the last time")
        await stage.until_proven(fault)
        unharmed(stage, long_ns, "the backup stopped for longer than it may be silent", strict=False)
    stage.require(
        "primary" not in watch.roles[before.backup], f"{before.backup} took over from a primary that lived"
    )
    await require_unmoved(stage, before, "while the backup stopped and went on")
    await _require_bounded(stage, before, held)


def _stop(pid: int) -> int:
    os.kill(pid, signal.SIGSTOP)
    return now_ns()


async def _stop_and_go(stage: Stage, pid: int, stops: Sequence[tuple[float, float, int]]) -> None:
    for stopped_s, running_s, times in stops:
        for _ in range(times):
            _stop(pid)
            stage.crew.order(do="burst", count=2)
            await stage.run_for(stopped_s)
            os.kill(pid, signal.SIGCONT)
            await stage.run_for(running_s * stage.chance.uniform(0.5, 1.5))


async def _require_bounded(stage: Stage, before: Roll, held: int) -> None:
    grown = memory_of(stage, before.primary) - held
    stage.require(
        grown < _GROWTH_MOST, f"{before.primary} grew by {grown >> 20} MiB while its backup was slow"
    )
    sync = (await status_of(stage, before.primary))["sync"]
    released = sync["fail_open_released"]
    stage.require(released > 0, "no first packet was released unconfirmed: the backup was not slow at all")
    stage.notes.append(
        f"{released} first packets left unconfirmed (fail_open); {before.primary} grew by {max(0, grown) >> 10} KiB"
    )


SCENARIO = Scenario(
    "slow-backup",
    "stop the backup again and again, for 40 ms to 3 s: the primary forwards on, bounded, and nobody takes over",
    play,
    ours_only=True,
)
