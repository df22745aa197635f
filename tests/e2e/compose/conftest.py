"""One engine and one running compose project for all tests of this folder: they are slow to make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.compose.engine import Engine, engine
from tests.e2e.compose.project import Project


@pytest.fixture(scope="session")
def container_engine() -> Iterator[Engine]:
    with engine() as running:
        yield running


@pytest.fixture(scope="session")
def project(container_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    logs: Path = tmp_path_factory.mktemp("compose")
    running = Project(container_engine, logs)
    try:
        running.up()
        yield running
    finally:
        running.save_logs()
        running.down()
