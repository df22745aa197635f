"""`hasyncd bench table` on a small scale: the programs build, agree with themselves and fill the rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasyncd.bench import table
from hasyncd.bench.bench_command import NAMES
from hasyncd.lab.namespaces import LabError

FLOWS = 1 << 16


@pytest.fixture(scope="module")
def table_speed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table.build_program("table_speed", tmp_path_factory.mktemp("bench"))


def test_the_rows_of_speed(table_speed: Path) -> None:
    rows = table.speed(table_speed, FLOWS, 3)
    assert {row.name for row in rows} == {"table.lookup", "table.insert"} < set(NAMES)
    assert {row.variant for row in rows} >= {
        "found, batches of 64",
        "missed, batches of 64",
        "insert",
        "delete",
    }
    for row in rows:
        assert row.value is not None
        assert row.value > 0, row
        assert row.samples == 3
        assert (row.ratio is None) == (row.variant == "delete"), row


def test_one_flow_costs_at_most_what_it_may(tmp_path: Path) -> None:
    each, whole = table.memory(table.build_program("engine_memory", tmp_path), 1 << 20)
    assert each.value is not None
    assert whole.value is not None
    assert 64 < each.value <= table.BYTES_MAX, "measured: resident memory of full engines"
    assert whole.value > each.value


def test_a_program_that_fails_says_why(table_speed: Path) -> None:
    with pytest.raises(LabError, match="usage: table_speed FLOWS ROUNDS"):
        table.speed(table_speed, 1, 0)
