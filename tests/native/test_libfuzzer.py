"""libFuzzer for a few seconds a target, from a fixed seed; `tests/run fuzz -- SECONDS` for longer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.native.fuzzing import TARGETS, build, fuzz

SECONDS = 8


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(program: Path, target: str, tmp_path: Path) -> None:
    """Bad accesses, undefined behaviour, and what fuzz_target.c asks: N4, N10, one fate for every packet."""
    said = fuzz(program, target, tmp_path, SECONDS)
    runs = re.search(r"^Done (\d+) runs", said, re.MULTILINE)
    assert runs, said
    assert int(runs[1]) > 500, "the seeds alone are fifty"
