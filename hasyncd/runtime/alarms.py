"""What an operator must hear of without asking: counters that grow (an event a second), commit suspended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

WATCHED: Final = {
    "drop_nat_exhausted": "every public port towards a destination is taken: new flows are dropped",
    "nat_other_half": "alone, and no port of this node's half is left: the other node may give out the same ones",
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
_CORRUPT: Final = {
    True: "what this node holds is what its peer is given, and may be wrong",
    False: "the primary's copy repairs it",
}
"""By whether this node is the primary: proto/sync.md S8a."""


class Alarms:
    """Compares counters with those of the last look; `report` gets an event's name and its text."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._seen: dict[str, int] = {}
        self._suspended = False

    def look(self, counters: Mapping[str, int], *, primary: bool) -> None:
        """Reports each watched counter that has grown since the last look."""
        for name, meaning in WATCHED.items():
            if grown := self._grown(counters, name):
                self._report(name, f"{grown} more: {meaning}")
        if grown := self._grown(counters, "scrub_mismatches"):
            self._report(
                "memory_corrupt",
                f"{grown} parts of the flow table are not what was written there: {_CORRUPT[primary]}",
            )
        self._look_at_commit(counters)

    def _grown(self, counters: Mapping[str, int], name: str) -> int:
        grown = counters[name] - self._seen.get(name, 0)
        self._seen[name] = counters[name]
        return grown

    def _look_at_commit(self, counters: Mapping[str, int]) -> None:
        """proto/sync.md §6, C4. A peer that is slow again and again between two looks is one slow peer: it has caught
        up when a whole look has passed without."""
        again = self._grown(counters, "commit_suspensions")
        slow = again > 0 or counters["commit_suspended_now"] > 0
        if slow and not self._suspended:
            self._report("commit_suspended", _SUSPENDED)
        # Where nothing is held any more nothing is resumed: what became of the peer is told elsewhere.
        elif self._suspended and not slow and counters["commit_now"]:
            self._report("commit_resumed", _RESUMED)
        self._suspended = slow
