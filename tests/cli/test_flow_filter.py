"""hasyncd.cli.flow_filter: what is typed, and what the daemon is asked."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from hasyncd import cli
from hasyncd.cli import flows
from hasyncd.cli.flow_filter import read_end, request_of
from tests.cli.daemon import Daemon


def parsed(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    flows.add_arguments(parser)
    return request_of(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ([], {}),
        (["--proto", "udp", "--at-risk"], {"proto": "udp", "at_risk": True}),
        (["--src", "10.0.1.7"], {"src": "10.0.1.7/32"}),
        (["--src", "10.0.1.0/24"], {"src": "10.0.1.0/24"}),
        (["--dst", "203.0.113.5:80"], {"dst": "203.0.113.5/32", "dport": 80}),
        (["--dst", "203.0.113.0/24:443"], {"dst": "203.0.113.0/24", "dport": 443}),
        (["--src", ":51515"], {"sport": 51515}),
        (["--src", "2001:db8:1::7"], {"src": "2001:db8:1::7/128"}),
        (["--src", "2001:db8:1::/64"], {"src": "2001:db8:1::/64"}),
        (["--dst", "[2001:db8:2::5]:80"], {"dst": "2001:db8:2::5/128", "dport": 80}),
        (["--dst", "[2001:db8:2::]/64:80"], {"dst": "2001:db8:2::/64", "dport": 80}),
        (["--reply-dst", "203.0.113.5:40004"], {"reply_dst": "203.0.113.5/32", "reply_dport": 40004}),
        (["--sport", "7", "--dport", "80"], {"sport": 7, "dport": 80}),
        (["--dst", "203.0.113.5:80", "--dport", "80"], {"dst": "203.0.113.5/32", "dport": 80}),
        (
            ["--state", "established", "--service", "web", "--backend", "1"],
            {"state": "established", "service": "web", "backend": 1},
        ),
    ],
)
def test_filters_as_the_daemon_is_asked(words: list[str], request_: dict[str, Any]) -> None:
    assert parsed(*words) == request_


@pytest.mark.parametrize(
    "text",
    ["", "x", "10.0.1.7/24", "10.0.1.7:", "10.0.1.7:70000", ":", "[::1", "[::1]x", "[::1]:p", "1.2.3.4:5:6"],
)
def test_what_is_no_end_of_a_flow(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        read_end(text)


def test_two_ports_for_one_end_are_a_contradiction(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["flows", "--dst", "203.0.113.5:80", "--dport", "81"]) == 2
    assert capsys.readouterr().err == "hasyncd: --dst and --dport name two ports\n"
    assert daemon.requests == []
