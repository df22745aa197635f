"""The network falls in two halves, one gateway in each, and is made whole: one stays, and no flow is remapped.

Nobody can know more than that the other is silent, so with `prefer = "availability"` both own the addresses, each on
its own half (proto/pair.md §7). When the halves meet, the lower rank mutes itself within two heartbeats: the bridges
tell. The hosts are first in the half of the node that will win, then in the half of the one that will lose: its flows
of before the split live on in the winner, whose table is that of the moment of the split. No connection is opened in
that half meanwhile: whether those live is not promised here.
"""

from __future__ import annotations

from contextlib import closing

from hasyncd.lab.acts import (
    Roll,
    ask_both,
    call_roll,
    calm_down,
    nodes_of,
    require_owner,
    require_whole,
    strike,
    until_promoted,
)
from hasyncd.lab.faults import Wires
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.tap import Sighting, Tap, summary

_SPLIT_S = 2.0
_MEET_S = 1.0
_LISTEN_S = 0.2
_FIRST, _SECOND = "hosts beside the winner", "hosts beside the loser"


async def play(stage: Stage) -> None:
    """Two splits. The backup's generation is the higher one each time, so it wins each time."""
    wires = Wires(stage.topology)
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    roll = await call_roll(stage)
    healed = await _split(stage, wires, roll, roll.primary, _FIRST)
    await stage.until_proven(healed)
    calm_down(stage)
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    stage.crew.order(do="calm")
    await stage.run_for(0.3)  # what was opened last is confirmed
    roll = await call_roll(stage)
    healed = await _split(stage, wires, roll, roll.backup, _SECOND)
    await stage.until_proven(healed)


async def _split(stage: Stage, wires: Wires, before: Roll, alone: str, name: str) -> Fault:
    """Sets one gateway apart from everybody, waits until both are primary, and lets them meet."""
    winner, loser = before.backup, before.primary

    def blow() -> int:
        wires.cut_sync()
        return wires.set_apart([alone])

    split = (
        await strike(stage, blow, alone, f"was split off ({name})")
        if name == _FIRST
        else stage.mark_fault(alone, blow(), f"was split off ({name})")
    )
    await until_promoted(stage, split, winner)
    await stage.run_for(_SPLIT_S)
    for each, status in (await ask_both(stage)).items():
        stage.require(
            status["role"] == "primary",
            f"with {name}, {each} was {status['role']} in its half: nobody forwarded there",
        )
    with closing(Tap(stage.topology, loser)) as tap:
        await stage.run_for(_LISTEN_S)
        met_ns = wires.join()
        wires.heal()
        healed = stage.mark_fault("the network", met_ns, "was whole again")
        await stage.run_for(_MEET_S)
        heard = tap.read()
        seen = [each for each in heard if each.at_ns >= met_ns]
        if name == _SECOND:
            stage.require(
                len(heard) > len(seen), f"the tap did not see {loser} forward before the halves met"
            )
        stage.require(tap.lost == 0, f"the tap lost {tap.lost} frames: its count proves nothing")
    _judge_meeting(stage, seen, loser, met_ns, name)
    await require_whole(stage, before, f"after the split ({name})")
    await require_owner(stage, winner, f"after the split ({name})")
    promoted = before.events.promotions()
    stage.require(
        [each for each, _ in promoted] == [winner], f"with {name}, promoted was {promoted}, not {winner} once"
    )
    return healed


def _judge_meeting(stage: Stage, seen: list[Sighting], loser: str, met_ns: int, name: str) -> None:
    """Two owners on one LAN: for how long after the halves have met."""
    allowed_ns = 2 * nodes_of(stage).dead_after_ns // 3
    late = [each for each in seen if each.at_ns > met_ns + allowed_ns]
    stage.require(
        not late,
        f"with {name}, {loser} still spoke for the pair {allowed_ns / 1e6:.0f} ms after the halves had met: "
        f"{summary(late)}",
    )
    last_ms = (seen[-1].at_ns - met_ns) / 1e6 if seen else 0
    stage.notes.append(
        f"{name}: the bridges saw {loser} speak for the pair for {last_ms:.0f} ms after the halves had met "
        f"({len(seen)} frames)"
    )


SCENARIO = Scenario(
    "split-and-heal",
    "split the network in two and heal it, twice: one owner stays, no flow is remapped",
    play,
    ours_only=True,
)
