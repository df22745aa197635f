"""Which backends of one service take part, and with how much weight. Pure: no clock, socket or log.

What is known of a backend comes from four sides, and none of them writes over another: the configuration (address,
weight), its health (healthy or not, and why), the operator (drain, a weight of his own), and time (slow start, the
drain's deadline). Its *state* follows from them, in this order of precedence:

    removed      nobody lists it any more: as drain, until its last flow has gone (`forget`)
    down         not healthy, whatever else holds; but for *panic* (below)
    drain        the operator takes it out: it keeps its flows and gets no new ones
    slow-start   it came (back) less than `slow_start_s` ago: a quarter of its weight, then two, then three
    up           its weight: the operator's, else the configured one

*Panic*: when fewer than `panic_percent` of the backends that are not drained are healthy, the checks are more
likely to be wrong than the backends: all that are not drained are used. A drained backend never is.

On a backup the primary's word counts (`follow`): it publishes what the primary told, and its own checks decide
nothing. `lead` begins from what was told, so that a takeover changes no table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from hasyncd.config_values import Endpoint

RAMP_STEPS: Final = 4
"""Slow start: 1/4, 2/4, 3/4 of the weight, each for a third of the time, then all of it."""
GENERATION_MAX: Final = 0xFFFF_FFFF


class State(IntEnum):
    """What a backend is there for, in the packet engine's numbers."""

    UP = 0
    DRAINING = 1
    DOWN = 2


class Member(NamedTuple):
    """A backend as it is configured."""

    id: int
    address: Endpoint
    weight: int


class Row(NamedTuple):
    """A backend as the table has it; `weight` in parts of `Membership.scale`."""

    id: int
    address: Endpoint
    weight: int
    state: State


class Told(NamedTuple):
    """A backend as the primary tells it to its backup: proto/sync.md §4.4."""

    id: int
    address: Endpoint
    weight: int
    ordered: int
    """The operator's weight; 0: none."""
    state: int
    """A `State`, or `PANICKED`."""
    step: int
    """Of the slow start, up to `RAMP_STEPS`."""
    drain_ms: int
    """0: not drained; `NO_DEADLINE`; else what is left."""


PANICKED: Final = 3
"""In the table although it is not healthy."""
NO_DEADLINE: Final = 0xFFFF_FFFF
_MILLISECOND_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says of a service's backends altogether; times in ns, 0: none."""

    slow_start_ns: int = 0
    drain_timeout_ns: int = 0
    panic_percent: int = 0


@dataclass(slots=True)
class Standing:
    """All that is known of one backend."""

    member: Member
    healthy: bool = True
    reason: str = ""
    ordered: int = 0
    draining: bool = False
    drain_until_ns: int | None = None
    step: int = RAMP_STEPS
    step_ends_ns: int | None = None
    removed: bool = False
    """Nobody lists it any more; it is here for its flows."""
    told: int | None = None
    """What the primary says; only of somebody who follows one."""

    @property
    def full_weight(self) -> int:
        return self.ordered or self.member.weight


class Membership:
    """The backends of one service. Orders return nothing; `settle` says whether the table has to change."""

    def __init__(self, policy: Policy, members: Iterable[Member], generation: int = 1) -> None:
        self.policy = policy
        self.generation = generation
        self.following = False
        self._standings = {member.id: Standing(member) for member in members}
        self._rows, self._scale = self._make_rows()

    # --- what others say ---------------------------------------------------------------------------

    def judge(self, id: int, healthy: bool, reason: str, now_ns: int) -> None:
        """A health verdict. Raises KeyError."""
        standing = self._standings[id]
        standing.reason = reason
        if healthy != standing.healthy:
            standing.healthy = healthy
            if healthy:
                self._warm_up(standing, now_ns)

    def drain(self, id: int, now_ns: int, timeout_ns: int | None = None) -> None:
        """An operator's order; `timeout_ns` None: as configured, 0: no deadline. Raises KeyError."""
        standing = self._standings[id]
        timeout_ns = self.policy.drain_timeout_ns if timeout_ns is None else timeout_ns
        standing.draining = True
        standing.drain_until_ns = now_ns + timeout_ns if timeout_ns else None

    def undrain(self, id: int, now_ns: int) -> None:
        """Takes the order to drain back. Raises KeyError."""
        standing = self._standings[id]
        if standing.draining:
            standing.draining, standing.drain_until_ns = False, None
            self._warm_up(standing, now_ns)

    def weigh(self, id: int, weight: int) -> None:
        """An operator's weight; 0: the configured one again. Raises KeyError."""
        self._standings[id].ordered = weight

    def replace(self, members: Iterable[Member], now_ns: int) -> None:
        """Another configuration, or another answer of a source: who stays keeps health and orders, who is at another
        address is somebody new, and who is not listed any more is drained."""
        before = self._standings
        self._adopt(members, now_ns)
        for id, standing in before.items():
            if id not in self._standings:
                self._standings[id] = standing
                standing.removed = True
                if not standing.draining:
                    self.drain(id, now_ns)

    def forget(self, id: int) -> None:
        """A removed one has no flows any more."""
        if self._standings[id].removed:
            del self._standings[id]

    def _adopt(self, members: Iterable[Member], now_ns: int) -> None:
        before, self._standings = self._standings, {}
        for member in members:
            known = before.get(member.id)
            if known is not None and known.member.address == member.address:
                known.member = member
                self._standings[member.id] = known
                if known.removed:
                    known.removed = False
                    self.undrain(member.id, now_ns)
                continue
            self._standings[member.id] = Standing(member)
            self._warm_up(self._standings[member.id], now_ns)

    def follow(self, told: Iterable[Told], generation: int, now_ns: int, *, adopt: bool) -> list[str]:
        """Takes the primary's word; `adopt`: its set of backends, too. Those that get flows there and are not known
        here are returned, named."""
        self.following = True
        self.generation = generation
        said = {row.id: row for row in told}
        if adopt:
            self._adopt((Member(row.id, row.address, row.weight) for row in said.values()), now_ns)
        for standing in self._standings.values():
            row = said.get(standing.member.id)
            if row is None or row.address != standing.member.address:
                standing.told = None
            else:
                self._take(standing, said.pop(standing.member.id), now_ns)
        self._rows, self._scale = self._make_rows()
        return [
            f"{row.id} ({row.address})" for row in sorted(said.values()) if row.state in (State.UP, PANICKED)
        ]

    def lead(self, now_ns: int) -> None:
        """From here on the own verdict counts, and begins with what was told."""
        was_told, self.following = self.following, False
        for standing in list(self._standings.values()):
            if was_told and standing.removed and standing.told is None:
                del self._standings[standing.member.id]
            standing.told = None
            if standing.step < RAMP_STEPS:
                standing.step_ends_ns = now_ns + self._step_ns

    @staticmethod
    def _take(standing: Standing, row: Told, now_ns: int) -> None:
        standing.told = row.state
        standing.member = standing.member._replace(weight=row.weight)
        standing.ordered, standing.step, standing.step_ends_ns = row.ordered, row.step, None
        standing.draining = row.drain_ms > 0
        limited = 0 < row.drain_ms < NO_DEADLINE
        standing.drain_until_ns = now_ns + row.drain_ms * _MILLISECOND_NS if limited else None
        healthy = row.state in (State.UP, State.DRAINING)
        if healthy != standing.healthy:
            standing.healthy = healthy
            standing.reason = "the primary says so"

    # --- time --------------------------------------------------------------------------------------

    @property
    def _step_ns(self) -> int:
        return self.policy.slow_start_ns // (RAMP_STEPS - 1)

    def _warm_up(self, standing: Standing, now_ns: int) -> None:
        if self.policy.slow_start_ns:
            standing.step, standing.step_ends_ns = 1, now_ns + self._step_ns

    def pass_time(self, now_ns: int) -> list[int]:
        """Steps of slow starts; the ids whose drain's deadline has come, each once."""
        over: list[int] = []
        if self.following:
            return over
        for standing in self._standings.values():
            while standing.step_ends_ns is not None and now_ns >= standing.step_ends_ns:
                standing.step += 1
                last = standing.step >= RAMP_STEPS
                standing.step_ends_ns = None if last else standing.step_ends_ns + self._step_ns
            if standing.drain_until_ns is not None and now_ns >= standing.drain_until_ns:
                standing.drain_until_ns = None
                over.append(standing.member.id)
        return over

    def next_deadline_ns(self) -> int | None:
        """When `pass_time` has something to do."""
        if self.following:
            return None
        standings = self._standings.values()
        deadlines = [s.step_ends_ns for s in standings] + [s.drain_until_ns for s in standings]
        return min((at for at in deadlines if at is not None), default=None)

    # --- what follows ------------------------------------------------------------------------------

    def settle(self) -> frozenset[int] | None:
        """None: the table stays as it is. Else it has to be published, under the next generation; returned are the
        backends whose flows are the down policy's now: those that are down and were not, or are removed.
        """
        rows, scale = self._make_rows()
        if (rows, scale) == (self._rows, self._scale):
            return None
        before = {row.id: row for row in self._rows}
        self._rows, self._scale = rows, scale
        assert self.generation < GENERATION_MAX, "the ring generation is a u32"
        self.generation += 1
        now = {row.id: row for row in rows}
        return frozenset(
            id
            for id, old in before.items()
            if id not in now
            or now[id].address != old.address
            or (now[id].state is State.DOWN and old.state is not State.DOWN)
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """As the table has them now, by id."""
        return self._rows

    @property
    def scale(self) -> int:
        """What a weight of 1 is in `rows`: more while somebody has a part of his weight only."""
        return self._scale

    @property
    def panics(self) -> bool:
        """Whether backends are used in spite of their health."""
        counted = [standing for standing in self._standings.values() if not standing.draining]
        healthy = sum(standing.healthy for standing in counted)
        return healthy * 100 < self.policy.panic_percent * len(counted)

    def states(self) -> list[tuple[Standing, State]]:
        """All backends, by id."""
        panics = self.panics
        standings = [self._standings[id] for id in sorted(self._standings)]
        return [(standing, self._state_of(standing, panics=panics)) for standing in standings]

    def _state_of(self, standing: Standing, *, panics: bool) -> State:
        if self.following:
            told = standing.told
            return State.UP if told == PANICKED else State(told) if told is not None else State.DOWN
        if not standing.healthy and (standing.draining or not panics):
            return State.DOWN
        return State.DRAINING if standing.draining else State.UP

    def tell(self, now_ns: int) -> list[Told]:
        """What a backup is told, by id."""
        return [
            Told(
                standing.member.id,
                standing.member.address,
                standing.member.weight,
                standing.ordered,
                PANICKED if state is State.UP and not standing.healthy else state,
                standing.step,
                _drain_ms(standing, now_ns),
            )
            for standing, state in self.states()
        ]

    def _make_rows(self) -> tuple[tuple[Row, ...], int]:
        states = self.states()
        warming = any(state is State.UP and each.step < RAMP_STEPS for each, state in states)
        rows = tuple(
            Row(
                standing.member.id,
                standing.member.address,
                standing.full_weight * (standing.step if warming and state is State.UP else 1),
                state,
            )
            for standing, state in states
            if not self.following or standing.told is not None
        )
        return rows, RAMP_STEPS if warming else 1


def _drain_ms(standing: Standing, now_ns: int) -> int:
    if not standing.draining:
        return 0
    if standing.drain_until_ns is None:
        return NO_DEADLINE
    return min(max(1, (standing.drain_until_ns - now_ns) // _MILLISECOND_NS), NO_DEADLINE - 1)
