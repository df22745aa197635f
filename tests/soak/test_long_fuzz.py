"""libFuzzer for ten minutes a target, from another seed each time; what it finds stays in /var/tmp/hasyncd-fuzz."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.fuzzing import TARGETS, fuzz

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SECONDS = 600
FOUND = Path("/var/tmp/hasyncd-fuzz")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str) -> None:
    FOUND.mkdir(parents=True, exist_ok=True)
    fuzz(target, FOUND, SECONDS, seed=0)
