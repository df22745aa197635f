"""Which backends may have had which flows. Pure: from the records that the judge reads.

A backend that dies takes its connections with it, and whoever asks for it before that is known asks in vain: neither is
the gateway's loss. These flows are set apart, counted, and not judged. All others are judged as ever: a flow of a live
backend that was moved or reset is lost. And a backend that is drained or gone may have got no flow that was opened
since; one that did speaks against us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hasyncd.lab.judge import FlowRecord

_BALANCED = ("lb", "lb6")
_HANDSHAKE_NS = 1_000_000_000
"""An attempt that began so shortly before a death may have been led to the dead."""


@dataclass(frozen=True, slots=True)
class Death:
    """From when to when (ns of CLOCK_BOOTTIME) a backend was dead and still asked for new flows."""

    server: int
    died_ns: int
    known_ns: int


@dataclass(frozen=True, slots=True)
class Closed:
    """From when to when a backend may get no new flows, and why."""

    server: int
    since_ns: int
    until_ns: int
    why: str
    """Stands in a sentence: `backend 21 got a flow although it WHY`."""


@dataclass(slots=True)
class Placement:
    """What is known of the backends of one drill, and what its records show of it."""

    deaths: list[Death] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    apart: int = 0
    """Flows that died with their backend, or asked in vain for a dead one."""
    apart_of_first: int = 0
    """Those of them that were there from the beginning."""
    _wrong: dict[str, int] = field(default_factory=dict)

    def concern(self, records: Iterable[FlowRecord]) -> Iterator[FlowRecord]:
        """The records that are to be judged. What was counted is that of the last pass."""
        self.apart = self.apart_of_first = 0
        self._wrong = {}
        for record in records:
            self._look_for_wrong_way(record)
            if any(_died_with(record, death) for death in self.deaths):
                self.apart += 1
                self.apart_of_first += record.group != "opened"
            else:
                yield record

    @property
    def failures(self) -> list[str]:
        """What speaks against us; each is one sentence."""
        return [f"{count} flows went to {whither}" for whither, count in self._wrong.items()]

    def _look_for_wrong_way(self, record: FlowRecord) -> None:
        if record.path not in _BALANCED or not record.seen:
            return
        server = record.seen[0][1]
        for closed in self.closed:
            if closed.server == server and closed.since_ns <= record.opened_ns < closed.until_ns:
                whither = f"backend {server} although it {closed.why}"
                self._wrong[whither] = self._wrong.get(whither, 0) + 1


def _died_with(record: FlowRecord, death: Death) -> bool:
    if record.path not in _BALANCED or record.opened_ns >= death.known_ns:
        return False
    if not record.seen:  # it never got an answer
        return record.opened_ns >= death.died_ns - _HANDSHAKE_NS
    over = record.end_ns is not None and record.end_ns < death.died_ns
    return {server for _, server, _, _ in record.seen} == {death.server} and not over
