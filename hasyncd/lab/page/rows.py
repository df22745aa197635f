"""The rows of `drill --json`, as the page wants them: checked, and gathered by what was played and with whom."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

INCUMBENT = "keepalived + conntrackd"
LOST = ("reset", "stalled", "remapped")
_VALUES_MAX = 20_000
"""In one series: more is no drill's."""
_RINGS_MAX, _BACKENDS_MAX = 24, 64
"""Pictures of one drill, and backends in each."""
_FEW = 0.02
"""Of the flows that are open."""

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that `--json` wrote. Raises ValueError saying what is wrong with it."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: no list of results")
    for number, row in enumerate(rows):
        try:
            Run.of(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: result {number + 1} is none of a drill ({error!r})") from error
    return rows


@dataclass(frozen=True, slots=True)
class Mark:
    """One fault. Milliseconds after the first one."""

    node: str
    deed: str
    at_ms: float
    promoted_ms: float | None
    """From this fault on."""


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend of a service: its share of the keys in parts of 1, and its live flows."""

    server: int
    share: float
    flows: int


@dataclass(frozen=True, slots=True)
class RingPicture:
    """What a change of backends did to one service."""

    service: str
    what: str
    before: tuple[BackendRow, ...]
    after: tuple[BackendRow, ...]

    @classmethod
    def of(cls, element: Any) -> RingPicture:
        """Raises as `Run.of`."""
        before, after = (
            tuple(
                BackendRow(
                    int(row["id"]), min(max(_number(row["share"]), 0.0), 1.0), max(int(row["flows"]), 0)
                )
                for row in element[moment][:_BACKENDS_MAX]
            )
            for moment in ("before", "after")
        )
        return cls(str(element["service"]), str(element["what"]), before, after)


@dataclass(frozen=True, slots=True)
class Run:
    """One row. Times are ms; None where the drill did not get so far."""

    scenario: str
    system: str
    variant: str | None
    passed: bool
    seed: int
    opened: int
    lost: dict[str, int]
    """Verdict -> flows, those that occurred."""
    lost_datagrams: int
    gap_ms: tuple[float, float, float] | None
    """p50, p99, max over flows of each one's longest silence."""
    outage_ms: float | None
    percentiles_ms: tuple[float, ...]
    marks: tuple[Mark, ...]
    step_ms: float
    begin_ms: float
    series: dict[str, tuple[float, ...]]
    notes: tuple[str, ...]
    rings: tuple[RingPicture, ...] = ()

    @classmethod
    def of(cls, row: Row) -> Run:
        """Raises KeyError, TypeError, ValueError or AttributeError where the row is none."""
        flows = row["flows"]
        tcp, udp = flows["tcp"], flows["udp"]
        gap = [row["gap_ms"][name] for name in ("p50", "p99", "max")]
        timeline = row.get("timeline") or {}
        marks = tuple(
            Mark(
                str(fault["node"]), str(fault["deed"]), _number(fault["at_ms"]), _maybe(fault["promoted_ms"])
            )
            for fault in row.get("faults") or ()
        )
        return cls(
            scenario=str(row["scenario"]),
            system=str(row["system"]),
            variant=None if row.get("variant") is None else str(row["variant"]),
            passed=row["passed"] is True,
            seed=int(row["seed"]),
            opened=int(tcp["opened"]) + int(udp["opened"]),
            lost={name: count for name in LOST if (count := int(tcp.get(name, 0)) + int(udp.get(name, 0)))},
            lost_datagrams=int(udp["lost_datagrams"]),
            gap_ms=None if None in gap else (_number(gap[0]), _number(gap[1]), _number(gap[2])),
            outage_ms=_maybe(row.get("outage_ms")),
            percentiles_ms=_numbers(row.get("silence_percentiles_ms") or ""),
            marks=marks,
            step_ms=max(1.0, _number(timeline.get("step_ms", 1))),
            begin_ms=_number(timeline.get("begin_ms", 0)),
            series={name: _numbers(text) for name, text in timeline.items() if isinstance(text, str)},
            notes=tuple(str(note) for note in row["notes"]),
            rings=tuple(map(RingPicture.of, (row.get("rings") or ())[:_RINGS_MAX])),
        )

    @property
    def silence_ms(self) -> float | None:
        """What runs of one kind are ordered by: the sharpest silence that was measured."""
        return self.outage_ms if self.outage_ms is not None else self.gap_ms[2] if self.gap_ms else None

    def at(self, name: str, milliseconds: float) -> float:
        """The value of a series at a moment; 0 outside of it."""
        values, step = self.series.get(name, ()), int((milliseconds - self.begin_ms) // self.step_ms)
        return values[step] if 0 <= step < len(values) else 0.0

    @property
    def end_ms(self) -> float:
        """Where the longest series ends."""
        return self.begin_ms + self.step_ms * max((len(values) for values in self.series.values()), default=0)

    @property
    def calm_ms(self) -> float:
        """When hardly any flow was silent any more, or the takeover was over, whichever is later.

        Not the last one: a flow that is lost is silent for ever, and would press all that happened into a corner.
        """
        silent, few = self.series.get("silent", ()), _FEW * max(self.series.get("open", ()), default=0)
        last = max((step for step, count in enumerate(silent) if count > few), default=-1)
        heard = self.begin_ms + (last + 1) * self.step_ms
        return max([heard, *(mark.at_ms + (mark.promoted_ms or 0) for mark in self.marks)])


@dataclass(slots=True)
class Candidate:
    """All runs of one scenario with one system, timers and all."""

    system: str
    variant: str | None
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For people."""
        system = INCUMBENT if self.system == "incumbent" else self.system
        return f"{system}, {self.variant}" if self.variant else system

    @property
    def passed(self) -> int:
        return sum(run.passed for run in self.runs)

    @property
    def opened(self) -> int:
        return sum(run.opened for run in self.runs)

    @property
    def lost(self) -> dict[str, int]:
        """Verdict -> flows, over all runs."""
        sums = {name: sum(run.lost.get(name, 0) for run in self.runs) for name in LOST}
        return {name: count for name, count in sums.items() if count}

    def middle(self, values: Iterable[float | None]) -> float | None:
        """The median of what is known."""
        known = [value for value in values if value is not None]
        return median(known) if known else None

    @property
    def outage_ms(self) -> float | None:
        return self.middle(run.outage_ms for run in self.runs)

    @property
    def promoted_ms(self) -> float | None:
        return self.middle(mark.promoted_ms for run in self.runs for mark in run.marks)

    @property
    def gap_ms(self) -> tuple[float, float, float] | None:
        """The runs' median p50 and p99, and the worst of all."""
        gaps = [run.gap_ms for run in self.runs if run.gap_ms]
        if not gaps:
            return None
        return median(gap[0] for gap in gaps), median(gap[1] for gap in gaps), max(gap[2] for gap in gaps)

    @property
    def percentiles_ms(self) -> tuple[float, ...]:
        """Of all runs' flows together, each run weighing the same."""
        pooled = sorted(value for run in self.runs for value in run.percentiles_ms)
        return tuple(pooled[:: max(1, len(pooled) // 101)]) if pooled else ()

    @property
    def shown(self) -> Run:
        """The run that is drawn: the one in the middle, by its silence."""
        drawn = [run for run in self.runs if run.series] or self.runs
        ordered = sorted(drawn, key=lambda run: run.silence_ms or math.inf)
        return ordered[(len(ordered) - 1) // 2]


def gather(rows: Sequence[Row]) -> dict[str, list[Candidate]]:
    """Scenario -> its candidates, both in order of appearance, ours before others."""
    scenarios: dict[str, list[Candidate]] = {}
    for run in map(Run.of, rows):
        candidates = scenarios.setdefault(run.scenario, [])
        for candidate in candidates:
            if (candidate.system, candidate.variant) == (run.system, run.variant):
                candidate.runs.append(run)
                break
        else:
            candidates.append(Candidate(run.system, run.variant, [run]))
    for candidates in scenarios.values():
        candidates.sort(key=lambda candidate: candidate.system != "hasyncd")
    return scenarios


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number


def _maybe(value: Any) -> float | None:
    return None if value is None else _number(value)


def _numbers(text: str) -> tuple[float, ...]:
    words = text.split()
    if len(words) > _VALUES_MAX:
        raise ValueError(f"a series of {len(words)} values")
    return tuple(map(_number, words))
