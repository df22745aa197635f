"""The checklist of the RFCs in hasyncd/native/README.md names tests: each exists."""

from __future__ import annotations

import re
from pathlib import Path

from tests.native.sanitized import NATIVE

HERE = Path(__file__).parent


def test_every_test_that_the_checklist_names_exists() -> None:
    page = (NATIVE / "README.md").read_text()
    sources = "".join(file.read_text() for file in HERE.iterdir() if file.suffix in (".py", ".c"))
    named = set(re.findall(r"`((?:test|check)_\w+)`", page))
    assert len(named) > 20
    assert {name for name in named if f" {name}(" not in sources} == set()
    assert {
        file for file in re.findall(r"\btest_\w+\.(?:py|c)\b", page) if not (HERE / file).exists()
    } == set()
