"""A change of backends, drawn: for each of them its share of the keys and its live flows, before and after.

A hollow bar is before, a filled one after: nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from hasyncd.lab.page.rows import BackendRow, RingPicture
from hasyncd.lab.page.svg import drawing, line, text

WIDTH = 520.0
_NAMES, _GAP, _VALUE = 52.0, 8.0, 112.0
_TOP, _ROW, _BAR = 44.0, 30.0, 8.0
_KEYS = (("was", "before"), ("is", "after"))


def ring_change(picture: RingPicture) -> str:
    """The picture of one service."""
    servers = sorted({row.server for row in (*picture.before, *picture.after)})
    before = {row.server: row for row in picture.before}
    after = {row.server: row for row in picture.after}
    width = (WIDTH - _NAMES - _GAP) / 2
    bottom = _TOP + _ROW * len(servers)
    parts = []
    for place, (title, values) in enumerate(
        (("share of the keys", _shares), ("live flows", _flows)),
    ):
        left = _NAMES + place * (width + _GAP)
        most = max([*values(picture.before), *values(picture.after), 1e-9])
        scale = (width - _VALUE) / most
        parts.append(text(left, _TOP - 16, title, "axis-title"))
        parts.append(line(left, _TOP - 6, left, bottom, "axis"))
        for number, server in enumerate(servers):
            y = _TOP + _ROW * number
            pair = before.get(server), after.get(server)
            parts += _bars(left, y, scale, [values([row])[0] if row else None for row in pair])
            words = _percents(*pair) if place == 0 else _counts(*pair)
            longest = max((values([row])[0] for row in pair if row), default=0.0)
            parts.append(text(left + longest * scale + 6, y + 14, words, "value"))
    parts += [
        text(_NAMES - 8, _TOP + _ROW * number + 14, str(server), "", "end")
        for number, server in enumerate(servers)
    ]
    return drawing(WIDTH, bottom + 8, f"{picture.service}: {picture.what}; backends before and after", parts)


def ring_keys() -> list[tuple[str, str]]:
    """The legend: (swatch, words)."""
    bar = "<rect x='1' y='2' width='22' height='8' class='bar {}'/>"
    swatch = f"<svg viewBox='0 0 24 12' aria-hidden='true'>{bar}</svg>"
    return [(swatch.format(css), words) for css, words in _KEYS]


def _shares(rows: Sequence[BackendRow]) -> list[float]:
    return [row.share for row in rows]


def _flows(rows: Sequence[BackendRow]) -> list[float]:
    return [float(row.flows) for row in rows]


def _bars(left: float, y: float, scale: float, values: Sequence[float | None]) -> list[str]:
    """The one of before above the one of after; nothing where the backend was not there."""
    return [
        f'<rect x="{left:.1f}" y="{y + 1 + place * (_BAR + 2):.1f}" width="{max(value * scale, 0.8):.1f}" '
        f'height="{_BAR:g}" class="bar {css}"/>'
        for place, (value, (css, _)) in enumerate(zip(values, _KEYS, strict=True))
        if value is not None
    ]


def _percents(before: BackendRow | None, after: BackendRow | None) -> str:
    return _arrow(*(None if row is None else f"{row.share:.1%}" for row in (before, after)))


def _counts(before: BackendRow | None, after: BackendRow | None) -> str:
    return _arrow(*(None if row is None else f"{row.flows:,}" for row in (before, after)))


def _arrow(before: str | None, after: str | None) -> str:
    if before == after and before is not None:
        return before
    return f"{before or '–'} → {after or '–'}"
