"""Leaving in order: how far a switchover or a stop has come. proto/pair.md §3, last rows.

1. *flushing*: disarmed, nothing said yet; it can still be taken back.
2. *leaving*: said, by LEAVING or by the flag alone; it cannot be taken back, only ended by the peer's
   heartbeat as primary (or, for a stop, by patience).
"""

from __future__ import annotations

from hasyncd.core.election import Event
from hasyncd.core.types import SECOND_NS, PairSettings

HANDOVER_REASONS = {
    Event.SWITCHOVER: "an operator's switchover",
    Event.STOP: "stopping",
    Event.FITTER: "the peer is fitter",
}
RELAY_NS = SECOND_NS
"""How long a node that handed over sends stragglers on: neighbours and switches have learned by then."""


class Handover:
    def __init__(self, settings: PairSettings) -> None:
        self._settings = settings
        self.flushing = False
        self.leaving = False
        self.stop = False
        self._cause = Event.SWITCHOVER
        self.deadline_ns: int | None = None

    @property
    def cause(self) -> Event:
        """Why; a stop that was asked for in the meantime is one."""
        return Event.STOP if self.stop else self._cause

    @property
    def active(self) -> bool:
        return self.flushing or self.leaving

    def begin(self, now_ns: int, cause: Event) -> None:
        """Disarmed; the log is being flushed, for as long as the peer may be silent at most."""
        self.flushing = True
        self._cause, self.stop = cause, cause is Event.STOP
        self.deadline_ns = now_ns + self._settings.dead_after_ns

    def said(self, now_ns: int) -> None:
        """LEAVING is on its way. A stopping process stays until the peer is seen as primary, or so long."""
        self.flushing = False
        self.leaving = True
        self.deadline_ns = now_ns + 2 * self._settings.dead_after_ns if self.stop else None

    def leave(self) -> None:
        """Leaves without handing over, for good."""
        self.flushing = False
        self.leaving = self.stop = True
        self.deadline_ns = None

    def finish(self) -> bool:
        """The peer is primary (or patience has ended): True when a stop waited for it."""
        waited = self.stop and self.deadline_ns is not None
        self.deadline_ns = None
        if not self.stop:
            self.leaving = False
        return waited

    def end(self) -> None:
        """Taken back, or overtaken by a change of role."""
        self.flushing = self.leaving = self.stop = False
        self.deadline_ns = None
