"""Spans in which no question may be lost, on records written by hand."""

from __future__ import annotations

from hasyncd.lab.judge import Exchange, FlowRecord
from hasyncd.lab.spans import Span, fill

MS = 1_000_000


def flow(*exchanges: tuple[int, int | None], end: int | None = None) -> FlowRecord:
    """A UDP flow; moments in ms."""
    return FlowRecord(
        1, "udp", "lb", "base", 0,
        exchanges=tuple(Exchange(sent * MS, None if heard is None else heard * MS) for sent, heard in exchanges),
        end_ns=None if end is None else end * MS,
    )  # fmt: skip


def filled(*records: FlowRecord) -> Span:
    span = Span(100 * MS, 200 * MS, "nothing was cut")
    fill([span], records)
    return span


def test_only_questions_that_were_sent_within_it_count() -> None:
    span = filled(flow((50, None), (100, 130), (199, 260), (200, None), (300, None)))
    assert (span.asked, span.unanswered, span.slowest_ns) == (2, 0, 61 * MS)
    assert span.failure is None
    assert span.note == "while nothing was cut: all of 2 questions were answered, the slowest after 61 ms"


def test_one_lost_question_speaks_against_us() -> None:
    span = filled(flow((150, None)), flow((151, 160)))
    lost = "1 of 2 questions were never answered (one of udp lb base flow 1 after 50 ms)"
    assert span.failure == f"while nothing was cut, {lost}"


def test_a_span_without_a_question_proves_nothing() -> None:
    assert filled(flow((50, 60), end=70)).failure == "while nothing was cut, nobody asked anything"
