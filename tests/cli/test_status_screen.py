"""hasyncd.cli.status_screen: what must not be overlooked."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group
from rich.text import Text

from hasyncd.cli.sparkline import History, sparkline
from hasyncd.cli.status_screen import screen
from hasyncd.cli.status_watch import Cropped, frame
from hasyncd.cli.status_words import quantity


def shown(**status: object) -> str:
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=True, color_system="standard").print(screen(status))
    return out.getvalue()


def test_an_insecure_channel_is_told_in_red_and_in_words() -> None:
    assert "\x1b[1;31m! INSECURE: neither authenticated nor encrypted" in shown(insecure=True)
    assert "INSECURE" not in shown(insecure=False)


def test_a_key_log_is_told_in_red_with_its_path() -> None:
    assert "\x1b[1;31m! KEY LOG: /tmp/secrets opens the stream" in shown(peer={"key_log": "/tmp/secrets"})
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


def test_a_primary_that_nobody_has_seen_converge_says_so() -> None:
    assert "not yet seen to have converged" in shown(role="primary", converged=False)
    assert "converged" not in shown(role="primary", converged=True)
    assert "converged" not in shown(role="backup", converged=None)


def test_a_suspended_commit_is_told_beside_the_mode() -> None:
    assert "commit ack\x1b[1;33m  ! suspended: the peer is slow" in shown(
        sync={"commit": "ack", "commit_suspended": True}
    )
    assert "suspended" not in shown(sync={"commit": "ack", "commit_suspended": False})


def test_a_backup_tells_what_is_at_risk_on_the_primary() -> None:
    def row(**status: object) -> str:
        return next(line for line in plain(**status).splitlines() if line.startswith("at risk"))

    told = row(role="backup", peer={"role": "primary", "at_risk_flows": 7, "at_risk_oldest_ms": 30})
    assert told.split() == ["at", "risk", "–", "7,", "oldest", "30", "ms"]
    assert row(role="primary", peer={"at_risk_flows": None}).split() == ["at", "risk", "–", "–"]


def plain(history: History | None = None, **status: object) -> str:
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(screen(status, history))
    return out.getvalue()


def test_a_peer_that_is_not_in_step_is_told_beside_this_node() -> None:
    told = plain(role="primary", sync={"state": "degraded"}, peer={"role": "backup", "ready": False})
    assert "! degraded" in told
    assert "! not in step" in told
    assert "! primary  ! alone" not in told
    assert "primary  ! alone" in plain(role="primary", solo=True)


def test_a_vip_that_somebody_else_has_too_is_told_with_his_address() -> None:
    vip = {"address": "10.0.1.1/24", "owned": True, "verified": True, "claimed_by": "02:99:00:00:00:01"}
    assert "! yes, and 02:99:00:00:00:01 answers for it, too" in plain(vips=[vip])


def test_without_colours_every_judgement_still_has_its_sign() -> None:
    down = {"name": "sync", "up": False}
    assert "! sync DOWN" in plain(peer={"paths": [down]})
    assert "! DIFFERENT" in plain(sync={"digest_match": False})
    assert "! released unconfirmed 3" in plain(sync={"fail_open_released": 3})
    assert "\x1b" not in plain(role="primary")


def test_a_backends_reason_and_weight_are_shown_where_they_differ() -> None:
    backend = {"id": 1, "address": "10.0.1.21:80", "weight": 10, "weight_effective": 2.5, "state": "slow",
               "why": "warming up", "flows": 0}  # fmt: skip
    told = plain(services=[{"name": "web", "vip": "v", "ring_generation": 1, "backends": [backend]}])
    assert "10 → 2.5" in told
    assert "! slow (warming up)" in told


def test_watching_shows_the_last_minute() -> None:
    history = History()
    for value in (0, 10, None, 40):
        history.add(
            None if value is None else {"rates": {"packets_per_s": value}, "sync": {"at_risk_flows": 0}}
        )
    told = plain(history, rates={"packets_per_s": 40})
    row = next(line for line in told.splitlines() if line.startswith("packets/s"))
    assert row.split("peak")[0].endswith("▁▃ █  ")
    assert "peak 40" in row


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([0, 0], "▁▁"),
        ([None, 1], " █"),
        ([1, 1_000_000], "▂█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([5, 5], "██"),
    ],
)
def test_a_block_a_value_and_what_is_not_nothing_is_above_the_floor(
    values: list[float | None], line: str
) -> None:
    assert sparkline(values) == line


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (0.25, "0.25"), (345.2, "345"), (999.7, "1 k"), (999.4, "999"), (12345.6, "12.3 k"),
     (9.862e6, "9.86 M"), (2e9, "2 G"), (999_700, "1 M"), (999_400, "999 k"), (5e12, "5,000 G")],
)  # fmt: skip
def test_quantities_have_three_digits(value: float | None, text: str) -> None:
    assert quantity(value) == text


def test_a_unit_takes_the_prefix() -> None:
    assert [quantity(value, "bit/s") for value in (None, 0, 980, 78_896_000)] == [
        "– bit/s", "0 bit/s", "980 bit/s", "78.9 Mbit/s"
    ]  # fmt: skip


def test_what_a_lost_peer_said_is_no_judgement() -> None:
    told = plain(
        role="primary", peer={"state": "lost", "role": "primary", "ready": True, "last_heard_ms": 4192}
    )
    assert "! lost, heard 4,192 ms ago" in told
    assert "✔ primary" in told
    assert "was primary" in told
    assert told.count("✔ primary") == 2, "the headline and this node, not the peer"


def test_a_daemon_that_is_gone_is_not_judged_by_what_it_said() -> None:
    history = History()
    history.add({"rates": {"packets_per_s": 5}})
    history.add(None)
    out = io.StringIO()
    last = {"node": "gw-a", "role": "primary", "generation": 7, "flows": {"total": 12}}
    Console(file=out, width=100, color_system=None).print(frame(last, history, "no daemon at /x"))
    told = out.getvalue()
    assert told.startswith("! no daemon at /x\nwaiting for it …\n")
    assert "gw-a was primary in generation 7, with 12 flows" in told
    assert "would be lost" not in told
    assert "█ " in told


@pytest.mark.parametrize("height", [3, 10, 200])
def test_a_low_window_says_how_much_it_does_not_show(height: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, height=height, color_system=None)
    content = Group(*(Text(f"line {number}") for number in range(100)))
    options = console.options
    options.max_height = height
    lines = [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(Cropped(content), options, pad=False)
    ]
    if height == 200:
        assert len(lines) == 100
    else:
        assert len(lines) == height
        assert lines[-1].startswith(f"… {100 - height + 1} more lines")
        assert lines[: height - 1] == [f"line {number}" for number in range(height - 1)]
