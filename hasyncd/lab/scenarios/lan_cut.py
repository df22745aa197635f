"""One gateway loses one LAN, no carrier goes down, and it gets it back: the backup's first, then the primary's.

Without the backup's LAN nothing may be felt: a path of the heartbeats is down and that is said. Without the primary's
the traffic there rests, for its neighbours cannot reach it. The pair has no rule yet by which the better connected node
takes over (proto/pair.md §5b: silent is who is silent on every path), so the promise is that nothing makes it worse:
never two owners, every flow goes on when the LAN is back, and nobody has to do anything for that.
"""

from __future__ import annotations

from functools import partial

from hasyncd.lab.acts import (
    Roll,
    ask_both,
    call_roll,
    one_after_the_other,
    require_unmoved,
    require_whole,
    strike,
    unharmed,
    until_alive,
)
from hasyncd.lab.faults import Wires
from hasyncd.lab.pair import other
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage

_SIDES = ("inside", "outside")
_CUT_S = 1.2


async def play(stage: Stage) -> None:
    """Four cuts, one after the other."""
    wires = Wires(stage.topology)
    cuts = [
        partial(_cut, stage, wires, side, of_primary=of_primary)
        for of_primary in (False, True)
        for side in _SIDES
    ]
    await one_after_the_other(stage, cuts)


async def _cut(stage: Stage, wires: Wires, side: str, *, of_primary: bool) -> Fault:
    before = await call_roll(stage)
    name = before.primary if of_primary else before.backup
    who = "primary" if of_primary else "backup"
    when = f"while the {who} had no {side} LAN"
    fault = await strike(stage, lambda: wires.cut_lan(name, side), name, f"lost its {side} LAN")
    await stage.run_for(_CUT_S)
    await _require_told(stage, before, side, when)
    stage.require(wires.dropped() > 0, f"{when}, no frame was dropped: nothing was tested")
    if not of_primary:
        await require_unmoved(stage, before, when)
        await _require_ready(stage, when)
    wires.heal()
    await require_whole(stage, before, f"after {name} had its {side} LAN again")
    await until_alive(stage, fault)
    promoted = before.events.promotions()
    stage.require(
        len(promoted) <= 1 and all(each == other(name) for each, _ in promoted),
        f"{when}, promoted was {promoted}",
    )
    if not of_primary:
        unharmed(stage, fault.at_ns, f"the {who} had no {side} LAN")
    elif promoted:
        stage.notes.append(f"{when}, {promoted[0][0]} took over ({promoted[0][1]})")
    else:
        stage.notes.append(f"{when}, its flows there rested and nobody took over: a LAN alone is no death")
    return fault


async def _require_told(stage: Stage, before: Roll, side: str, when: str) -> None:
    for name, status in (await ask_both(stage)).items():
        up = {path["name"]: path["up"] for path in status["peer"]["paths"]}
        stage.require(up.get(side) is False, f"{when}, {name} saw the paths as {up}")
        told = [
            detail for detail in before.events.details(name, "path_down") if detail.startswith(f"{side}:")
        ]
        stage.require(len(told) == 1, f"{when}, {name} said path_down {len(told)} times of it")


async def _require_ready(stage: Stage, when: str) -> None:
    for name, status in (await ask_both(stage)).items():
        state = status["sync"]["state"]
        stage.require(state == "ready", f"{when}, {name} called its sync {state}")


SCENARIO = Scenario(
    "lan-cut",
    "cut one LAN of the backup, then of the primary: never two owners, no flow ends",
    play,
    ours_only=True,
)
