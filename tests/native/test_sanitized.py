"""The Python tests of this folder once more, the extension under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.sanitized import ROOT, Build

HERE = Path(__file__).parent
PROGRAMS_OF_THEIR_OWN = ("test_large_table.py", "test_libfuzzer.py", "test_many_flows.py")
AGAIN = sorted(
    str(file.relative_to(ROOT))
    for file in HERE.glob("test_*.py")
    if file.name not in (Path(__file__).name, *PROGRAMS_OF_THEIR_OWN)
)


def library(name: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, check=True, text=True)
    return found.stdout.strip()


@pytest.mark.timeout(1000)
def test_the_extension_is_clean_under_sanitizers(sanitized_build: Build) -> None:
    environment = os.environ | {
        "HASYNCD_NATIVE_SO": str(sanitized_build.extension()),
        "LD_PRELOAD": library("libasan.so"),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "HS_MODEL_EXAMPLES": "40",
    }
    # --capture=sys: a sanitizer writes to descriptor 2 and ends the process; pytest must not have taken it away.
    options = ["-q", "-x", "-m", "not e2e", "-p", "no:cacheprovider", "--capture=sys"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *AGAIN],
        check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
