"""`sync.*`: each row's file, one bed after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hasyncd.bench import drift, full_sync, overhead, wire
from hasyncd.bench.cores import on_ends_core
from hasyncd.bench.pair_bed import build_flow_load
from hasyncd.bench.row import Row

Say = Callable[[str], None]


def measure(names: set[str], say: Say) -> list[Row]:
    """The wanted rows. Raises LabError."""
    rows: list[Row] = []
    with on_ends_core(), tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch:
        program = build_flow_load(Path(scratch))
        if names & {"sync.replicate", "sync.full"}:
            rows += full_sync.measure(names, program, say)
        if names & {"sync.replicate", "sync.overhead"}:
            rows += overhead.measure(names, Path(scratch), say)
        if names & {"sync.wire_add", "sync.wire_update"}:
            rows += wire.measure(names, say)
        if "sync.drift" in names:
            rows += drift.measure(program, say)
    return rows
