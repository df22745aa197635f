"""hasyncd.cli.status_screen: what must not be overlooked."""

from __future__ import annotations

import io

from rich.console import Console

from hasyncd.cli.status_screen import screen


def shown(**status: object) -> str:
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=True, color_system="standard").print(screen(status))
    return out.getvalue()


def test_an_insecure_channel_is_told_in_red_and_in_words() -> None:
    assert "\x1b[1;31m  ! INSECURE: neither authenticated nor encrypted" in shown(insecure=True)
    assert "INSECURE" not in shown(insecure=False)


def test_a_key_log_is_told_in_red_with_its_path() -> None:
    assert "\x1b[1;31m  ! KEY LOG: /tmp/secrets opens the stream" in shown(peer={"key_log": "/tmp/secrets"})
    assert "KEY LOG" not in shown(peer={"key_log": None})


def test_a_pair_whose_configurations_differ_says_so_and_does_not_call_its_flows_lost() -> None:
    told = shown(role="primary", sync={"state": "degraded", "reason": "config_skew", "at_risk_flows": 0})
    assert "the peer has every flow, and another configuration" in told
    assert "! config_skew" in told
    assert "would be lost" not in told


def test_an_incomplete_takeover_is_told_in_red_for_as_long_as_the_node_is_primary() -> None:
    certificate = {"complete": False, "flows_missing": 12_345}
    told = shown(role="primary", certificate=certificate)
    assert "\x1b[1;31m! TOOK OVER INCOMPLETE: at most 12,345 flows of the former primary were missing" in told
    assert "nobody knows how many" in shown(role="primary", certificate=certificate | {"flows_missing": None})
    for fine in (None, {"complete": True, "flows_missing": 0}):
        assert "INCOMPLETE" not in shown(role="primary", certificate=fine)
    assert "INCOMPLETE" not in shown(role="backup", certificate=certificate)


def test_a_suspended_commit_is_told_beside_the_mode() -> None:
    assert "commit ack\x1b[1;33m  ! suspended: the peer is slow" in shown(
        sync={"commit": "ack", "commit_suspended": True}
    )
    assert "suspended" not in shown(sync={"commit": "ack", "commit_suspended": False})


def test_a_backup_tells_what_is_at_risk_on_the_primary() -> None:
    assert "7 flows at risk there" in shown(role="backup", peer={"at_risk_flows": 7})
    assert "at risk there" not in shown(role="primary", peer={"at_risk_flows": None})
