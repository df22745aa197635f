"""The witness' register and what may be written into it: proto/pair.md §7b.

Pure and total: whoever holds the register compares it with a request here and writes what comes out in one
compare-and-swap, or nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

GENERATION_MAX = (1 << 63) - 1
"""A register that names a higher one is not believed: no pair comes to it, and etcd may be anybody's."""


class Kind(enum.Enum):
    LOOK = "look"
    """Nothing is to be written."""
    CLAIM = "claim"
    """To act alone."""
    NOTE = "note"
    """A paired primary's: the generation, and that nobody acts alone."""
    RELEASE = "release"
    """Of what this node held and does not use."""


@dataclass(frozen=True, slots=True)
class Register:
    node: str
    """Who wrote last."""
    boot_id: int
    generation: int
    alone: bool
    """The writer may act alone in this generation."""
    number: int
    """Of the writer's request: a second copy of it finds that it is done."""


@dataclass(frozen=True, slots=True)
class Request:
    kind: Kind
    node: str
    boot_id: int
    number: int
    generation: int
    """Of the register where it is written."""
    promotes: bool = False
    """CLAIM: the generation is a new one, and nobody may have had it."""
    over: tuple[int, ...] = ()
    """CLAIM: processes of the peer's that are proven dead, or have left."""
    forced: bool = False
    """CLAIM: an operator's, over whoever it may be."""


class Outcome(enum.Enum):
    GRANTED = "granted"
    REFUSED = "refused"
    """The peer acts alone."""
    STALE = "stale"
    """The register knows a generation that this node does not."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Answer:
    outcome: Outcome
    register: Register | None
    """As it is after the request; None: there is none (or it could not be read)."""
    detail: str = ""
    """Why it was unreachable."""


def judge(register: Register | None, request: Request) -> Answer:
    """What the register says to the request. GRANTED with a register other than `register`: write that one, if
    nobody else has written meanwhile.
    """
    if register is None:
        empty = request.kind in (Kind.LOOK, Kind.RELEASE)
        return Answer(Outcome.GRANTED, None if empty else _written(request))
    mine = register.node == request.node
    match request.kind:
        case Kind.LOOK:
            return Answer(Outcome.GRANTED, register)
        case Kind.RELEASE:
            if not (mine and register.alone):
                return Answer(Outcome.GRANTED, register)
            # A former life may have been armed in its number; this one knows that it was not.
            used = 0 if register.boot_id == request.boot_id else register.generation
            return Answer(Outcome.GRANTED, _written(request, at_least=used))
        case Kind.NOTE:
            outcome = Outcome.GRANTED if register.generation <= request.generation else Outcome.STALE
        case Kind.CLAIM:
            outcome = _judge_claim(register, request, mine=mine)
    return Answer(outcome, _written(request) if outcome is Outcome.GRANTED else register)


def _judge_claim(register: Register, request: Request, *, mine: bool) -> Outcome:
    used_up = register.generation >= request.generation
    if register.alone and not mine:
        if request.forced:
            return Outcome.STALE if used_up else Outcome.GRANTED
        # A number that is not below ours was taken after the death we know of.
        is_gone = register.boot_id in request.over and not used_up
        return Outcome.GRANTED if is_gone else Outcome.REFUSED
    if not request.promotes or (mine and register.boot_id == request.boot_id):
        used_up = register.generation > request.generation
    return Outcome.STALE if used_up else Outcome.GRANTED


def _written(request: Request, at_least: int = 0) -> Register:
    generation = max(request.generation, at_least)
    return Register(request.node, request.boot_id, generation, request.kind is Kind.CLAIM, request.number)
