"""hasyncd ring, as an operator types and reads it."""

from __future__ import annotations

import json

import pytest

from hasyncd import cli
from tests.cli.daemon import RING, Daemon

Output = pytest.CaptureFixture[str]


def test_ring_shows_shares_and_what_a_change_would_move(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["ring", "web", "--add", "2", "--weight", "1=1", "--remove", "7"]) == 0
    assert daemon.requests[-1] == {
        "verb": "ring", "service": "web", "add": {"2": 1}, "weight": {"1": 1}, "remove": [7]
    }  # fmt: skip
    shown = capsys.readouterr().out
    for words in (
        "web: maglev, generation 3", "– → 1", "-50.00%", "50.00% of all keys would move", "610 elsewhere"
    ):  # fmt: skip
        assert words in " ".join(shown.split())
    assert cli.main(["ring", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == RING
    assert cli.main(["ring", "dns"]) == 2
    assert capsys.readouterr().err == "there is no service 'dns'\n"
