"""native/demo.c: the core without Python says what the worked examples say."""

from __future__ import annotations

import re
import subprocess

from tests.native.sanitized import NATIVE, Build


def test_the_demo_links_the_core_alone_and_shows_the_worked_examples(sanitized_build: Build) -> None:
    program = sanitized_build.program(NATIVE / "demo.c")
    done = subprocess.run([program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    before, after = re.findall(r"^  server  +([A-D ]+)$", said, re.MULTILINE)[:2]
    assert before.split() == ["A", "C", "B", "B", "B", "B", "A", "A"]
    assert after.split() == ["A", "C", "D", "D", "B", "B", "A", "A"], "keys of (30, 45] move, to D"
    assert "not the leaver's: 0" in said
    ports = re.findall(r"-> (8\S+) *:53 +(203\.0\.113\.5:(\d+)|refused) +(\d+)", said)
    assert [(server, port, int(tried)) for server, _, port, tried in ports if server == "8.8.8.8"] == [
        ("8.8.8.8", "40004", 3),
        ("8.8.8.8", "40999", 64),
        ("8.8.8.8", "", 64),
    ]
