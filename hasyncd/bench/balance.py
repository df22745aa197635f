"""`balance.*`: backend tables, as the program `balance_speed` measures them on native/core alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hasyncd.bench.row import Row, middle
from hasyncd.bench.table import build_program, run_program

ROUNDS = 9
LOOKUP_NS_MAX = 5.0
BUILD_MS_MAX = 3.0
"""What Maglev may take, the second with `_GOAL_BACKENDS`."""
_GOAL_BACKENDS = 100
Say = Callable[[str], None]


def rows_of(told: dict[str, Any]) -> list[Row]:
    """The four rows of one line of `balance_speed`."""
    algorithm, backends = told["algorithm"], told["backends"]
    variant = f"{backends} backends"
    goals = algorithm == "maglev"
    return [
        Row(
            name=f"balance.{algorithm}_lookup",
            variant=variant,
            unit="ns",
            better="lower",
            value=middle(told["lookup_ns"]),
            baseline="limit" if goals else None,
            baseline_value=LOOKUP_NS_MAX if goals else None,
            samples=len(told["lookup_ns"]),
        ),
        Row(
            name=f"balance.{algorithm}_build",
            variant=variant,
            unit="ms",
            better="lower",
            value=middle(told["build_ms"]),
            baseline="limit" if goals and backends == _GOAL_BACKENDS else None,
            baseline_value=BUILD_MS_MAX if goals and backends == _GOAL_BACKENDS else None,
            samples=len(told["build_ms"]),
        ),
        Row(
            name="balance.evenness",
            variant=f"{algorithm}, {variant}",
            unit="max/mean",
            better="lower",
            value=told["max_to_mean"],
            samples=1,
        ),
        Row(
            name="balance.moved",
            variant=f"{algorithm}, {variant}",
            unit="% of keys",
            better="lower",
            value=100 * told["moved"],
            baseline="the leaving backend's share",
            baseline_value=100 * told["owned"],
            samples=1,
        ),
    ]


def measure(names: set[str], say: Say) -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    say(f"balance: tables of 3 to 1,000 backends, {ROUNDS} rounds")
    with tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch:
        lines = run_program(build_program("balance_speed", Path(scratch)), ROUNDS).splitlines()
    rows = [row for line in lines for row in rows_of(json.loads(line))]
    return sorted((row for row in rows if row.name in names), key=lambda row: row.name)
