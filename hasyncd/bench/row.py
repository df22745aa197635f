"""One line of `hasyncd bench`: a figure of ours beside the same figure of the baseline, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """DESIGN §7's keys. `value` and `baseline_value` are medians in `unit`; `ratio` is their quotient."""

    name: str
    variant: str
    unit: str
    better: str
    """`higher` or `lower`."""
    value: float | None
    baseline: str | None = None
    baseline_value: float | None = None
    samples: int = 0
    p50: float | None = None
    p99: float | None = None
    cores: str | None = None
    """How many cores each side used: a ratio without it says little."""
    notes: str = ""

    @property
    def ratio(self) -> float | None:
        """`value / baseline_value`, None where either is missing."""
        if self.value is None or not self.baseline_value:
            return None
        return self.value / self.baseline_value

    def to_json(self) -> dict[str, Any]:
        """The row with exactly the fixed keys."""
        return {
            "name": self.name,
            "variant": self.variant,
            "unit": self.unit,
            "better": self.better,
            "value": self.value,
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
            "ratio": self.ratio,
            "samples": self.samples,
            "p50": self.p50,
            "p99": self.p99,
            "cores": self.cores,
            "notes": self.notes,
        }


def middle(values: Sequence[float]) -> float | None:
    """The median, None of nothing."""
    return median(values) if values else None
