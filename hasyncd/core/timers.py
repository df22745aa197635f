"""The moments a node waits for, beside those of its streams. Every deadline that has passed is cleared or
moved by whoever acts on it, so that `next_deadline_ns` never stays in the past.
"""

from __future__ import annotations

from hasyncd.core.types import MILLISECOND_NS, SECOND_NS

GARP_TRAIN_NS = (50 * MILLISECOND_NS, 200 * MILLISECOND_NS, SECOND_NS, 5 * SECOND_NS)
"""After the announcement at promotion itself; proto/pair.md §2."""


class Timers:
    def __init__(self) -> None:
        self.heartbeat_ns: int | None = None
        self.listen_until_ns: int | None = None
        self.rearm_at_ns: int | None = None
        """Solo primary that slept: when it may arm again."""
        self.leave_at_ns: int | None = None
        """Backup: the peer is leaving, but what it sent before may still come."""
        self.nobody_leads_at_ns: int | None = None
        self.wait_until_ns: int | None = None
        """Backup without all flows: how long its silent primary is waited for (proto/pair.md §4b)."""
        self.announce_at_ns: list[int] = []
        self._trust_from_ns = 0

    def trusts(self, now_ns: int) -> bool:
        """Whether what is read now may be taken for news: after a sleep it may have waited long in a socket."""
        return now_ns >= self._trust_from_ns

    def start_train(self, now_ns: int) -> None:
        self.announce_at_ns = [now_ns + after for after in GARP_TRAIN_NS]

    def take_announcement(self, now_ns: int) -> bool:
        """True when a car of the train leaves; cars that were missed leave together."""
        if not self.announce_at_ns or now_ns < self.announce_at_ns[0]:
            return False
        self.announce_at_ns = [at for at in self.announce_at_ns if at > now_ns]
        return True

    def end_role(self) -> None:
        """A role has ended, and with it all its patience."""
        self.listen_until_ns = self.rearm_at_ns = self.leave_at_ns = self.nobody_leads_at_ns = None
        self.wait_until_ns = None
        self.announce_at_ns = []

    def postpone(self, now_ns: int, by_ns: int) -> None:
        """The node has slept: it is heard at once, and whatever judges the peer listens anew."""
        self.heartbeat_ns = now_ns
        until = self._trust_from_ns = now_ns + by_ns
        self.listen_until_ns = until if self.listen_until_ns is not None else None
        self.rearm_at_ns = until if self.rearm_at_ns is not None else None
        self.leave_at_ns = until if self.leave_at_ns is not None else None
        self.nobody_leads_at_ns = until if self.nobody_leads_at_ns is not None else None
        self.wait_until_ns = max(until, self.wait_until_ns) if self.wait_until_ns is not None else None

    def deadlines(self) -> list[int | None]:
        first_car = self.announce_at_ns[0] if self.announce_at_ns else None
        return [
            self.heartbeat_ns,
            self.listen_until_ns,
            self.rearm_at_ns,
            self.leave_at_ns,
            self.nobody_leads_at_ns,
            self.wait_until_ns,
            first_car,
        ]
