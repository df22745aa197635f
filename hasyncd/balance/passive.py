"""What clients meet says of a backend: SYNs that nobody answers, refusals, resets. Pure.

The packet engine sees both directions of every connection and counts for each backend; once a second the counts are
noted here. Over a window of so many seconds, and not before it has had so many new connections, a backend *looks dead*
when too large a part of them went wrong. What follows depends on whether it has health checks:

    checked     SUSPECT: it is to be asked at once; its checks decide
    unchecked   DOWN for `down_s`, then TRY: it gets traffic again, and has to look dead anew

Either forgets what the window held, so that the same connections speak once. SYNs count as unanswered when they come
again (a second later) or age out, so the window should be longer than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hasyncd.config_health import Passive


class Counts(NamedTuple):
    """Of one backend. They only grow, but for a backend that is new at its place."""

    new_flows: int = 0
    unanswered: int = 0
    refused: int = 0
    """Resets in answer to a SYN; among `resets` too."""
    resets: int = 0


class Deed(Enum):
    """What is to become of a backend."""

    SUSPECT = "suspect"
    DOWN = "down"
    TRY = "try"


class Finding(NamedTuple):
    """What one look has shown of a backend."""

    backend: int
    deed: Deed
    reason: str


class _Window:
    """What happened to one backend in the last so many seconds, a second at a time."""

    def __init__(self, seconds: int, counts: Counts) -> None:
        self._last = counts
        self._seconds: deque[Counts] = deque(maxlen=seconds)

    def note(self, counts: Counts) -> None:
        grown = Counts(*(now - before for now, before in zip(counts, self._last, strict=True)))
        if min(grown) < 0:  # somebody else is at its place
            self._seconds.clear()
            grown = Counts()
        self._last = counts
        self._seconds.append(grown)

    def sums(self) -> Counts:
        return (
            Counts(*(sum(column) for column in zip(*self._seconds, strict=True)))
            if self._seconds
            else Counts()
        )

    def forget(self) -> None:
        self._seconds.clear()


class PassiveJudge:
    """The backends of one service. Seconds are whole, and counted by the caller."""

    def __init__(self, limits: Passive, *, checked: bool) -> None:
        self._limits = limits
        self._checked = checked
        self._windows: dict[int, _Window] = {}
        self._down_until: dict[int, int] = {}

    def note(self, second: int, counted: Mapping[int, Counts]) -> list[Finding]:
        """The counts of all backends, once a second: what follows from them, by id."""
        self._windows = {id: window for id, window in self._windows.items() if id in counted}
        self._down_until = {id: until for id, until in self._down_until.items() if id in counted}
        return [
            finding
            for backend, counts in sorted(counted.items())
            if (finding := self._look(second, backend, counts)) is not None
        ]

    def assume_down(self, backend: int, second: int) -> None:
        """Somebody else has judged it down (the primary before): its time begins now."""
        if not self._checked:
            self._down_until[backend] = second + self._limits.down_s

    def _look(self, second: int, backend: int, counts: Counts) -> Finding | None:
        window = self._windows.get(backend)
        if window is None:
            self._windows[backend] = _Window(self._limits.window_s, counts)
        else:
            window.note(counts)
        until = self._down_until.get(backend)
        if until is not None:
            if second < until:
                return None
            del self._down_until[backend]
            self._windows[backend].forget()
            return Finding(backend, Deed.TRY, f"tried again after {self._limits.down_s} s")
        reason = None if window is None else self._looks_dead(window.sums())
        if reason is None:
            return None
        self._windows[backend].forget()
        if self._checked:
            return Finding(backend, Deed.SUSPECT, reason)
        self._down_until[backend] = second + self._limits.down_s
        return Finding(backend, Deed.DOWN, reason)

    def _looks_dead(self, sums: Counts) -> str | None:
        limits = self._limits
        if sums.new_flows < limits.min_flows:
            return None
        for count, limit, what in (
            (sums.unanswered, limits.unanswered, "unanswered"),
            (sums.refused, limits.refused, "refused"),
            (sums.resets, limits.resets, "reset"),
        ):
            if count > limit * sums.new_flows:
                return f"{count} connections {what}, {sums.new_flows} opened within {limits.window_s} s"
        return None
