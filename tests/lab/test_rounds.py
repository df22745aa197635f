"""One kill among many: what counts as a connection, what as lost, and what a last word excuses."""

from __future__ import annotations

import json
from typing import Any

from hasyncd.lab.rounds import Attempt, gather, judge_round, line, table

MS = 1_000_000
FAULT = 1000 * MS
END = 12_000 * MS
TARGET = ("203.0.113.5", 80)


def attempt(
    port: int,
    *exchanges: tuple[int, int | None],
    connected: int | None = 995,
    end: tuple[int, str] | None = None,
) -> Attempt:
    """As its client writes it, opened 990 ms after the start; moments in ms."""
    opened = 990
    written = {
        "flow": port,
        "protocol": "tcp",
        "path": "lb",
        "group": "opened",
        "opened_ns": opened * MS,
        "connected_ns": None if connected is None else connected * MS,
        "near": ["203.0.113.100", port],
        "target": TARGET,
        "end": [end[0] * MS, end[1]] if end else None,
        "seen": [[996 * MS, 21, "203.0.113.100", port]],
        "wrong_bytes": 0,
        "sent_us": [(sent - opened) * 1000 for sent, _ in exchanges],
        "answered_us": [-1 if answered is None else (answered - opened) * 1000 for _, answered in exchanges],
    }
    return Attempt.from_json(json.dumps(written))


def last_word(commit: str, *ports: int, risk: str = "new") -> list[dict[str, Any]]:
    flows = [
        {
            "proto": "tcp",
            "risk": risk,
            "src": "203.0.113.100",
            "sport": port,
            "dst": TARGET[0],
            "dport": TARGET[1],
        }
        for port in ports
    ]
    return [{"commit": commit, "at_risk": len(ports), "whole": True}, *flows]


LIVES = attempt(40_000, (996, 997), (1100, 1101))
LOST = attempt(40_001, (996, 997), (1100, None))


def test_a_connection_that_answers_after_the_kill_lives() -> None:
    shown = judge_round(1, "gw-a", [LIVES], FAULT, END, last_word("ack"))
    assert (shown.judged, shown.judgement.lost, shown.lost) == (1, 0, [])


def test_a_completed_handshake_without_an_answer_after_the_kill_is_lost() -> None:
    for gone in (LOST, attempt(40_001, (996, None)), attempt(40_001, end=(1200, "ECONNRESET"))):
        shown = judge_round(1, "gw-a", [LIVES, gone], FAULT, END, last_word("ack"))
        assert shown.judgement.lost == 1
        assert [near for near, _, _ in shown.lost] == [("203.0.113.100", 40_001, *TARGET)]


def test_an_attempt_that_got_no_syn_ack_is_no_connection_and_is_told_apart() -> None:
    silent = attempt(40_001, connected=None)
    refused = attempt(40_002, connected=None, end=(1001, "ECONNREFUSED"))
    shown = judge_round(1, "gw-a", [LIVES, silent, refused], FAULT, END, None)
    assert (shown.judged, shown.judgement.lost) == (1, 0)
    assert shown.attempts_failed == {"no answer": 1, "ECONNREFUSED": 1}


def test_connections_that_were_young_at_the_kill_are_counted() -> None:
    old = attempt(40_001, (996, 997), (1100, 1101), connected=989)
    late = attempt(40_002, (2010, 2011), connected=2005)
    assert judge_round(1, "gw-a", [LIVES, old, late], FAULT, END, None).young == 1


def test_a_syn_that_came_through_a_second_later_is_a_connection() -> None:
    late = attempt(40_001, (2010, 2011), connected=2005)
    assert judge_round(1, "gw-a", [late], FAULT, END, None).judgement.lost == 0


def test_emit_excuses_what_the_last_word_names_and_nothing_else() -> None:
    named = judge_round(1, "gw-a", [LIVES, LOST], FAULT, END, last_word("emit", 40_001))
    assert (named.judgement.lost, named.announced, named.excused) == (1, 1, 1)
    other = judge_round(1, "gw-a", [LIVES, LOST], FAULT, END, last_word("emit", 40_002))
    assert (other.judgement.lost, other.announced, other.excused) == (1, 0, 0)
    older = judge_round(
        1, "gw-a", [LIVES, LOST], FAULT, END, [*last_word("emit"), {"proto": "tcp", "risk": "changed"}]
    )
    assert older.excused == 0, "the peer had it, so it had no right to be lost"


def test_ack_and_a_peer_that_was_not_ready_excuse_nothing() -> None:
    for commit in ("ack", "none"):
        shown = judge_round(1, "gw-a", [LIVES, LOST], FAULT, END, last_word(commit, 40_001))
        assert (shown.announced, shown.excused) == (1, 0)


def test_the_first_kill_has_a_picture() -> None:
    first, second = (judge_round(number, "gw-a", [LIVES], FAULT, END, None) for number in (1, 2))
    assert second.timeline is None
    drawn = gather([first, second]).timeline
    assert drawn is not None
    assert sum(map(int, drawn["tcp_answers"].split())) == len(LIVES.record.exchanges)
    assert set(drawn["open"].split()) == {"0", "1"}


def test_all_kills_together() -> None:
    first = judge_round(1, "gw-a", [LIVES, LOST], FAULT, END, last_word("emit", 40_001))
    second = judge_round(2, "gw-b", [LIVES], FAULT, END, last_word("emit"))
    whole = gather([first, second])
    assert (whole.tcp.opened, whole.lost, whole.excused) == (3, 1, 1)
    assert whole.losses == {"tcp lb opened: stalled": 1}
    assert whole.paths["lb"].opened == 3
    assert whole.lost_far_ends == [("tcp", "203.0.113.100", 40_001)]
    assert len(table([first, second])) == 3


def test_a_line_needs_no_figure_that_nobody_has() -> None:
    shown = judge_round(1, "gw-a", [], FAULT, END, None)
    assert line(shown).split()[:2] == ["1", "gw-a"]
    assert shown.to_json()["connect_us"] == {"count": 0, "p50": None, "p99": None, "max": None}
