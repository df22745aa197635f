"""Ten million flows of every kind, made, mirrored and ended: no count, port, handle or byte of memory stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.test_many_flows import run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


def test_ten_million_flows_leave_nothing_behind(tmp_path: Path) -> None:
    run(10_000_000, tmp_path)
