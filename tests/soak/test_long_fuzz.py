"""libFuzzer for ten minutes a target, from another seed each time; what it finds stays in /var/tmp/hasyncd-fuzz."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.fuzzing import FOUND, TARGETS, build, fuzz

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SECONDS = 600


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str) -> None:
    directory = Path(FOUND)
    directory.mkdir(parents=True, exist_ok=True)
    fuzz(build(directory), target, directory, SECONDS, seed=0)
