"""SIGKILL a backend: its connections end with it, those of the others are not touched, and nobody new is led to it."""

from __future__ import annotations

from hasyncd.lab.acts import Roll, call_roll, require_unmoved, unharmed
from hasyncd.lab.backends import (
    HEALTH_EDITS,
    begin_change,
    close_to_new_flows,
    end_change,
    kill_backend,
    note_death,
    require_equal_tables,
    require_no_flap,
    start_backends,
    until_state,
)
from hasyncd.lab.lives import kill_again, require_complete, watched
from hasyncd.lab.pair import other
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """One death, found by the health checks of both nodes; its return; then the primary is killed."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    number = stage.chance.choice((21, 22))
    before = await call_roll(stage)
    async with watched(stage):
        await _lose_and_regain(stage, before, number)
    await require_unmoved(stage, before, f"while backend {number} was dead and came back")
    before = await call_roll(stage)
    fault = await kill_again(stage)
    await require_complete(stage, fault)
    await require_no_flap(stage, before, other(fault.node))


async def _lose_and_regain(stage: Stage, before: Roll, number: int) -> None:
    dying = await begin_change(stage, f"backend {number} died")
    death = kill_backend(stage, number)
    known_ns = await until_state(stage, number, "down")
    note_death(stage, number, death.at_ns, known_ns)
    stage.notes.append(f"both nodes knew after {(known_ns - death.at_ns) / 1e6:.0f} ms")
    await require_equal_tables(stage, f"after backend {number} died")
    await stage.until_proven(death)
    await end_change(stage, dying)
    await start_backends(stage, number)
    back_ns = await until_state(stage, number, "up")
    close_to_new_flows(stage, number, known_ns, "was known to be dead", back_ns)
    await require_equal_tables(stage, f"after backend {number} came back")
    told = {name: before.events.details(name, "backend_down") for name in (before.primary, before.backup)}
    stage.require(bool(told[before.primary]), f"{before.primary} did not log that backend {number} was down")
    unharmed(stage, death.at_ns, f"backend {number} was dead")


SCENARIO = Scenario(
    "backend-dies",
    "kill a backend: flows of the others are not touched, new ones avoid it; it returns; then a kill of the primary",
    play,
    ours_only=True,
    edits=lambda _: HEALTH_EDITS,
)
