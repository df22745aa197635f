"""What the drill's command line accepts and refuses, before any lab is built."""

from __future__ import annotations

import argparse

import pytest

from hasyncd.lab import drill_command
from hasyncd.lab.scenarios import SCENARIOS


def drill(*words: str) -> int:
    parser = argparse.ArgumentParser()
    drill_command.add_arguments(parser)
    return drill_command.run(parser.parse_args(words))


def test_list_names_every_scenario_and_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert drill("--list") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == list(SCENARIOS)
    assert {"kill-primary", "node-dies", "double-kill", "kill-under-load", "bulk", "switchover"} <= set(
        SCENARIOS
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("kill-everyone",), "no scenario is called 'kill-everyone'"),
        (("--engine", "steam"), "--engine: 'steam' is no engine"),
        (("--system", "other"), "--system: 'other' is unknown"),
        (("--system", "hasyncd,other"), "--system: 'other' is unknown"),
        (("--adverts-ms", "5"), "--adverts-ms: '5' is no multiple of 10 within 10 and 40950"),
        (("--adverts-ms", "100,105"), "--adverts-ms: '105' is no multiple of 10"),
        (("--adverts-ms", "1000,"), "--adverts-ms: '' is no multiple of 10"),
        (("--heartbeat-ms", "0"), "--heartbeat-ms: 0 is not within 1 and 10000"),
        (("--report", "/nonexistent/out.html"), "--report: /nonexistent is no directory"),
        (("--beside", "some.json"), "--beside: says what --report draws too; there is no --report"),
        (
            ("--beside", "/nonexistent.json", "--report", "x.html"),
            "--beside: /nonexistent.json: No such file",
        ),
        (("--tcp", "-1"), "--tcp: -1 is not within"),
        (("--udp", "99999999"), "--udp: 99999999 is not within"),
        (("--ipv6", "101"), "--ipv6: 101 is not within 0 and 100"),
        (("--background-flows", "-5"), "--background-flows: -5 is not within"),
        (("--tcp", "0", "--udp", "0"), "leaves nothing to judge"),
        (("--rate", "0"), "--rate: 0.0 is not within 1 and"),
        (("--kills", "0"), "--kills: 0 is not within 1 and"),
        (("--json", "/nonexistent/out.json"), "--json: /nonexistent is no directory"),
    ],
)
def test_bad_usage_is_named_and_exits_2(
    words: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drill(*words) == 2
    assert complaint in capsys.readouterr().err


def test_incumbent_that_is_not_installed_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("hasyncd.lab.incumbent.DAEMON_PATH", "/nonexistent")
    assert drill("--system", "incumbent") == 2
    said = capsys.readouterr().err
    assert "Debian packages conntrack, conntrackd, keepalived, nftables (deploy/drill installs" in said


def test_every_error_is_named_not_only_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert drill("nobody", "--engine", "steam", "--tcp", "-1") == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_family_of_scenarios_is_named_by_how_its_names_begin() -> None:
    chosen = drill_command._chosen_scenarios(["kill-during-full-sync", "bulk", "kill-primary"])
    assert chosen == [f"kill-during-full-sync-{percent}" for percent in (10, 50, 90)] + [
        "bulk",
        "kill-primary",
    ]
    assert drill_command._chosen_scenarios(["all"]) == list(SCENARIOS)
    assert drill_command._chosen_scenarios(["kill"])[0].startswith("kill-")
