"""Builds the C programs of lab and benchmarks where they are to run: who loads a gateway must not be slower than it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from hasyncd.lab.namespaces import LabError

_FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]


def build(program: Path, sources: Iterable[Path], includes: Iterable[Path] = ()) -> Path:
    """Compiles `sources` to `program`. Raises LabError: there is no compiler, or it does not like them."""
    command = ["cc", *_FLAGS, *(f"-I{path}" for path in includes), *map(str, sources), "-o", str(program)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(
            "this drill or benchmark needs a C compiler called `cc` (Debian package gcc)"
        ) from error
    if done.returncode != 0:
        raise LabError(f"cc failed:\n{done.stderr.strip()}")
    return program
