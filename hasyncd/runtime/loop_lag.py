"""How late the event loop is: what a slow callback, the collector or a starved machine does to everybody's timers."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class LoopLag:
    """Lateness of a timer that goes off every `period_ns`, as a histogram. Moments are CLOCK_BOOTTIME, nanoseconds."""

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._asleep_ns: int | None = None
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self.max_s = 0.0

    def wake(self, now_ns: int) -> None:
        """The timer went off."""
        if self._asleep_ns is None:
            return
        late_s = max(0, now_ns - self._asleep_ns - self._period_ns) / 1e9
        self._counts[bisect_left(BOUNDS_S, late_s)] += 1
        self.sum_s += late_s
        self.max_s = max(self.max_s, late_s)

    def sleep(self, now_ns: int) -> None:
        """It is set again: what the work of this turn took is not its lateness."""
        self._asleep_ns = now_ns

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound in seconds, how many were at most so late), as Prometheus counts: cumulative, `+Inf` last."""
        total, cumulative = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self._counts, strict=True):
            total += count
            cumulative.append((bound, float(total)))
        return cumulative
