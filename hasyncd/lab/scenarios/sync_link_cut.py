"""The sync link is cut and mended while the LANs work: nobody may be promoted, and no question may be lost.

Heartbeats go over the LANs too, so the pair knows that both live. What the backup missed is sent when the link is back,
and only that.
"""

from __future__ import annotations

from hasyncd.lab.acts import (
    Roll,
    ask_both,
    call_roll,
    require_unmoved,
    require_whole,
    strike,
    unharmed,
)
from hasyncd.lab.faults import Wires
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage

_CUT_S = 3.0
_WHEN = "while the sync link was cut"


async def play(stage: Stage) -> None:
    """One cut of both directions, long enough for hundreds of new flows."""
    wires = Wires(stage.topology)
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    before = await call_roll(stage)
    cut = await strike(stage, wires.cut_sync, "the pair", "lost its sync link")
    await stage.run_for(_CUT_S)
    await _require_told(stage, before)
    await require_unmoved(stage, before, _WHEN)
    stage.require(wires.dropped() > 0, "the cut has dropped no frame: nothing was tested")
    healed = stage.mark_fault("the pair", wires.heal(), "has it again")
    await require_whole(stage, before, "after the sync link was mended")
    await require_unmoved(stage, before, "when the sync link was mended")
    await _require_little_sent(stage, before)
    unharmed(stage, cut.at_ns, "the sync link was cut and mended")
    await stage.until_proven(healed)


async def _require_told(stage: Stage, before: Roll) -> None:
    """Both say what is the matter."""
    for name, status in (await ask_both(stage)).items():
        sync, paths = status["sync"], {path["name"]: path["up"] for path in status["peer"]["paths"]}
        stage.require(
            (sync["state"], sync["reason"]) == ("degraded", "path_down: sync"),
            f"{_WHEN}, {name} called its sync {sync['state']} ({sync['reason']})",
        )
        stage.require(
            paths == {"sync": False, "inside": True, "outside": True},
            f"{_WHEN}, {name} saw the paths as {paths}",
        )
        told = [detail for detail in before.events.details(name, "path_down") if detail.startswith("sync:")]
        stage.require(len(told) == 1, f"{_WHEN}, {name} said path_down {len(told)} times of it")


async def _require_little_sent(stage: Stage, before: Roll) -> None:
    """The backup has what it had: only what it missed is sent."""
    after = (await ask_both(stage))[before.primary]
    sync = after["sync"]
    full = sync["full_syncs"] - before.statuses[before.primary]["sync"]["full_syncs"]
    stage.require(full == 0, f"a mended sync link cost {full} full syncs of {after['flows']['total']} flows")
    last = sync["last"] or {}
    stage.notes.append(
        f"{last.get('flows_sent')} of {after['flows']['total']} flows were sent anew when the link was mended "
        f"({last.get('kind')}); {sync['fail_open_released']} first packets left unconfirmed"
    )


SCENARIO = Scenario(
    "sync-link-cut",
    "cut the sync link and mend it: nobody moves, nothing is lost, little is sent anew",
    play,
    ours_only=True,
)
