"""What a drill looked like over time, from the same records that the judge reads. Pure.

Time is cut into steps that begin at the first fault. For each step: the verified answers that came in it, and at its
beginning how many flows were open, and of those how many were

    silent      waiting for more than 50 ms for an answer to what they had asked (or for their connection)
    remapped    answered by somebody else than before, or under another source: not silent, and lost all the same
    dead        reset, or ended with a wrong byte

The rest lives. A flow that its client closed in good order has left and counts no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from hasyncd.lab.judge import CLOSED, FlowRecord

STEP_NS = 10_000_000
PATIENCE_NS = 50_000_000
"""How long an answer may take before its flow is called silent; four times what a loaded lab machine needs."""
_BEFORE_NS = 2_000_000_000
_STEPS_MAX = 6_000
_STATES = ("open", "silent", "remapped", "dead")
_ANSWERS = ("tcp", "udp")


@dataclass(slots=True)
class Timeline:
    """The series of one drill, from 2 s before its first fault to its end."""

    first_fault_ns: int
    end_ns: int
    step_ns: int = field(init=False)
    _changes: dict[str, list[int]] = field(init=False)
    _answers: dict[str, list[int]] = field(init=False)
    _begin_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self._begin_ns = self.first_fault_ns - _BEFORE_NS
        length = max(self.end_ns - self._begin_ns, STEP_NS)
        self.step_ns = STEP_NS * -(-length // (STEP_NS * _STEPS_MAX))
        # The first step begins a whole number of steps before the fault.
        self._begin_ns = self.first_fault_ns - _BEFORE_NS // self.step_ns * self.step_ns
        steps = (self.end_ns - self._begin_ns) // self.step_ns + 1
        self._changes = {state: [0] * (steps + 1) for state in _STATES}
        self._answers = {protocol: [0] * steps for protocol in _ANSWERS}

    def watch(self, records: Iterable[FlowRecord]) -> Iterator[FlowRecord]:
        """Passes records on and takes them in."""
        for record in records:
            self.add(record)
            yield record

    def add(self, record: FlowRecord) -> None:
        """Takes one flow into the series."""
        answers = self._answers[record.protocol]
        for exchange in record.exchanges:
            if exchange.answered_ns is not None and 0 <= (step := self._step(exchange.answered_ns)) < len(
                answers
            ):
                answers[step] += 1
        died = record.end_reason not in (None, CLOSED)
        left_ns = self.end_ns if record.end_ns is None or died else record.end_ns
        self._count("open", record.opened_ns, left_ns)
        until_ns = left_ns if record.end_ns is None else record.end_ns
        if died:
            self._count("dead", until_ns, self.end_ns)
        spells = [
            (begin + PATIENCE_NS, end) for begin, end in waits(record, until_ns) if end - begin > PATIENCE_NS
        ]
        for begin, end in spells:
            self._count("silent", begin, end)
        if len(record.seen) > 1:
            moved_ns = record.seen[1][0]
            self._count("remapped", moved_ns, until_ns)
            for begin, end in spells:
                self._count("remapped", max(begin, moved_ns), end, -1)

    def _step(self, moment_ns: int) -> int:
        return (moment_ns - self._begin_ns) // self.step_ns

    def _count(self, state: str, begin_ns: int, end_ns: int, weight: int = 1) -> None:
        """A flow is in a state at the beginnings of the steps that lie within [begin, end)."""
        changes = self._changes[state]
        first, last = (min(max(-(-(moment - self._begin_ns) // self.step_ns), 0), len(changes) - 1)
                       for moment in (begin_ns, end_ns))  # fmt: skip
        if first < last:
            changes[first] += weight
            changes[last] -= weight

    def to_json(self) -> dict[str, Any]:
        """Series are strings of numbers, or a file with a hundred drills would have a million lines."""
        series = {state: list(accumulate(changes[:-1])) for state, changes in self._changes.items()}
        series |= {f"{protocol}_answers": answers for protocol, answers in self._answers.items()}
        return {
            "step_ms": self.step_ns / 1e6,
            "begin_ms": (self._begin_ns - self.first_fault_ns) / 1e6,
            **{name: " ".join(map(str, values)) for name, values in series.items()},
        }


def waits(record: FlowRecord, until_ns: int) -> Iterator[tuple[int, int]]:
    """(from, to): the flow had asked and heard nothing. Any verified answer ends a wait, to whichever question."""
    asked = [record.opened_ns, *(exchange.sent_ns for exchange in record.exchanges)]
    heard = sorted(exchange.answered_ns for exchange in record.exchanges if exchange.answered_ns is not None)
    place = 0
    for before, answer in pairwise([record.opened_ns - 1, *heard, until_ns]):
        while place < len(asked) and asked[place] <= before:
            place += 1
        if place < len(asked) and asked[place] < answer:
            yield asked[place], answer


def transfer_json(progress: Sequence[tuple[int, int]], first_fault_ns: int) -> dict[str, Any] | None:
    """A transfer's series: megabytes a second, from (moment, bytes moved so far) in order; None of too few."""
    if len(progress) < 2:
        return None
    step_ns = 5 * STEP_NS
    begin_ns = max(progress[0][0], first_fault_ns - _BEFORE_NS)
    begin_ns = first_fault_ns - (first_fault_ns - begin_ns) // step_ns * step_ns
    moved = [0] * ((progress[-1][0] - begin_ns) // step_ns + 1)
    for (_, before), (moment, after) in pairwise(progress):
        if moment >= begin_ns:
            moved[(moment - begin_ns) // step_ns] += after - before
    rates = [round(count / (step_ns / 1e9) / 1e6) for count in moved]
    return {
        "step_ms": step_ns / 1e6,
        "begin_ms": (begin_ns - first_fault_ns) / 1e6,
        "megabytes_a_second": " ".join(map(str, rates)),
    }
