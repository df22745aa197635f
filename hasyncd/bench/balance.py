"""`balance.*`: backend tables, as the program `balance_speed` measures them on native/core alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hasyncd.bench import balance_changes
from hasyncd.bench.row import Row, middle
from hasyncd.bench.table import build_program, run_program

ROUNDS = 9
LOOKUP_NS_MAX = 5.0
BUILD_MS_MAX = 3.0
"""What Maglev may take, the second with `_GOAL_BACKENDS`."""
_GOAL_BACKENDS = 100
_ELSEWHERE: dict[str, dict[int, tuple[str, str, str, str]]] = {
    "maglev": {
        3: ("1.6", "0.77", "1.0000", "33.37"),
        10: ("1.6", "1.26", "1.0000", "10.22"),
        100: ("1.6", "1.51", "1.0010", "1.55"),
        1000: ("1.6", "1.60", "1.0071", "0.68"),
    },
    "ring": {
        3: ("43", "-", "1.07", "33.3"),
        10: ("43", "0.13", "1.12", "10.0"),
        100: ("80", "1.7", "1.22", "1.0"),
        1000: ("119", "-", "1.29", "0.1"),
    },
    "ecmp": {
        3: ("2", "0.9", "1.006", "33.3"),
        10: ("2", "2.3", "1.021", "10.0"),
        100: ("2", "13", "1.104", "1.0"),
        1000: ("2", "104", "1.46", "0.1"),
    },
}
"""Lookup in ns, build in ms, max/mean, % moved: of plain implementations of the same algorithms (65,537 slots, 160
vnodes, 65,536 rows), measured on another 2-core machine."""
Say = Callable[[str], None]


def rows_of(told: dict[str, Any]) -> list[Row]:
    """The four rows of one line of `balance_speed`."""
    algorithm, backends = told["algorithm"], told["backends"]
    variant = f"{backends} backends"
    goals = algorithm == "maglev"
    lookup, build, evenness, moved = (f"elsewhere {known}" for known in _ELSEWHERE[algorithm][backends])
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
            notes=lookup,
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
            notes=build,
        ),
        Row(
            name="balance.evenness",
            variant=f"{algorithm}, {variant}",
            unit="max/mean",
            better="lower",
            value=told["max_to_mean"],
            samples=1,
            notes=evenness,
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
            notes=moved,
        ),
    ]


def measure(names: set[str], say: Say) -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    rows = [balance_changes.measure(say)] if balance_changes.NAME in names else []
    if names == {balance_changes.NAME}:
        return rows
    say(f"balance: tables of 3 to 1,000 backends, {ROUNDS} rounds")
    with tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch:
        lines = run_program(build_program("balance_speed", Path(scratch)), ROUNDS).splitlines()
    rows += [row for line in lines for row in rows_of(json.loads(line))]
    return sorted((row for row in rows if row.name in names), key=lambda row: row.name)
