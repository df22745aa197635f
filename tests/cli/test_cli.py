"""hasyncd.cli: what an operator types, what comes back, and with which exit code."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from hasyncd import __version__, cli
from tests.cli.daemon import FLOWS, STATUS, Daemon

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "hasyncd.example.toml"

Output = pytest.CaptureFixture[str]


def test_check_of_a_good_file_says_what_is_in_it(capsys: Output) -> None:
    assert cli.main(["check", str(EXAMPLE)]) == 0
    assert (
        capsys.readouterr().out == f"{EXAMPLE}: good: node gw-a, 2 VIPs, 1 NAT rule, 1 service, 2 backends\n"
    )


@pytest.mark.parametrize("verb", [["check"], ["run", "-c"]])
def test_a_bad_file_gives_every_error_on_stderr_and_2(
    verb: list[str], tmp_path: Path, capsys: Output
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(EXAMPLE.read_text().replace('"1024-65535"', '"9-1"').replace('"ack"', '"no"'))
    assert cli.main([*verb, str(bad)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"{bad}: sync.commit: must be 'ack' or 'emit', not 'no'\n"
        f"{bad}: nat[0].ports: the range 9-1 is reversed; write 1-9\n"
    )


def test_status_json_is_the_daemons_object(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["status", "--node", "gw-a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_status_for_people_is_plain_when_piped(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["status"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = [re.sub(r"\s+", " ", line).strip() for line in out.splitlines()]
    assert lines[0] == f"gw-a ✔ primary generation 7 engine packet version {__version__}"
    assert lines[1] == "✔ if this node died now, 0 flows would be lost"
    assert "node gw-a gw-b ✔ connected, heard 12 ms ago" in lines
    assert "role ✔ primary ✔ backup" in lines
    assert "generation 7 7" in lines
    assert "flows 1,500 (tcp 1,000, udp 500) 1,500" in lines
    assert "copy ✔ ready ✔ ready" in lines
    assert "paths ✔ sync up" in lines
    assert "sync commit ack lag 0 flows, 0 ms full syncs 1 ✔ released unconfirmed 0" in lines
    assert "tables ✔ alike" in lines
    assert "rates 12.3 k packets/s 78.9 Mbit/s 345 connections/s" in lines
    assert "10.0.1.1/24 inside ✔ yes, verified" in lines
    assert "203.0.113.5/24 outside ! yes, no traffic seen yet" in lines
    assert "web 203.0.113.5:80 3 1 10.0.1.21:8080 1 ✔ up 195 75% ━━━━━━━━" in lines
    assert "2 10.0.1.22:8080 1 ! down 65 25% ━━" in lines


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    status = json.loads(json.dumps(STATUS))
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (status[section] if section else status)[name] = value
    return dict(status)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sync.at_risk_flows": 1}, "! if this node died now, 1 flow would be lost"),
        ({"sync.at_risk_flows": 3}, "! if this node died now, 3 flows would be lost"),
        (
            {"sync.state": "syncing"},
            "! if this node died now, its 1,500 flows would be lost: no backup in step",
        ),
        ({"role": "backup"}, "✔ could take over now, with 1,500 flows"),
        (
            {"role": "backup", "sync.state": "syncing"},
            "! could not take over without loss: the copy is not complete",
        ),
        ({"role": "fault"}, "! forwards nothing in this role"),
        (
            {"role": "init", "peer": None, "sync": None, "flows": None, "vips": None, "services": None},
            "! forwards",
        ),
    ],
)
def test_the_second_line_says_what_would_be_lost(
    daemon: Daemon, capsys: Output, changes: dict[str, Any], sentence: str
) -> None:
    daemon.status = changed(changes)
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(sentence)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, ""),
        ({"role": "backup", "sync.digest_match": None}, ""),
        ({"role": "fault"}, "the role is fault"),
        ({"peer.state": "lost"}, "the peer is lost"),
        ({"sync.state": "syncing"}, "the sync state is syncing"),
        ({"sync.digest_match": False}, "the two tables differ"),
    ],
)
def test_status_check_is_1_unless_the_pair_is_whole(
    daemon: Daemon, capsys: Output, changes: dict[str, Any], complaint: str
) -> None:
    daemon.status = changed(changes)
    assert cli.main(["status", "--check", "--json"]) == (1 if complaint else 0)
    assert capsys.readouterr().err == (f"not healthy: {complaint}\n" if complaint else "")


def test_status_watch_goes_on_until_interrupted_and_through_a_dead_daemon(daemon: Daemon) -> None:
    # A shell's background job is born deaf to SIGINT, and would bear deaf children.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "hasyncd", "status", "--watch", "--json"]
    command += ["--socket", str(daemon.path)]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert json.loads(watch.stdout.readline())["node"] == "gw-a"
        daemon.path.rename(daemon.path.with_suffix(".away"))
        assert "no daemon at" in watch.stderr.readline()
        daemon.path.with_suffix(".away").rename(daemon.path)
        assert json.loads(watch.stdout.readline())["node"] == "gw-a"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 0
    finally:
        watch.kill()
        watch.communicate()


def test_a_terminal_is_watched_on_its_other_screen_and_given_back(daemon: Daemon) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    command = ["env", "--default-signal=INT", sys.executable, "-m", "hasyncd", "status", "--watch"]
    watch = subprocess.Popen(
        [*command, "--socket", str(daemon.path)], stdout=theirs, stdin=theirs, stderr=theirs, cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    shown = b""

    def until_shown(wanted: bytes) -> None:
        nonlocal shown
        while wanted not in shown:
            shown += os.read(ours, 65536)

    try:
        os.close(theirs)
        until_shown(b"\x1b[?1049h")
        until_shown(b"if this node died now, 0 flows would be lost")
        until_shown(b"10.0.1.22:8080")
        shown = b""
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
        watch.send_signal(signal.SIGWINCH)  # the terminal is not its controlling one
        until_shown(b"more lines: a taller window")
        daemon.path.rename(daemon.path.with_suffix(".away"))
        until_shown(b"waiting for it")
        shown = b""
        daemon.path.with_suffix(".away").rename(daemon.path)
        until_shown(b"would be lost")
        watch.send_signal(signal.SIGINT)
        until_shown(b"\x1b[?1049l")
        assert watch.wait(20) == 0
    finally:
        watch.kill()
        watch.wait()
        os.close(ours)


def test_flows_are_listed_as_conntrack_users_expect(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["flows"]) == 0
    assert capsys.readouterr().out == (
        "tcp      6 7440 ESTABLISHED src=203.0.113.100 dst=203.0.113.5 sport=40000 dport=80 "
        "src=10.0.1.21 dst=203.0.113.100 sport=8080 dport=40000 service=web backend=1\n"
        "udp      17 29 src=10.0.1.7 dst=8.8.8.8 sport=51515 dport=53 "
        "src=8.8.8.8 dst=203.0.113.5 sport=53 dport=40004 rule=0 [AT-RISK]\n"
        "icmpv6   58 60 REPLIED src=2001:db8:1::7 dst=2001:db8:9::9 sport=33 dport=0 "
        "src=2001:db8:9::9 dst=2001:db8:1::7 sport=33 dport=0\n"
    )


def test_flows_json_is_what_the_daemon_said(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["flows", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == FLOWS
    assert cli.main(["flows", "--count"]) == 0
    assert capsys.readouterr().out == f"{len(FLOWS)}\n"
    assert cli.main(["flows", "--count", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"count": len(FLOWS)}


def test_a_reader_that_has_seen_enough_is_no_error(daemon: Daemon) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hasyncd", "flows", "--socket", str(daemon.path)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_events_are_followed_until_the_daemon_ends_them(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["events"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == ["2026-01-02T03:04:05Z", "role", "role=primary", 'reason="peer', 'silent"']
    assert printed.err == "the daemon stops\n"
    assert cli.main(["events", "--since", "10m", "--type", "path_*", "--type", "solo", "--no-follow"]) == 0
    assert daemon.requests == [
        {"verb": "events", "types": [], "since_s": None, "follow": True},
        {"verb": "events", "types": ["path_*", "solo"], "since_s": 600, "follow": False},
    ]


def test_switchover_says_what_the_daemon_said(daemon: Daemon, capsys: Output) -> None:
    assert cli.main(["switchover", "--node", "gw-a"]) == 1
    assert capsys.readouterr() == ("", "refused: the peer is not ready\n")
    assert cli.main(["switchover", "--force"]) == 0
    assert capsys.readouterr() == ("handed over to gw-b\n", "")
    assert [request["force"] for request in daemon.requests] == [False, True]


def test_resync_asks_for_what_differs_and_with_full_for_everything(daemon: Daemon) -> None:
    assert cli.main(["resync"]) == 0
    assert cli.main(["resync", "--full"]) == 0
    assert daemon.requests == [{"verb": "resync", "full": False}, {"verb": "resync", "full": True}]


@pytest.mark.parametrize("verb", ["status", "flows", "events", "switchover", "resync", "ring"])
def test_without_a_daemon_the_exit_code_is_3(verb: str, run_directory: Path, capsys: Output) -> None:
    assert cli.main([verb]) == 3
    assert capsys.readouterr().err.startswith("hasyncd: no daemon runs on this machine")
    assert cli.main([verb, "--node", "gw-a"]) == 3
    assert capsys.readouterr().err.startswith(f"hasyncd: no daemon at {run_directory}/gw-a.sock: ")
    assert cli.main([verb, "--socket", str(run_directory / "x")]) == 3


def test_with_several_daemons_one_must_be_named(daemon: Daemon, run_directory: Path, capsys: Output) -> None:
    (run_directory / "gw-b.sock").touch()
    assert cli.main(["status"]) == 2
    assert capsys.readouterr().err == "hasyncd: several daemons run here; name one: --node gw-a, gw-b\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["reboot"],
        ["status", "--node", "a", "--socket", "/b"],
        ["status", "more"],
        ["flows", "--src", "x"],
        ["events", "--since", "yesterday"],
        ["run"],
    ],
)
def test_bad_usage_is_2(words: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 2
    assert "usage: hasyncd" in capsys.readouterr().err


def test_a_nodes_name_cannot_leave_the_directory(run_directory: Path) -> None:
    assert cli.main(["status", "--node", "../x"]) == 2


def test_version_and_help_name_every_verb(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"hasyncd {__version__}\n"
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(re.search(rf"^\s+{verb}\s", out, re.MULTILINE) for verb in cli.VERBS)
