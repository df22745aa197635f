"""The wall clocks of both nodes are stepped to and fro, hours and days, under traffic: no node may care.

Leases, silences and ages are counted by CLOCK_BOOTTIME. Only what people read has the wall clock's time, and the
certificates of a new stream are checked against it, so a killed node returns at the end with clocks hours apart.
"""

from __future__ import annotations

import time
from datetime import datetime

from hasyncd.lab.acts import (
    NAMES,
    Roll,
    call_roll,
    nodes_of,
    require_owner,
    require_unmoved,
    require_whole,
    unharmed,
)
from hasyncd.lab.clocks import Clocks, wall_clock_timers
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.nodes import Nodes
from hasyncd.lab.pair import Pair
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage
from hasyncd.lab.topology import Topology

_HOUR_S, _DAY_S = 3600.0, 86_400.0
_STEPS = 40
_STEP_EVERY_S = 0.04
_SHOWN_WITHIN_S = 60.0


async def play(stage: Stage) -> None:
    """Steps, then a kill and a return with stepped clocks."""
    clocks = Clocks(stage.topology.directory)
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    before = await call_roll(stage)
    stepped = stage.mark_fault("the pair", None, "had its wall clocks stepped")
    await _step(stage, clocks, before)
    await require_unmoved(stage, before, "while wall clocks were stepped")
    unharmed(stage, stepped.at_ns, f"wall clocks were stepped {_STEPS} times, up to a day")
    for name, process in nodes_of(stage).processes.items():
        timers = wall_clock_timers(process.pid)
        stage.require(not timers, f"{name} has timers that run by the wall clock: {timers}")
        stage.require(clocks.reads(name) > 0, f"{name} does not read the stepped clock: nothing was tested")
    clocks.set(before.primary, _HOUR_S)
    clocks.set(before.backup, -_HOUR_S)
    fault = await stage.kill_primary()
    fault.deed = "was killed"
    _require_shown(stage, before)
    await stage.until_proven(fault)
    await stage.recover(fault)
    await require_whole(stage, before, "with wall clocks two hours apart")
    await require_owner(stage, before.backup, "with wall clocks two hours apart")


async def _step(stage: Stage, clocks: Clocks, before: Roll) -> None:
    """First one node, then the other, an hour each; then both at random, up to a day."""
    for name, offset_s in (
        (before.primary, _HOUR_S), (before.backup, -_HOUR_S), (before.primary, -_HOUR_S)
    ):  # fmt: skip
        clocks.set(name, offset_s)
        await stage.run_for(0.5)
    for _ in range(_STEPS):
        for name in NAMES:
            clocks.set(name, stage.chance.choice((1, 60, _DAY_S)) * stage.chance.uniform(-1, 1))
        await stage.run_for(_STEP_EVERY_S)


def _require_shown(stage: Stage, before: Roll) -> None:
    """The steps were real: what the survivor logs for people bears the stepped time."""
    said = before.events.of(before.backup, "role_changed")
    times = [datetime.fromisoformat(each["time"]).timestamp() for each in said]
    time_now = time.time()
    off = [each - time_now for each in times]
    stage.require(
        any(abs(each + _HOUR_S) < _SHOWN_WITHIN_S for each in off),
        f"{before.backup}'s log does not bear its stepped time (off by {off} s): nothing was tested",
    )


def prepare(topology: Topology, pair: Pair) -> None:
    """Both nodes start with a clock that can be stepped."""
    if not isinstance(pair, Nodes):
        raise LabError("clock-step is for hasyncd alone")
    clocks = Clocks(topology.directory)
    clocks.build()
    pair.environment.update({name: clocks.environment(name) for name in NAMES})


SCENARIO = Scenario(
    "clock-step",
    "step the nodes' wall clocks by seconds, hours and days under traffic, then kill: nobody may care",
    play,
    prepare=prepare,
    ours_only=True,
)
