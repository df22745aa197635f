"""`table.*`: the flow table beside a bare hash table in the same process, and the memory of a node whose table is full.

`table_speed.c` and `engine_memory.c` stand on native/core alone: no interpreter, no sockets.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from hasyncd.bench.row import Row, middle
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.program import build

FLOWS = 1 << 20
ROUNDS = 9
BYTES_MAX = 128
"""What one IPv4 flow may cost a node, all told."""
_FEWER = 8
"""A table of so many times fewer flows tells what does not grow with them."""
_NATIVE = Path(__file__).parents[1] / "native"
_KEYED = "bare table, same hash"
_CRC32C = "bare table, CRC32c"
_NOTES = {
    "insert": "a flow (both tuples, slot, wheel, digest) beside one key",
    "found, crc32c": "a hash that anybody can aim with, batches of 64",
    "found, one by one": "no batch: two reads in a row beside one",
}
Say = Callable[[str], None]


def build_program(name: str, directory: Path) -> Path:
    """`name`.c of this folder, with the core. Raises LabError."""
    sources = [Path(__file__).with_name(f"{name}.c"), *sorted((_NATIVE / "core").glob("*.c"))]
    return build(directory / name, sources, [_NATIVE])


def run_program(program: Path, *arguments: int) -> str:
    """What a program of `build_program` prints. Raises LabError."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise LabError(done.stderr.strip() or f"{program.name} ended with {done.returncode}")
    return done.stdout


def _speed_row(name: str, variant: str, ours: list[float], bare: list[float]) -> Row:
    spread = ", ".join(
        f"{side} {min(rates):.3g}-{max(rates):.3g}"
        for side, rates in (("ours", ours), ("bare", bare))
        if rates
    )
    crc32c = variant.endswith("crc32c")
    return Row(
        name=name,
        variant=variant,
        unit="lookups/s" if name == "table.lookup" else "flows/s",
        better="higher",
        value=middle(ours),
        baseline=(_CRC32C if crc32c else _KEYED) if bare else None,
        baseline_value=middle(bare),
        samples=len(ours),
        cores="one each, by turns",
        notes="; ".join(filter(None, (_NOTES.get(variant), spread))),
    )


def speed(program: Path, flows: int, rounds: int) -> list[Row]:
    """Rows `table.lookup` and `table.insert` of a table of `flows`, by `table_speed`. Raises LabError."""
    rows = []
    for line in run_program(program, flows, rounds).splitlines():
        told = json.loads(line)
        variant = told["name"]
        name = "table.insert" if variant in ("insert", "delete") else "table.lookup"
        rows.append(_speed_row(name, variant, told["ours"], told["bare"]))
    return rows


def memory(program: Path, flows: int) -> list[Row]:
    """Rows `table.bytes_per_flow` of an engine of `flows`, by `engine_memory`. Raises LabError."""
    whole, fewer = int(run_program(program, flows)), int(run_program(program, flows // _FEWER))
    each = (whole - fewer) / (flows - flows // _FEWER)
    fixed = whole - each * flows
    how = f"resident memory of engines of {flows:,} and {flows // _FEWER:,} flows, both full"
    return [
        Row(
            name="table.bytes_per_flow",
            variant="a flow",
            unit="bytes",
            better="lower",
            value=each,
            baseline="limit",
            baseline_value=BYTES_MAX,
            samples=1,
            notes=how,
        ),
        Row(
            name="table.bytes_per_flow",
            variant="whole engine",
            unit="bytes",
            better="lower",
            value=whole / flows,
            samples=1,
            notes=f"with {fixed / (1 << 20):.0f} MiB that no flow adds to: delta log, ports of 4 public addresses",
        ),
    ]


def measure(names: set[str], say: Say) -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch:
        if names & {"table.lookup", "table.insert"}:
            say(f"table: {FLOWS:,} flows, {ROUNDS} rounds, by turns with a bare hash table")
            program = build_program("table_speed", Path(scratch))
            rows += [row for row in speed(program, FLOWS, ROUNDS) if row.name in names]
        if "table.bytes_per_flow" in names:
            say(f"table.bytes_per_flow: filling engines of {FLOWS:,} flows and fewer")
            rows += memory(build_program("engine_memory", Path(scratch)), FLOWS)
    return rows
