"""What an operator must hear of without asking: counters that grow (an event a second), commit suspended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

WATCHED: Final = {
    "drop_nat_exhausted": "every public port towards a destination is taken: new flows are dropped",
    "drop_nat_quota": "sources have as many flows as max_flows_per_source allows: their new flows are dropped",
    "drop_table_full": "the flow table is full: new flows are dropped",
    "drop_half_open_limit": "too many half-open TCP flows: new ones are dropped",
    "fail_open_released": "new flows left without the peer's confirmation: a death now would lose them",
    "fail_closed_dropped": "new flows were dropped because the peer did not confirm them in time",
    "receive_dropped": "packets came faster than they are forwarded: some were dropped unseen",
    "drop_no_backend": "a service has no backend that is up: new flows are dropped",
}


_SUSPENDED: Final = (
    "the peer is slow: new flows that it did not confirm in time leave at once until it has caught up"
)
_RESUMED: Final = "the peer has caught up: new flows wait for it again"


class Alarms:
    """Compares counters with those of the last look; `report` gets an event's name and its text."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._seen: dict[str, int] = {}
        self._suspended = False

    def look(self, counters: Mapping[str, int]) -> None:
        """Reports each watched counter that has grown since the last look."""
        for name, meaning in WATCHED.items():
            grown = counters[name] - self._seen.get(name, 0)
            self._seen[name] = counters[name]
            if grown > 0:
                self._report(name, f"{grown} more: {meaning}")
        self._look_at_commit(counters)

    def _look_at_commit(self, counters: Mapping[str, int]) -> None:
        """proto/sync.md §6, C4. A peer that is slow again and again between two looks is one slow peer: it has caught
        up when a whole look has passed without."""
        before = self._seen.get("commit_suspensions", 0)
        self._seen["commit_suspensions"] = counters["commit_suspensions"]
        slow = counters["commit_suspended_now"] or counters["commit_suspensions"] > before
        if slow and not self._suspended:
            self._report("commit_suspended", _SUSPENDED)
        # Where nothing is held any more nothing is resumed: what became of the peer is told elsewhere.
        elif self._suspended and not slow and counters["commit_now"]:
            self._report("commit_resumed", _RESUMED)
        self._suspended = bool(slow)
