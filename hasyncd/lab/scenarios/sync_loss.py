"""The sync link loses frames at random, 1, 5 and 20 of a hundred each way: nobody may be taken for dead.

Heartbeats of the LANs arrive, so the pair stays as it is whatever the sync link loses. The stream is TCP: it grows
slow, not wrong, so at 1 and 5 % the backup has to catch up while frames are lost; at 20 % the stream may break and be
opened anew, and the backup has to catch up once the link is whole.
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
)
from hasyncd.lab.faults import Wires
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage

_LOSSES = (1, 5, 20)
_STREAM_LIVES_UP_TO = 5
_LOSSY_S = 3.0


async def play(stage: Stage) -> None:
    """Each loss for a while, whole again in between."""
    wires = Wires(stage.topology)
    await one_after_the_other(stage, [partial(_lose, stage, wires, percent) for percent in _LOSSES])


async def _lose(stage: Stage, wires: Wires, percent: int) -> Fault:
    before = await call_roll(stage)
    when = f"while the sync link lost {percent} % of its frames"
    fault = await strike(
        stage, lambda: wires.lose_on_sync(percent), "the sync link", f"lost {percent} % of its frames"
    )
    await stage.run_for(_LOSSY_S)
    if percent <= _STREAM_LIVES_UP_TO:
        await stage.require_soon(lambda: _caught_up(stage, before), f"{when}, the backup did not catch up")
    await require_unmoved(stage, before, when)
    stage.require(wires.dropped() > 0, f"{when}, none was lost: nothing was tested")
    unharmed(stage, fault.at_ns, f"the sync link lost {percent} % ({wires.dropped()} frames)")
    wires.heal()
    await require_whole(stage, before, f"after the sync link had lost {percent} %")
    await require_unmoved(stage, before, f"after the sync link had lost {percent} %")
    await _note(stage, before, percent)
    return fault


async def _caught_up(stage: Stage, before: Roll) -> bool:
    """The stream is up and brings what is new: the peer has confirmed what was written when the loss began."""
    sync = (await ask_both(stage))[before.primary]["sync"]
    return bool(sync["state"] == "ready" and sync["acked"] > before.statuses[before.primary]["sync"]["head"])


async def _note(stage: Stage, before: Roll, percent: int) -> None:
    then = before.statuses[before.primary]["sync"]
    now = (await ask_both(stage))[before.primary]["sync"]
    released = now["fail_open_released"] - then["fail_open_released"]
    stage.notes.append(
        f"{percent} %: {released} first packets left unconfirmed (fail_open), "
        f"{now['full_syncs'] - then['full_syncs']} full syncs"
    )


SCENARIO = Scenario(
    "sync-loss",
    "lose 1, 5 and 20 % of the sync link's frames: nobody is taken for dead",
    play,
    ours_only=True,
)
