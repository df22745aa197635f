"""`hasyncd bench balance`: the program builds, and what it says holds for tables of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hasyncd.bench import balance_changes
from hasyncd.bench.balance import rows_of
from hasyncd.bench.bench_command import NAMES
from hasyncd.bench.table import build_program, run_program
from hasyncd.lab.namespaces import LabError


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program("balance_speed", tmp_path_factory.mktemp("bench"))


def test_the_rows(program: Path) -> None:
    told = [json.loads(line) for line in run_program(program, 1).splitlines()]
    rows = [row for each in told for row in rows_of(each)]
    assert {row.name for row in rows} == {
        name for name in NAMES if name.startswith("balance.") and name != balance_changes.NAME
    }
    assert balance_changes.NAME in NAMES
    assert {each["backends"] for each in told} == {3, 10, 100, 1000}
    for row in rows:
        assert row.value is not None, row
        assert row.value > 0, row
    for row in rows:
        if row.name == "balance.moved":
            assert row.ratio is not None
            assert row.ratio >= 1, "whoever leaves takes his keys along"
            if not row.variant.startswith("maglev"):
                assert row.ratio == pytest.approx(1), "and nobody else's"


def test_a_program_that_fails_says_why(program: Path) -> None:
    with pytest.raises(LabError, match="usage: balance_speed ROUNDS"):
        run_program(program, 0)
