"""`hasyncd last-word`, as it is typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hasyncd import cli
from hasyncd._native import INSIDE
from tests.native import frames
from tests.native.engines import PRIVATE, make_engine, send


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gw-a.lastword"
    engine = make_engine(log_file=os.open(path, os.O_RDWR | os.O_CREAT), log_records=64)
    engine.set_commit("emit", 10**9, True)
    send(engine, INSIDE, frames.udp(PRIVATE, 5000, "8.8.8.8", 53))
    return path


def test_people_read_a_sentence_and_a_line_for_each_flow(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["last-word", str(file)]) == 0
    sentence, line = capsys.readouterr().out.splitlines()
    assert sentence.startswith("1 of 1 flows were not confirmed by the peer: 1 new, 0 in an older state.")
    assert line.startswith(f"new     udp  src={PRIVATE} dst=8.8.8.8 sport=5000 dport=53 src=8.8.8.8")


def test_programs_read_json_lines(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["last-word", "--json", str(file)]) == 0
    head, flow = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (head["at_risk"], head["commit"], head["new"]) == (1, "emit", 1)
    assert flow["src"] == PRIVATE


def test_no_file_and_no_last_word_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["last-word", str(tmp_path / "none")]) == 3
    (tmp_path / "other").write_text("something else")
    assert cli.main(["last-word", str(tmp_path / "other")]) == 2
    assert "too short" in capsys.readouterr().err
