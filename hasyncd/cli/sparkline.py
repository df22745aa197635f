"""The last minute of a few numbers, as a line of blocks: what a table of figures cannot show."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
KEPT: Final = 60
TRACED: Final = {
    "packets/s": ("rates", "packets_per_s", 1),
    "bit/s": ("rates", "bytes_per_s", 8),
    "connections/s": ("rates", "new_flows_per_s", 1),
    "at risk": ("sync", "at_risk_flows", 1),
    "lag ms": ("sync", "lag_ms", 1),
}
"""What is watched, where the status has it, and by how much that is multiplied."""


class History:
    """Samples of the traced numbers; None where a number was not known, or nobody answered."""

    def __init__(self) -> None:
        self.samples: dict[str, deque[float | None]] = {name: deque(maxlen=KEPT) for name in TRACED}

    def add(self, status: Mapping[str, Any] | None) -> None:
        """One status, or None for a daemon that did not answer."""
        for name, (section, key, factor) in TRACED.items():
            value = ((status or {}).get(section) or {}).get(key)
            self.samples[name].append(value * factor if isinstance(value, int | float) else None)

    def line(self, name: str, width: int) -> str:
        """The newest `width` samples, the last one at the right."""
        return sparkline(list(self.samples[name])[-width:]).rjust(width)

    def peak(self, name: str) -> float | None:
        """The largest that is shown."""
        return max((value for value in self.samples[name] if value is not None), default=None)


def sparkline(values: Sequence[float | None]) -> str:
    """A block a value, the tallest for the largest; the lowest is 0, and a gap is a value that is not known."""
    top = max((value for value in values if value is not None), default=0)
    return "".join(" " if value is None else _block(value, top) for value in values)


def _block(value: float, top: float) -> str:
    if top <= 0 or value <= 0:
        return BLOCKS[0]
    # The smallest number that is not 0 stands above the floor: one flow at risk is to be seen.
    return BLOCKS[max(1, min(len(BLOCKS) - 1, round(value / top * (len(BLOCKS) - 1))))]
