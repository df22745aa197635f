"""Builds a program from one C file and the core as a release is built: for what sanitizers would make too slow."""

from __future__ import annotations

from pathlib import Path

from tests.native.sanitized import NATIVE, WARNINGS, gcc

FLAGS = ["-std=c11", "-O2", "-g", "-D_GNU_SOURCE", f"-I{NATIVE}", *WARNINGS]


def build(source: Path, directory: Path) -> Path:
    made = directory / source.stem
    core = map(str, sorted((NATIVE / "core").glob("*.c")))
    gcc(*FLAGS, f"-I{source.parent}", str(source), *core, "-o", str(made))
    return made
