"""What every chart is made of: a frame with scales, ticks at round numbers, paths of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot's rectangle in the drawing's own units, and what its edges mean."""

    left: float
    top: float
    width: float
    height: float
    x_min: float
    x_max: float
    y_max: float
    """The lower edge is 0."""
    log: bool = False
    """Whether x is logarithmic."""

    def x(self, value: float) -> float:
        """Where a value lies; values outside of the frame lie on its edge."""
        low, high, value = self.x_min, self.x_max, min(max(value, self.x_min), self.x_max)
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.left + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - min(max(value / self.y_max, 0.0), 1.0))

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width


def nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 … that is not less."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * (1 - 1e-9))


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], about so many."""
    step = nice((high - low) / about)
    return [round(step * place, 9) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 … within [low, high]; 1, 10, 100 … where those would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    few = [value for value in fine if low <= value <= high]
    return few if len(few) <= 8 else [value for value in few if str(value)[0] == "1"]


def duration(milliseconds: float) -> str:
    """`27 ms`, `370 ms`, `3.02 s`, `12.5 s`."""
    if milliseconds >= 1000:
        seconds = milliseconds / 1000
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 else f"{milliseconds:.1f} ms"


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    """One line of words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def area(xs: Sequence[float], lower: Sequence[float], upper: Sequence[float], css: str) -> str:
    """What lies between two step lines; `xs` has one more than they have."""
    there = _steps(xs, upper, first="M")
    back = _steps(xs[::-1], lower[::-1], first="L")
    return f'<path d="{there}{back}Z" class="{css}"/>'


def steps(xs: Sequence[float], values: Sequence[float], css: str) -> str:
    """A step line."""
    return f'<path d="{_steps(xs, values, first="M")}" class="{css}"/>'


def _steps(xs: Sequence[float], ys: Sequence[float], first: str) -> str:
    parts = [f"{first}{xs[0]:.1f} {ys[0]:.1f}"]
    for place, y in enumerate(ys):
        if place and y != ys[place - 1]:
            parts.append(f"V{y:.1f}")
        # A run of equal values is one stroke.
        if place + 1 == len(ys) or ys[place + 1] != y:
            parts.append(f"H{xs[place + 1]:.1f}")
    return "".join(parts)


def drawing(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """The whole picture; `label` says to who cannot see it what it shows."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
