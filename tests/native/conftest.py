"""Collects test_*.c: each is one program, linked with the core under sanitizers, and one test.

With HASYNCD_NATIVE_SO in the environment the Python tests here use that extension instead of the installed one
(test_sanitized.py sets it).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.sanitized import Build, BuildError


def load_extension(path: str) -> None:
    spec = importlib.util.spec_from_file_location("hasyncd._native", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["hasyncd._native"] = module


if "HASYNCD_NATIVE_SO" in os.environ:
    load_extension(os.environ["HASYNCD_NATIVE_SO"])

BUILD_KEY = pytest.StashKey[Build]()


def build_of(config: pytest.Config) -> Build:
    """The session's build: objects are compiled when the first test needs them."""
    if BUILD_KEY not in config.stash:
        factory = pytest.TempPathFactory.from_config(config, _ispytest=True)
        config.stash[BUILD_KEY] = Build(factory.mktemp("native"))
    return config.stash[BUILD_KEY]


@pytest.fixture
def sanitized_build(request: pytest.FixtureRequest) -> Build:
    return build_of(request.config)


class ProgramFailed(Exception):
    """What the compiler, the program or a sanitizer said."""


class ProgramItem(pytest.Item):
    """One C file: compiled, linked and run; it exits 0 when every line of its tables holds."""

    def runtest(self) -> None:
        try:
            program = build_of(self.config).program(self.path)
        except BuildError as error:
            raise ProgramFailed(str(error)) from error
        options = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
        done = subprocess.run(
            [program], check=False, capture_output=True, text=True, env=os.environ | options, timeout=60
        )
        if done.returncode != 0:
            raise ProgramFailed(f"exit {done.returncode}\n{done.stdout}{done.stderr}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, ProgramFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


class ProgramFile(pytest.File):
    def collect(self) -> Iterator[ProgramItem]:
        yield ProgramItem.from_parent(self, name=self.path.stem)


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> ProgramFile | None:
    if (
        file_path.suffix == ".c"
        and file_path.name.startswith("test_")
        and "HASYNCD_NATIVE_SO" not in os.environ
    ):
        return ProgramFile.from_parent(parent, path=file_path)
    return None
