"""What the tests of the tc engine's program stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.datapath.twins import Twins, make_twins


@pytest.fixture
def twins() -> Iterator[Twins]:
    with make_twins() as made:
        yield made
