"""Drain a backend: its flows go on, nobody new is led to it, on neither node, and a takeover does not forget it."""

from __future__ import annotations

from hasyncd.lab.acts import call_roll, require_unmoved, unharmed
from hasyncd.lab.backends import (
    HEALTH_EDITS,
    begin_change,
    close_to_new_flows,
    end_change,
    order,
    require_equal_tables,
    require_no_flap,
    until_state,
)
from hasyncd.lab.lives import kill_again
from hasyncd.lab.pair import other
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage
from hasyncd.lab.traffic.process import now_ns

_LONG_ENOUGH_S = 3.0
"""New flows are opened all the time; so many of them that one of the drained backend's would show."""


async def play(stage: Stage) -> None:
    """Drained under traffic, through a takeover, and taken in again by the node that took over."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    number = stage.chance.choice((21, 22))
    before = await call_roll(stage)
    began_ns = now_ns()
    change = await begin_change(stage, f"backend {number} drains")
    stage.progress.step(f"backend {number} is drained")
    await order(stage, before.primary, "drain", backend=number)
    drained_ns = await until_state(stage, number, "drain")
    await require_equal_tables(stage, "after the drain")
    await stage.run_for(_LONG_ENOUGH_S)
    await end_change(stage, change)
    await require_unmoved(stage, before, f"while backend {number} drained")
    unharmed(stage, began_ns, f"backend {number} drained")
    before = await call_roll(stage)
    fault = await kill_again(stage)
    survivor = other(fault.node)
    await require_no_flap(stage, before, survivor)
    # Only what was in force for sure: the order is on its way until both tables are published.
    close_to_new_flows(stage, number, drained_ns, "was drained", until_ns=now_ns())
    await order(stage, survivor, "undrain", backend=number)
    await stage.run_for(1.0)


SCENARIO = Scenario(
    "drain-backend",
    "drain a backend: its flows go on, new ones avoid it, also after a kill of the primary",
    play,
    ours_only=True,
    edits=lambda _: HEALTH_EDITS,
)
