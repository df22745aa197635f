from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hasyncd.cli import client
from tests.cli.daemon import Daemon


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(client, "RUN_DIRECTORY", tmp_path)
    return tmp_path


@pytest.fixture
def daemon(run_directory: Path) -> Iterator[Daemon]:
    daemon = Daemon(run_directory / "gw-a.sock")
    yield daemon
    daemon.close()
