"""The pictures: one drill over time, and the silences of all candidates beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hasyncd.lab.page.rows import Candidate, Mark, Run
from hasyncd.lab.page.svg import (
    Frame,
    area,
    drawing,
    duration,
    line,
    log_ticks,
    nice,
    steps,
    text,
    ticks,
)

WIDTH = 520.0
_LEFT, _RIGHT = 64.0, 14.0
_BINS = 260
_RATE_BINS, _RATE_BIN_MS = 150, 20.0
"""Rates are drawn coarser: ten milliseconds hold so few answers that they only flicker."""
_ROW = 54.0
NAMED_MARKS = 2
"""More than these would be written over each other: they are numbered, and named below the picture."""
_STATES = ("alive", "remapped", "silent", "dead")
"""From the ground up."""
_RANGE_MIN_MS, _RANGE_MAX_MS = 1_000.0, 60_000.0


def time_range(runs: Sequence[Run]) -> tuple[float, float]:
    """(from, to) in ms after the first fault: what shows all of them, from before their faults until they are calm."""
    calm = max((run.calm_ms for run in runs), default=0.0)
    end = max(min(nice(calm * 1.15), _RANGE_MAX_MS), _RANGE_MIN_MS)
    end = min(end, max([_RANGE_MIN_MS, *(run.end_ms for run in runs)]))
    return -0.12 * end, end


def over_time(run: Run, begin_ms: float, end_ms: float) -> str:
    """Flows and answers of one drill, its faults and promotions; of a transfer its megabytes."""
    if "megabytes_a_second" in run.series:
        frame = Frame(_LEFT, 56, WIDTH - _LEFT - _RIGHT, 150, begin_ms, end_ms, 1)
        parts, frame = _rates(run, frame, (("moved", "megabytes_a_second", 1.0),), "megabytes a second")
        parts = [*_bands(run.marks, [frame]), *parts, *_marks(run.marks, [frame]), _time_axis(frame)]
        return drawing(WIDTH, 240, "Megabytes a second over time", parts)
    flows = Frame(_LEFT, 56, WIDTH - _LEFT - _RIGHT, 140, begin_ms, end_ms, 1)
    answers = Frame(_LEFT, 228, WIDTH - _LEFT - _RIGHT, 84, begin_ms, end_ms, 1)
    upper, flows = _flows(run, flows)
    per_second = 1000 / run.step_ms
    kinds = (("tcp", "tcp_answers", per_second), ("udp", "udp_answers", per_second))
    lower, answers = _rates(run, answers, kinds, "packets answered a second")
    frames = [flows, answers]
    parts = [*_bands(run.marks, frames), *upper, *lower, *_marks(run.marks, frames), _time_axis(answers)]
    parts.append(_ending(run, flows))
    return drawing(WIDTH, 346, "Flows and packets a second over time", parts)


def _bins(frame: Frame, run: Run, most: int, least_ms: float) -> list[float]:
    """The edges of what is drawn as one step: never finer than what was recorded, and only while the drill ran."""
    width = max((frame.x_max - frame.x_min) / most, least_ms)
    begin, end = max(frame.x_min, run.begin_ms), min(frame.x_max, run.end_ms)
    return [begin + width * place for place in range(max(1, int((end - begin) / width)) + 1)]


def _flows(run: Run, frame: Frame) -> tuple[list[str], Frame]:
    """The flows in their states, on top of each other."""
    edges = _bins(frame, run, _BINS, run.step_ms)
    heights = [_worst(run, begin, end) for begin, end in pairwise(edges)]
    frame = _to_scale(frame, max((sum(column) for column in heights), default=0.0))
    xs = [frame.x(edge) for edge in edges]
    lower = [frame.bottom] * len(heights)
    parts = _value_axis(frame, "flows")
    for place, state in enumerate(_STATES):
        upper = [frame.y(sum(column[: place + 1])) for column in heights]
        if upper != lower:
            parts.append(area(xs, lower, upper, f"state {state}"))
        lower = upper
    return parts, frame


def _worst(run: Run, begin_ms: float, end_ms: float) -> tuple[float, ...]:
    """(alive, remapped, silent, dead) at the worst moment within a bin: a short silence must not fall between two."""
    moments = [begin_ms]
    while moments[-1] + run.step_ms < end_ms:
        moments.append(moments[-1] + run.step_ms)
    columns = []
    for moment in moments:
        remapped, silent, dead = (run.at(state, moment) for state in ("remapped", "silent", "dead"))
        alive = run.at("open", moment) - remapped - silent - (dead if run.at("open", moment) else 0)
        columns.append((max(alive, 0.0), remapped, silent, dead))
    return max(columns, key=lambda column: column[1] + column[2] + column[3])


def _rates(
    run: Run, frame: Frame, kinds: Sequence[tuple[str, str, float]], title: str
) -> tuple[list[str], Frame]:
    """Rates on top of each other. `kinds`: (class, series, what one count in a step is a second)."""
    edges = _bins(frame, run, _RATE_BINS, max(run.step_ms, _RATE_BIN_MS))
    columns = []
    for begin, end in pairwise(edges):
        count = max(1, round((end - begin) / run.step_ms))
        moments = [begin + run.step_ms * (place + 0.5) for place in range(count)]
        columns.append(
            [sum(run.at(name, moment) for moment in moments) / count * unit for _, name, unit in kinds]
        )
    # The flood of retransmissions after a takeover may tower over all: the frame is for the rest.
    totals = sorted(sum(column) for column in columns)
    usual = totals[int(len(totals) * 0.95)] if totals else 0.0
    frame = _to_scale(frame, usual * 1.1)
    xs = [frame.x(edge) for edge in edges]
    lower = [frame.bottom] * len(columns)
    parts = _value_axis(frame, title)
    for place, (css, _, _) in enumerate(kinds):
        upper = [frame.y(sum(column[: place + 1])) for column in columns]
        if upper != lower:
            parts.append(area(xs, lower, upper, f"rate {css}"))
        lower = upper
    parts.append(steps(xs, lower, "rate-line"))
    return parts, frame


def _to_scale(frame: Frame, highest: float) -> Frame:
    top = nice(highest)
    return Frame(frame.left, frame.top, frame.width, frame.height, frame.x_min, frame.x_max, top)


def _value_axis(frame: Frame, title: str) -> list[str]:
    parts = [text(frame.left, frame.top - 7, title, "axis-title")]
    for value in (0.0, frame.y_max / 2, frame.y_max):
        y = frame.y(value)
        parts.append(line(frame.left, y, frame.right, y, "grid"))
        parts.append(text(frame.left - 6, y + 4, f"{value:,.0f}", "tick", "end"))
    return parts


def _time_axis(frame: Frame) -> str:
    parts = []
    for value in ticks(frame.x_min, frame.x_max, 6):
        x = frame.x(value)
        parts.append(line(x, frame.bottom, x, frame.bottom + 4, "axis"))
        sign = "−" if value < 0 else ""
        words = "0" if value == 0 else f"{sign}{_round(abs(value))}"
        parts.append(text(x, frame.bottom + 18, words, "tick", "middle"))
    return "".join(parts)


def _ending(run: Run, frame: Frame) -> str:
    """Says why the curves end where they do, where that is well before the frame does."""
    x = frame.x(run.end_ms)
    if x > frame.right - 90:
        return ""
    return text(x + 8, frame.bottom - 8, "end of the drill", "tick")


def _bands(marks: Sequence[Mark], frames: Sequence[Frame]) -> list[str]:
    """From each fault to its promotion, behind the curves."""
    parts = []
    for mark in marks:
        if mark.promoted_ms is None:
            continue
        for frame in frames:
            x = frame.x(mark.at_ms)
            width = frame.x(mark.at_ms + mark.promoted_ms) - x
            parts.append(
                f'<rect x="{x:.1f}" y="{frame.top:.1f}" width="{width:.1f}" height="{frame.height:.1f}" class="band"/>'
            )
    return parts


def mark_words(mark: Mark) -> str:
    """What happened at a mark, for people."""
    words = f"{mark.node} {mark.deed}"
    return words if mark.promoted_ms is None else f"{words}, promotion after {duration(mark.promoted_ms)}"


def _marks(marks: Sequence[Mark], frames: Sequence[Frame]) -> list[str]:
    parts = []
    for number, mark in enumerate(marks):
        x = frames[0].x(mark.at_ms)
        row = 14.0 + 15 * (number % 2)
        words = mark_words(mark) if len(marks) <= NAMED_MARKS else str(number + 1)
        left = x < frames[0].left + frames[0].width * 0.45
        parts.append(text(x + (4 if left else -4), row, words, "mark-name", "start" if left else "end"))
        parts.append(line(x, row - 10, x, frames[0].top, "fault"))
        for frame in frames:
            parts.append(line(x, frame.top, x, frame.bottom, "fault"))
            if mark.promoted_ms is not None:
                promoted = frame.x(mark.at_ms + mark.promoted_ms)
                parts.append(line(promoted, frame.top, promoted, frame.bottom, "promotion"))
    return parts


def css_of(candidates: Sequence[Candidate]) -> list[str]:
    """Each candidate's class, which gives its colour and its dashes; ours are blue."""
    ours, others, names = 0, 0, []
    for candidate in candidates:
        if candidate.system == "hasyncd":
            names.append(f"ours-{ours % 2}")
            ours += 1
        else:
            names.append(f"other-{others % 4}")
            others += 1
    return names


def _silence_range(values: Sequence[float]) -> tuple[float, float]:
    low = 10.0
    while low > 1 and min(values) < low:
        low /= 10
    high = 1000.0
    while max(values) > high:
        high *= 10 if high < 1000 else 2
    return low, high


def outages(candidates: Sequence[Candidate]) -> str:
    """Of each run the sharpest silence that was measured, a dot; of each candidate the median, a stroke."""
    rows = [
        (candidate, css, [run.silence_ms for run in candidate.runs if run.silence_ms is not None])
        for candidate, css in zip(candidates, css_of(candidates), strict=True)
    ]
    values = [value for _, _, silences in rows for value in silences]
    if not values:
        return ""
    low, high = _silence_range(values)
    frame = Frame(24, 4, WIDTH - 48, _ROW * len(rows) + 4, low, high, 1, log=True)
    parts = _log_axis(frame)
    for place, (candidate, css, silences) in enumerate(rows):
        y = frame.top + _ROW * place + 42
        parts.append(text(frame.left - 18, y - 25, candidate.name, "row-name"))
        parts.append(line(frame.left, y, frame.right, y, "grid"))
        for value in silences:
            x = frame.x(max(value, low))
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="dot {css}"/>')
        middle = candidate.middle(run.silence_ms for run in candidate.runs)
        if middle is not None:
            x = frame.x(max(middle, low))
            parts.append(line(x, y - 9, x, y + 9, f"median {css}"))
            end = x > frame.right - 70
            words = duration(middle)
            parts.append(text(x + (-8 if end else 8), y - 7, words, "value", "end" if end else "start"))
    return drawing(WIDTH, frame.bottom + 30, "Silence of each run", parts)


def distribution(candidates: Sequence[Candidate]) -> str:
    """The share of flows whose longest silence was at most so long, for each candidate."""
    curves = [
        (css, candidate.percentiles_ms)
        for candidate, css in zip(candidates, css_of(candidates), strict=True)
        if candidate.percentiles_ms
    ]
    values = [value for _, percentiles in curves for value in percentiles]
    if not values:
        return ""
    low, high = _silence_range(values)
    frame = Frame(_LEFT, 28, WIDTH - _LEFT - _RIGHT, 170, low, high, 100, log=True)
    parts = _log_axis(frame)
    parts.append(text(frame.left, frame.top - 9, "flows, percent", "axis-title"))
    for share in (0, 50, 100):
        y = frame.y(share)
        parts.append(line(frame.left, y, frame.right, y, "grid"))
        parts.append(text(frame.left - 6, y + 4, f"{share}", "tick", "end"))
    for css, percentiles in curves:
        # A step at each of the values, up to the share of flows that it closes.
        xs = [frame.x(max(value, low)) for value in (*percentiles, high)]
        ys = [frame.y(100 * (place + 1) / len(percentiles)) for place in range(len(percentiles))]
        parts.append(steps(xs, ys, f"curve {css}"))
    return drawing(WIDTH, frame.bottom + 30, "Distribution of silence over flows", parts)


def _round(milliseconds: float) -> str:
    """A tick's name: it is a round number."""
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


def _log_axis(frame: Frame) -> list[str]:
    parts = []
    for value in log_ticks(frame.x_min, frame.x_max):
        x = frame.x(value)
        parts.append(line(x, frame.top, x, frame.bottom, "grid"))
        parts.append(text(x, frame.bottom + 18, _round(value), "tick", "middle"))
    return parts
