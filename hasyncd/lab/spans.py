"""Stretches of a drill in which no question may be lost, and what was. Pure: from the records that the judge reads.

The judge asks whether a flow lives after a fault. Where a fault must not be felt at all, that is not enough: every
question that a flow asked in such a span has to be answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hasyncd.lab.judge import FlowRecord


@dataclass(slots=True)
class Span:
    """From when to when (ns of CLOCK_BOOTTIME), what was the matter then, and what its questions met."""

    begin_ns: int
    end_ns: int
    name: str
    """Stands in a sentence: `while NAME, …`."""
    asked: int = 0
    unanswered: int = 0
    slowest_ns: int = 0
    example: str = ""
    """A question that was lost."""

    @property
    def failure(self) -> str | None:
        """What speaks against us."""
        if not self.asked:
            return f"while {self.name}, nobody asked anything"
        if self.unanswered:
            return f"while {self.name}, {self.unanswered} of {self.asked:,} questions were never answered{self.example}"
        return None

    @property
    def note(self) -> str:
        """What a reader may want to know."""
        if self.unanswered:
            return f"while {self.name}: {self.unanswered} of {self.asked:,} questions were never answered"
        slowest = f"{self.slowest_ns / 1e6:.0f} ms"
        return (
            f"while {self.name}: all of {self.asked:,} questions were answered, the slowest after {slowest}"
        )


def fill(spans: Iterable[Span], records: Iterable[FlowRecord]) -> None:
    """Counts in each span what was asked in it."""
    spans = list(spans)
    for record in records:
        for span in spans:
            if record.opened_ns > span.end_ns or (record.end_ns or span.begin_ns) < span.begin_ns:
                continue
            for exchange in record.exchanges:
                if span.begin_ns <= exchange.sent_ns < span.end_ns:
                    span.asked += 1
                    if exchange.answered_ns is None:
                        span.unanswered += 1
                        after_ms = (exchange.sent_ns - span.begin_ns) / 1e6
                        flow = f"{record.protocol} {record.path} {record.group} flow {record.flow}"
                        span.example = f" (one of {flow} after {after_ms:.0f} ms)"
                    else:
                        span.slowest_ns = max(span.slowest_ns, exchange.answered_ns - exchange.sent_ns)
