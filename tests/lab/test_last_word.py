"""The gauge, judged both ways."""

from __future__ import annotations

from typing import Any

from hasyncd.lab.last_word import BATCH, compare

HEAD = {"commit": "ack", "whole": True, "at_risk": 1}
LOST = ("tcp", "203.0.113.5", 40_000)


def flow(port: int, sequence: int = 100) -> dict[str, Any]:
    return {"proto": "tcp", "reply_dst": "203.0.113.5", "reply_dport": port, "sequence": sequence}


def test_a_lost_flow_that_was_said_to_be_at_risk_is_no_complaint() -> None:
    assert compare([[HEAD, flow(40_000)]], [99], [LOST]) == []


def test_a_lost_flow_that_was_not_is_one() -> None:
    (complaint,) = compare([[HEAD, flow(40_001)]], [99], [LOST])
    assert "were not said to be at risk" in complaint


def test_nothing_was_promised_where_no_peer_was_ready_or_the_log_was_overrun() -> None:
    assert compare([[HEAD | {"commit": "none", "at_risk": 0}]], [None], [LOST]) == []
    assert compare([[HEAD | {"whole": False, "at_risk": 0}]], [None], [LOST]) == []


def test_a_gauge_that_counts_otherwise_than_the_log_is_a_complaint() -> None:
    (complaint,) = compare([[HEAD | {"at_risk": 2}, flow(1)]], [99], [])
    assert "the gauge said 2" in complaint


def test_crying_wolf_is_a_complaint_beyond_one_batch() -> None:
    flows = [flow(port, sequence=5) for port in range(BATCH)]
    assert compare([[HEAD | {"at_risk": BATCH}, *flows]], [99], []) == []
    (complaint,) = compare([[HEAD | {"at_risk": BATCH + 1}, *flows, flow(9999, sequence=5)]], [99], [])
    assert "the backup had them" in complaint


def test_two_kills_have_two_last_words() -> None:
    assert compare([[HEAD, flow(1)], [HEAD, flow(40_000)]], [99, 99], [LOST]) == []
