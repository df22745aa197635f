"""Who owns the addresses: the role machine of proto/pair.md §3.

1. Every role change goes through `TRANSITIONS`; nothing else assigns `role`. An event that has no row for
   the present role changes nothing.
2. This file does not know which node we are, what time it is, or that a flow table exists: it is told
   what happened (`Event`) and says what follows.
3. The event's value is its text in the table of proto/pair.md; a test compares both.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hasyncd.core.messages import Heartbeat
from hasyncd.core.types import Role

Rank = tuple[int, int, str]
"""(generation, priority, node name): higher first."""


class Event(enum.Enum):
    HEARD_PRIMARY = "heard a primary"
    LISTENED_ALONE = "listen ended, nobody heard, prefer = availability"
    LISTENED_UNSURE = "listen ended, nobody heard, prefer = safety"
    LISTENED_RANKED_HIGHER = "listen ended, peer in `init` of lower rank"
    LISTENED_RANKED_LOWER = "listen ended, peer in `init` of higher rank or in `backup`"
    LISTENED_PEER_LEFT = "listen ended, peer has left or is in `fault`"
    PEER_SILENT = "peer silent for dead_after, prefer = availability"
    PEER_SILENT_WAITING = "peer silent for dead_after, prefer = availability, not complete, `wait_ms` to go"
    PEER_SILENT_UNSURE = "peer silent for dead_after, prefer = safety"
    PEER_DEAD = "peer's process is dead (§6)"
    HANDED_OVER = "LEAVING with handover, everything up to its sequence installed"
    PEER_LEFT = "peer left without handover (flag `leaving`)"
    NOBODY_LEADS = "peer in `backup` too, for dead_after"
    FORCED = "operator `switchover --force`"
    HEARD_HIGHER_PRIMARY = "heard a primary of higher rank"
    SWITCHOVER = "operator `switchover`, peer ready"
    FITTER = "peer fitter (§4e), peer ready"
    STOP = "stop (SIGTERM), peer ready"
    FAULT = "own fault (interface gone or none up, generation cannot be written, stepped aside (§4e))"
    FAULT_CLEARED = "fault cleared"


@dataclass(frozen=True, slots=True)
class Outcome:
    role: Role
    solo: bool | None = None
    """How a promotion begins; None for every other change."""


_SOLO = Outcome(Role.PRIMARY, solo=True)
_PAIRED = Outcome(Role.PRIMARY, solo=False)

TRANSITIONS: dict[tuple[Role, Event], Outcome] = {
    (Role.INIT, Event.HEARD_PRIMARY): Outcome(Role.BACKUP),
    (Role.INIT, Event.LISTENED_ALONE): _SOLO,
    (Role.INIT, Event.LISTENED_UNSURE): Outcome(Role.INIT),
    (Role.INIT, Event.LISTENED_RANKED_HIGHER): _PAIRED,
    (Role.INIT, Event.LISTENED_RANKED_LOWER): Outcome(Role.INIT),
    (Role.INIT, Event.LISTENED_PEER_LEFT): _SOLO,
    (Role.INIT, Event.FORCED): _SOLO,
    (Role.BACKUP, Event.PEER_SILENT): _SOLO,
    (Role.BACKUP, Event.PEER_SILENT_WAITING): Outcome(Role.BACKUP),
    (Role.BACKUP, Event.PEER_SILENT_UNSURE): Outcome(Role.BACKUP),
    (Role.BACKUP, Event.PEER_DEAD): _SOLO,
    (Role.BACKUP, Event.HANDED_OVER): _PAIRED,
    (Role.BACKUP, Event.PEER_LEFT): _SOLO,
    (Role.BACKUP, Event.NOBODY_LEADS): Outcome(Role.INIT),
    (Role.BACKUP, Event.FORCED): _SOLO,
    (Role.PRIMARY, Event.HEARD_HIGHER_PRIMARY): Outcome(Role.BACKUP),
    (Role.PRIMARY, Event.SWITCHOVER): Outcome(Role.BACKUP),
    (Role.PRIMARY, Event.FITTER): Outcome(Role.BACKUP),
    (Role.PRIMARY, Event.STOP): Outcome(Role.BACKUP),
    (Role.INIT, Event.FAULT): Outcome(Role.FAULT),
    (Role.BACKUP, Event.FAULT): Outcome(Role.FAULT),
    (Role.PRIMARY, Event.FAULT): Outcome(Role.FAULT),
    (Role.FAULT, Event.FAULT): Outcome(Role.FAULT),
    (Role.FAULT, Event.FAULT_CLEARED): Outcome(Role.INIT),
}


class Election:
    """The role, the generation and what was heard of generations."""

    def __init__(self, generation: int) -> None:
        self._role = Role.INIT
        self._generation = generation
        self._highest_heard = generation

    @property
    def role(self) -> Role:
        return self._role

    @property
    def generation(self) -> int:
        return self._generation

    def step(self, event: Event) -> Outcome | None:
        """Takes the transition of `event`; None, and nothing changed, where the table has no such row."""
        outcome = TRANSITIONS.get((self._role, event))
        if outcome is not None:
            self._role = outcome.role
        return outcome

    def hear(self, generation: int) -> None:
        """Remembers the highest generation that any message named."""
        self._highest_heard = max(self._highest_heard, generation)

    def adopt(self, generation: int) -> bool:
        """Takes the peer's generation where it is higher; True when the caller has to write it."""
        self.hear(generation)
        if generation <= self._generation:
            return False
        self._generation = generation
        return True

    def next_generation(self) -> int:
        """P1: its own or the highest heard, plus one. The caller writes it before anything is armed."""
        self._generation = self._highest_heard = max(self._generation, self._highest_heard) + 1
        return self._generation


def judge_listening(own_rank: Rank, peer: Heartbeat | None, *, acts_alone: bool) -> Event:
    """What the end of `init`'s listening means; `peer` is the newest heartbeat of a peer still alive."""
    if peer is None:
        return Event.LISTENED_ALONE if acts_alone else Event.LISTENED_UNSURE
    # `fault` owns nothing and says `leaving`: neither competes.
    if peer.leaving or peer.role is Role.FAULT:
        return Event.LISTENED_PEER_LEFT
    if peer.role is Role.PRIMARY:
        return Event.HEARD_PRIMARY
    if peer.role is Role.INIT and own_rank > peer.rank:
        return Event.LISTENED_RANKED_HIGHER
    return Event.LISTENED_RANKED_LOWER
