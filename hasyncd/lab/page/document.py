"""The page: verdicts first, then for each scenario its figures and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hasyncd.lab.page.charts import (
    NAMED_MARKS,
    css_of,
    distribution,
    mark_words,
    outages,
    over_time,
    time_range,
)
from hasyncd.lab.page.ring import ring_change, ring_keys
from hasyncd.lab.page.rows import Candidate, Row, Run, gather
from hasyncd.lab.page.style import CSS, PATTERNS
from hasyncd.lab.page.svg import duration

_FLOW_KEYS = (
    ("alive", "alive: answered by the same server, under the same source"),
    ("silent", "silent: waiting for more than 50 ms"),
    ("remapped", "remapped"),
    ("dead", "reset"),
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself sees to it that the page loads nothing and runs nothing."""
_COLUMNS = (
    "verdict", "system", "runs", "flows", "lost flows", "outage", "silence p50", "p99", "max", "promoted",
)  # fmt: skip
_TILES_MAX = 6
_LINE_MAX = 300
_UP = "<a class='soft' href='#all'>all drills</a>"
_WORDS = (
    ("flow", "one TCP connection or UDP conversation between real kernel sockets; every byte of an answer is checked"),
    ("lost", "reset, stalled (no verified answer within 10 s of the fault), remapped (another server or source)"),
    ("outage", "the longest silence of flows that ask every 5 ms: how long nothing came through"),
    ("silence", "the longest time between two answers of one flow; most ask every 150 ms, so it is hardly shorter"),
    ("promotion", "when the survivor had the addresses, as seen from outside every 4 ms"),
)  # fmt: skip


def page(rows: Sequence[Row], purposes: dict[str, str] | None = None, about: Sequence[str] = ()) -> str:
    """One HTML document from rows of `--json`.

    `purposes`: what each scenario does; `about`: lines on the machine and the moment. All of it is escaped.
    """
    scenarios = gather(rows)
    candidates = [candidate for group in scenarios.values() for candidate in group]
    parts = [
        _header(candidates, about),
        _tiles(scenarios),
        _summary(scenarios) if len(scenarios) > 1 else "",
    ]
    parts += [_scenario(name, group, (purposes or {}).get(name, "")) for name, group in scenarios.items()]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(_title(candidates))}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"{PATTERNS}\n{''.join(parts)}{_how_to_read()}</body>\n</html>\n"
    )


def _ours(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.system == "hasyncd"] or list(candidates)


def _title(candidates: Sequence[Candidate]) -> str:
    ours = _ours(candidates)
    runs, passed = sum(len(candidate.runs) for candidate in ours), sum(candidate.passed for candidate in ours)
    return f"hasyncd drill: {passed} of {runs} passed" if runs else "hasyncd drill: nothing was played"


def _header(candidates: Sequence[Candidate], about: Sequence[str]) -> str:
    lines = "".join(f"<p class='soft'>{escape(words)}</p>" for words in about)
    return f"<header><h1>{escape(_title(candidates))}</h1>{lines}</header>\n"


def _tiles(scenarios: dict[str, list[Candidate]]) -> str:
    """The figures that decide, large: what was lost, how long nothing came through, the incumbent's beside it."""
    ours = [candidate for group in scenarios.values() for candidate in _ours(group)]
    runs, lost = sum(len(candidate.runs) for candidate in ours), sum(sum(one.lost.values()) for one in ours)
    tiles: list[tuple[str, ...]] = [
        (f"{sum(candidate.opened for candidate in ours):,}", f"flows judged in {_count(runs, 'drill')}"),
        (f"{lost:,}", "of them lost"),
    ]
    if len(scenarios) > _TILES_MAX:
        tiles.insert(0, (f"{sum(one.passed for one in ours)} of {runs}", "drills passed"))
    for name, group in scenarios.items() if len(scenarios) <= _TILES_MAX else ():
        first, others = _ours(group)[0], [one for one in group if one.system != "hasyncd"]
        if first.outage_ms is None:
            continue
        tile: tuple[str, ...] = (duration(first.outage_ms), f"outage, {name}")
        if others and others[0].outage_ms is not None and others[0] is not first:
            tile += (f"{others[0].name}: {duration(others[0].outage_ms)}",)
        tiles.append(tile)
    cells = "".join(
        f"<div class='tile'><b>{escape(value)}</b>{''.join(f'<span>{escape(one)}</span>' for one in words)}</div>"
        for value, *words in tiles
    )
    return f"<div class='tiles'>{cells}</div>\n"


def _summary(scenarios: dict[str, list[Candidate]]) -> str:
    """The contents: every scenario with its verdict and a link to its pictures, and what spoke against us."""
    lines, against = [], []
    for name, group in scenarios.items():
        for candidate in group:
            label = f"<a href='#{escape(_anchor(name))}'>{escape(name)}</a>" if candidate is group[0] else ""
            lines.append(f"<tr><td class='name'>{label}</td>{_figures(candidate)}</tr>")
        bad = [run for candidate in _ours(group) for run in candidate.runs if not run.passed]
        against += [
            f"<li><a href='#{escape(_anchor(name))}'>{escape(name)}</a>: {escape(_short(run.notes[0]))}</li>"
            for run in bad
            if run.notes
        ]
    failed = f"<h3>What failed</h3><ul class='notes'>{''.join(against)}</ul>" if against else ""
    contents = _table("<th class='name'>scenario</th>", lines)
    return f"<div id='all'></div>{contents}{failed}"


def _short(note: str) -> str:
    """A failure's first line; a whole log stands in its section."""
    line = note.splitlines()[0] if note else ""
    return line if len(line) <= _LINE_MAX else line[: _LINE_MAX - 1] + "…"


def _table(first: str, lines: Sequence[str]) -> str:
    heads = "".join(
        f"<th{' class=name' if word in ('system', 'verdict', 'lost flows') else ''}>{word}</th>"
        for word in _COLUMNS
    )
    return (
        f"<div class='scroll'><table><thead><tr>{first}{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def _figures(candidate: Candidate) -> str:
    gap = candidate.gap_ms or (None, None, None)
    counts = [len(candidate.runs), candidate.opened]
    times = [_time(value) for value in (candidate.outage_ms, *gap, candidate.promoted_ms)]
    lost = ", ".join(f"{count:,} {name}" for name, count in candidate.lost.items()) or "none"
    if candidate.lost and candidate.passed == len(candidate.runs):
        lost += " (nobody had promised them)"
    return (
        f"<td class='name'>{_verdict(candidate)}</td><td class='name'>{escape(candidate.name)}</td>"
        + "".join(f"<td>{count:,}</td>" for count in counts)
        + f"<td class='name'>{lost}</td>"
        + "".join(f"<td>{cell}</td>" for cell in times)
    )


def _verdict(candidate: Candidate) -> str:
    runs, passed = len(candidate.runs), candidate.passed
    if passed == runs:
        return "<span class='verdict good'>✓ passed</span>"
    return (
        f"<span class='verdict bad'>✗ {'failed' if runs == 1 else f'{runs - passed} of {runs} failed'}</span>"
    )


def _scenario(name: str, group: Sequence[Candidate], purpose: str) -> str:
    shown = [candidate.shown for candidate in group]
    begin, end = time_range(shown)
    figures = [_over_time(candidate, begin, end) for candidate in group if candidate.shown.series]
    if len(group) > 1 or len(group[0].runs) > 1:
        words = "the sharpest silence that was measured; a stroke is the median"
        figures.append(_figure("Outage of each run", words, outages(group)))
    figures += [
        _figure("Silence over flows", "each flow's longest silence: the share of flows that had heard by then",
                distribution(group), _candidate_keys(group)),
    ]  # fmt: skip
    figures += [
        _figure(
            f"{ring.service}: {ring.what}",
            "backends before and after",
            ring_change(ring),
            _legend(ring_keys()),
        )
        for run in shown
        for ring in run.rings
    ]
    without = [candidate.name for candidate in group if not candidate.shown.series]
    missing = f"<p class='soft'>No series over time: {escape('; '.join(without))}.</p>" if without else ""
    lead = f"<p>{escape(purpose[:1].upper() + purpose[1:])}.</p>" if purpose else ""
    lines = [f"<tr>{_figures(candidate)}</tr>" for candidate in group]
    head = f"<div class='head'><h2>{escape(name)}</h2>{_verdict(_ours(group)[0])}{_UP}</div>"
    return (
        f"<section id='{escape(_anchor(name))}'>{head}{lead}"
        f"{_table('', lines)}<div class='charts'>{''.join(figures)}</div>{missing}{_notes(group)}</section>\n"
    )


def _over_time(candidate: Candidate, begin_ms: float, end_ms: float) -> str:
    run = candidate.shown
    which = (
        f"seed {run.seed}"
        if len(candidate.runs) == 1
        else f"the median of {len(candidate.runs)} runs, seed {run.seed}"
    )
    return _figure(candidate.name, which, over_time(run, begin_ms, end_ms), _time_keys(run))


def _figure(title: str, words: str, drawing: str, keys: str = "") -> str:
    if not drawing:
        return ""
    caption = f"<figcaption><h3>{escape(title)}</h3><span class='soft'>{escape(words)}</span></figcaption>"
    return f"<figure>{caption}{drawing}{keys}</figure>"


def _time_keys(run: Run) -> str:
    """The legend, of what this picture has; the striped and the crossed one where there are any."""
    swatch = "<svg viewBox='0 0 24 12' aria-hidden='true'>{}</svg>"
    box = "<rect width='24' height='12' class='key {}'/>"
    keys = []
    if "open" in run.series:
        for css, words in _FLOW_KEYS:
            if css in ("alive", "silent") or any(run.series.get(css, ())):
                keys.append((swatch.format(box.format(css)), words))
        keys += [(swatch.format(box.format(css)), f"{css.upper()} answers") for css in ("tcp", "udp")]
    if len(run.marks) > NAMED_MARKS:
        keys += [
            (f"<b>{number}</b> ", f"{_seconds(mark.at_ms)}: {mark_words(mark)}")
            for number, mark in enumerate(run.marks, 1)
        ]
    if run.marks:
        keys.append((swatch.format("<line x1='12' y1='0' x2='12' y2='12' class='fault'/>"), "fault"))
        keys.append((swatch.format("<line x1='12' y1='0' x2='12' y2='12' class='promotion'/>"), "promotion"))
    return _legend(keys)


def _candidate_keys(group: Sequence[Candidate]) -> str:
    stroke = "<svg viewBox='0 0 24 12' aria-hidden='true'><line x1='0' y1='6' x2='24' y2='6' class='curve {}'/></svg>"
    return _legend(
        [(stroke.format(css), candidate.name) for candidate, css in zip(group, css_of(group), strict=True)]
    )


def _legend(keys: Sequence[tuple[str, str]]) -> str:
    spans = "".join(f"<span>{swatch}{escape(words)}</span>" for swatch, words in keys)
    return f"<div class='legend'>{spans}</div>"


def _notes(group: Sequence[Candidate]) -> str:
    lines = []
    for candidate in group:
        notes = dict.fromkeys(note for run in candidate.runs for note in run.notes)
        whose = f"{escape(candidate.name)}: " if len(group) > 1 else ""
        lines += [f"<li>{whose}{escape(note)}</li>" for note in notes]
    return f"<ul class='notes'>{''.join(lines[:40])}</ul>" if lines else ""


def _how_to_read() -> str:
    words = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in _WORDS)
    return (
        f"<section><h2>How to read it</h2><dl>{words}</dl><p class='soft'>All systems stand in the same lab: the same "
        "hosts, links, clients, servers and judge, one drill at a time. Of several runs the table has the medians; "
        "<em>max</em> is the worst of all.</p></section>\n"
    )


def _anchor(name: str) -> str:
    return "scenario-" + "".join(letter if letter.isalnum() else "-" for letter in name)


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s"


def _time(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else escape(duration(milliseconds))


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
