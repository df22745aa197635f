"""Builds the C code under the address and undefined-behaviour sanitizers: objects once a session, then programs or
the whole extension from them."""

from __future__ import annotations

import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "hasyncd" / "native"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
FLAGS = ["-std=c11", "-g", "-O1", "-fPIC", "-D_GNU_SOURCE", "-UNDEBUG", f"-I{NATIVE}", *WARNINGS, *SANITIZERS]
PYTHON_FLAGS = ["-DPy_LIMITED_API=0x030B0000", f"-I{sysconfig.get_path('include')}"]


class BuildError(Exception):
    """What gcc said."""


def gcc(*arguments: str) -> None:
    done = subprocess.run(["gcc", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(done.stderr)


class Build:
    """Objects, programs and the extension in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._core: list[str] | None = None

    def _objects(self, folder: str, *flags: str) -> list[str]:
        sources = sorted((NATIVE / folder).glob("*.c"))
        objects = [str(self.directory / f"{folder}-{source.stem}.o") for source in sources]
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda pair: gcc(*FLAGS, *flags, "-c", str(pair[0]), "-o", pair[1]),
                    zip(sources, objects, strict=True),
                )
            )
        return objects

    def core(self) -> list[str]:
        if self._core is None:
            self._core = self._objects("core")
        return self._core

    def program(self, source: Path) -> Path:
        """A test program: one C file and the core."""
        made = self.directory / source.stem
        gcc(*FLAGS, f"-I{source.parent}", str(source), *self.core(), "-o", str(made))
        return made

    def extension(self) -> Path:
        made = self.directory / "_native.abi3.so"
        parts = [*self.core(), *self._objects("io"), *self._objects("binding", *PYTHON_FLAGS)]
        gcc(*FLAGS, "-shared", *parts, "-o", str(made))
        return made
