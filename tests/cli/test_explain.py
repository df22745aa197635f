"""hasyncd explain, as an operator types and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hasyncd import cli
from hasyncd.cli.explain import read_point, sentences
from tests.cli.daemon import EXPLANATION, Daemon

Output = pytest.CaptureFixture[str]
WORDS = ["explain", "203.0.113.100:40000", "203.0.113.5:80", "tcp"]


def said(**changes: Any) -> str:
    return "\n".join(sentences(EXPLANATION | changes))


def test_a_flow_of_a_draining_backend_is_explained(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(WORDS) == 0
    assert daemon.requests[-1] == {
        "verb": "explain", "src": "203.0.113.100", "sport": 40000, "dst": "203.0.113.5", "dport": 80, "proto": "tcp"
    }  # fmt: skip
    shown = capsys.readouterr().out
    for words in (
        "203.0.113.100:40000 → 203.0.113.5:80 tcp: a live flow, ESTABLISHED, 7440 s left",
        "it is backend 1 (10.0.1.21:8080, draining, 4 flows)'s, of service web",
        "a new SYN from there would end it",
        "consistent-hash by tuple, generation 3",
        "key 5e8ed56d → vnode 118 of 320, at 6046bfdc → backend 2",
        "by the table before: backend 1",
        "a fresh decision would differ: replies 10.0.1.22:8080 → 203.0.113.100:40000",
    ):
        assert words in shown
    assert cli.main([*WORDS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == EXPLANATION


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "answered"}, "answered by the gateway itself"),
        (
            {"verdict": "drop", "dropped": "no_rule", "because": "nothing forwards it"},
            "dropped (no_rule): nothing forwards it",
        ),
        ({"verdict": "drop", "sender_told": True}, "and its sender is told"),
        ({"verdict": "new_flow"}, "no flow yet; a first packet makes one, answered 10.0.1.22:8080"),
        ({"side": None}, "no route leads back"),
        ({"forwards": False}, "this node does not forward now"),
        ({"fresh": None}, "would be to drop it"),
        ({"fresh_differs": False}, "a fresh decision would be the same"),
        (
            {"nat": {"kind": "nat", "rule": 0, "public": "203.0.113.5:7", "preferred": "203.0.113.5:6"}},
            "nat rule 0: public 203.0.113.5:7; its hash prefers 203.0.113.5:6, which was taken",
        ),
        ({"nat": {"kind": "exempt", "rule": 1, "public": None}}, "nat rule 1 exempts the destination"),
        ({"nat": {"kind": "pass", "rule": 1, "public": None}}, "pass rule 1: untranslated"),
        ({"nat": {"kind": "one_to_one", "rule": 0, "public": "203.0.113.7"}}, "1:1 mapping 0: 203.0.113.7"),
        ({"nat": {"kind": "forward", "rule": 0, "public": "203.0.113.5:22"}}, "forward 0: 203.0.113.5:22"),
    ],
)
def test_every_answer_has_its_words(changes: dict[str, Any], words: str) -> None:
    assert words in said(**changes)


def test_bounded_loads_and_turns_have_their_words() -> None:
    service = EXPLANATION["service"]
    assert "the next with room is backend 1" in said(service=service | {"backend": service["under_way"]})
    assert "in turn: the next one is backend 2" in said(service=service | {"owner": None})


def test_ends_are_read_and_refused(capsys: Output) -> None:
    assert read_point("[2001:db8::1]:53") == ("2001:db8::1", 53)
    assert read_point("10.0.0.1") == ("10.0.0.1", 0)
    for bad in ("10.0.0.1:70000", "10.0.0.0/8:1", "[::1", "::1:x", "web:80"):
        with pytest.raises(SystemExit):
            cli.main(["explain", bad, "10.0.0.1:1", "tcp"])
    assert "an end is ADDRESS:PORT" in capsys.readouterr().err
