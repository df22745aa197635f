"""Wires that work in one direction only: of the sync link, of a LAN, of everything a node has.

What each must bring is in `CUTS`.

    still   nobody moves and no question is lost
    blinks  a primary that does not hear its backup loses its licence a little before it may act alone (the lease is
            shorter than dead_after: proto/pair.md, P3), and goes on; nobody moves
    rests   traffic that needs the lost direction waits for it; nobody moves, every flow goes on afterwards
    moves   the backup hears nobody and takes over; the old primary hears the higher generation and follows

"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from hasyncd.lab.acts import (
    Roll,
    call_roll,
    nodes_of,
    one_after_the_other,
    require_owner,
    require_unmoved,
    require_whole,
    strike,
    unharmed,
    until_alive,
    until_promoted,
)
from hasyncd.lab.faults import FROM, TO, Wires
from hasyncd.lab.pair import other
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage

_SIDES = ("inside", "outside")
_CUT_S = 1.0


class Brings(enum.Enum):
    """What a cut must bring."""

    STILL = "still"
    BLINKS = "blinks"
    RESTS = "rests"
    MOVES = "moves"


@dataclass(frozen=True, slots=True)
class Cut:
    """One direction that is lost."""

    of_primary: bool
    sides: tuple[str, ...]
    """`sync`, `inside`, `outside`."""
    way: str
    """`FROM` that node, or `TO` it."""
    brings: Brings

    def make(self, wires: Wires, name: str) -> int:
        """Cuts; the moment after the last wire was."""
        moment = 0
        for side in self.sides:
            if side == "sync":
                moment = wires.cut_sync(name if self.way == TO else other(name))
            else:
                moment = wires.cut_lan(name, side, self.way)
        return moment

    @property
    def deed(self) -> str:
        """`was not heard on …`, said of the node."""
        where = "any link" if len(self.sides) == 3 else self.sides[0]
        return f"was not heard on {where}" if self.way == FROM else f"heard nothing on {where}"


CUTS = (
    Cut(True, ("sync",), FROM, Brings.STILL),
    Cut(True, ("sync",), TO, Brings.STILL),
    *(Cut(False, (side,), way, Brings.STILL) for side in _SIDES for way in (FROM, TO)),
    *(Cut(True, (side,), way, Brings.RESTS) for side in _SIDES for way in (FROM, TO)),
    Cut(False, ("sync", *_SIDES), FROM, Brings.BLINKS),
    Cut(True, ("sync", *_SIDES), TO, Brings.RESTS),
    Cut(True, ("sync", *_SIDES), FROM, Brings.MOVES),
)


def acts(cuts: tuple[Cut, ...]) -> Callable[[Stage], Awaitable[None]]:
    """Plays these cuts one after the other."""

    async def play(stage: Stage) -> None:
        wires = Wires(stage.topology)
        await one_after_the_other(stage, [partial(_cut, stage, wires, cut) for cut in cuts])

    return play


async def _cut(stage: Stage, wires: Wires, cut: Cut) -> Fault:
    before = await call_roll(stage)
    name = before.primary if cut.of_primary else before.backup
    when = f"while {name}, the {'primary' if cut.of_primary else 'backup'}, {cut.deed}"
    fault = await strike(stage, lambda: cut.make(wires, name), name, cut.deed)
    if cut.brings is Brings.MOVES:
        await until_promoted(stage, fault, before.backup)
    await stage.run_for(_CUT_S)
    stage.require(wires.dropped() > 0, f"{when}, no frame was dropped: nothing was tested")
    await _require_outcome(stage, before, cut, when)
    blink_ns = 2 * nodes_of(stage).dead_after_ns if cut.brings is Brings.BLINKS else 0
    if cut.brings in (Brings.STILL, Brings.BLINKS):
        unharmed(stage, fault.at_ns + blink_ns, when.removeprefix("while "))
    wires.heal()
    await require_whole(stage, before, f"after {name} {cut.deed}")
    await _require_outcome(stage, before, cut, f"after {name} {cut.deed}")
    await until_alive(stage, fault)
    return fault


async def _require_outcome(stage: Stage, before: Roll, cut: Cut, when: str) -> None:
    if cut.brings is Brings.MOVES:
        await require_owner(stage, before.backup, when)
    else:
        await require_unmoved(stage, before, when)


SCENARIO = Scenario(
    "one-way-cut",
    f"lose one direction of the sync link, of a LAN, of all links: {len(CUTS)} cuts, each with its promise",
    acts(CUTS),
    ours_only=True,
)
