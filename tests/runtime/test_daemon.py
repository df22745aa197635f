"""hasyncd.runtime.daemon: one real daemon from its start to its end; refusals to start are in ../e2e."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hasyncd.config import load
from hasyncd.core.node import Node
from hasyncd.core.types import MILLISECOND_NS
from hasyncd.runtime.daemon import Daemon, main, pair_settings
from tests.e2e.world import HOST, World, until, world

DEPLOY = Path(__file__).parents[2] / "deploy"

SERVICE = f"""
[[service]]
name = "web"
vip = "203.0.113.5:80"
protocol = "tcp"
backends = [{{ id = 7, address = "{HOST}:8080" }}, {{ id = 8, address = "10.0.1.99:8080" }}]
health = {{ kind = "tcp", interval_ms = 100, rise = 1, fall = 1 }}
[control]
"""


@pytest.fixture
def machines() -> Iterator[World]:
    with world() as made:
        yield made


def log_lines(machines: World) -> list[dict[str, Any]]:
    return [json.loads(line) for line in machines.a.log.splitlines()]


def test_the_core_gets_what_the_configuration_says() -> None:
    settings = load(DEPLOY / "hasyncd.example.toml")
    pair = pair_settings(settings)
    assert (pair.node, pair.priority, pair.capacity) == ("gw-a", 200, settings.node.capacity)
    assert (pair.heartbeat_ns, pair.dead_after_ns) == (50 * MILLISECOND_NS, 150 * MILLISECOND_NS)
    assert (pair.prefer, pair.sync_enabled) == ("availability", True)
    assert pair.config_hash == settings.config_hash()
    other = pair_settings(load(DEPLOY / "hasyncd.example-b.toml"))
    assert dataclasses.replace(other, node=pair.node, priority=pair.priority) == pair


def test_who_forwards_ipv6_needs_a_peer_that_can_hold_its_flows(tmp_path: Path) -> None:
    """proto/sync.md §4.2."""
    example = (DEPLOY / "hasyncd.example.toml").read_text()
    rule = '[[pass]]\nsource = ["2001:db8:1::/64"]\n\n[control]'
    path = tmp_path / "ipv6.toml"
    path.write_text(example.replace("[control]", rule, 1))
    assert pair_settings(load(DEPLOY / "hasyncd.example.toml")).features_needed == 0
    assert pair_settings(load(path)).features_needed == 0b10


def test_ready_is_when_the_control_socket_answers_and_the_service_manager_hears_it(machines: World) -> None:
    path = machines.a.directory / "notify"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
        notified.bind(str(path))
        notified.settimeout(60)
        machines.a.start(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="100000")
        assert notified.recv(512).startswith(b"READY=1")
        assert machines.a.ask("status")
        assert notified.recv(512) == b"WATCHDOG=1"
        machines.a.signal(signal.SIGTERM)
        while notified.recv(512) != b"STOPPING=1":
            pass
        assert machines.a.end() == 0
    lines = log_lines(machines)
    assert [line["event"] for line in lines][:1] == ["started"]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)


def test_it_runs_ahead_of_others_and_tells_the_roles_apart(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    assert machines.a.process
    assert os.getpriority(os.PRIO_PROCESS, machines.a.process.pid) == -10
    changes = [line for line in log_lines(machines) if line["event"] == "role_changed"]
    assert [(line["previous"], line["role"], line["generation"]) for line in changes] == [
        ("init", "primary", 1)
    ]
    assert changes[0]["reason"]
    assert (machines.a.directory / "gw-a" / "generation").read_text().startswith("generation 1 ")


def test_a_restarted_node_goes_on_with_the_next_generation(machines: World) -> None:
    for generation in (1, 2, 3):
        machines.a.start()
        machines.a.wait_role("primary")
        assert machines.a.status["generation"] == generation
        machines.a.kill()


def test_sighup_takes_what_can_be_taken_and_names_what_cannot(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    file = machines.a.directory / "gw-a.toml"
    text = file.read_text()
    file.write_text(text.replace("capacity = 4096", "capacity = 8192"))
    machines.a.signal(signal.SIGHUP)
    until(lambda: "node: needs a restart" in machines.a.log, "it says why not")
    file.write_text(text)
    machines.a.signal(signal.SIGHUP)
    until(lambda: "nothing has changed" in machines.a.log, "it says so")
    assert machines.a.status["role"] == "primary"


def test_mappings_are_logged_where_the_configuration_says(machines: World) -> None:
    path = machines.a.directory / "mappings.jsonl"
    machines.a.start("[control]", f'log = "flows"\n[log]\nmappings = "{path}"\n[control]')
    machines.a.wait_role("primary")
    machines.wait_traffic()
    machines.a.signal(signal.SIGTERM)
    assert machines.a.end() == 0
    first, *made = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["event"], first["node"], first["generation"]) == ("primary", "gw-a", 1)
    assert {line["event"] for line in made} == {"made"}
    assert all(line["inside"].startswith(f"{HOST}:") for line in made)
    # Both clocks are this machine's: what C made of its own is the time of day.
    assert sorted(line["time"] for line in made) == [line["time"] for line in made]
    assert first["time"] <= made[0]["time"] <= f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.999Z}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(machines: World, number: signal.Signals) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    machines.a.signal(number)
    with contextlib.suppress(ProcessLookupError):
        machines.a.signal(number)  # a second one ends it at once
    assert machines.a.end() == 0
    assert not machines.a.socket.exists()
    assert machines.a.filters() == ""


@pytest.mark.parametrize("broken", ["the tick", "the core"])
def test_a_timer_that_dies_ends_the_node(
    machines: World, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Half a node that looks alive is worse than none: a supervisor starts it again, and the peer takes over."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    if broken == "the tick":
        monkeypatch.setattr(Daemon, "_look_around", fail)
    else:
        monkeypatch.setattr(Node, "handle_timer", fail)
    file = machines.a.directory / "gw-a.toml"
    file.write_text(machines.a.configuration.replace("capacity = 4096", "nice = 0", 1))
    handlers = logging.getLogger().handlers[:]
    try:
        with machines.a.namespace.entered(), pytest.raises((ZeroDivisionError, RuntimeError)):
            main(load(file), file)
    finally:  # what a process of its own would have taken with it
        gc.unfreeze()
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = handlers
    assert machines.a.filters() == ""
    assert not machines.a.socket.exists()


def test_a_backend_that_does_not_answer_leaves_the_ring(machines: World) -> None:
    with machines.host.entered():
        backend = socket.create_server((HOST, 8080))
    with backend:
        machines.a.start("[control]", SERVICE)
        machines.a.wait_role("primary")

        def states() -> list[tuple[int, str]]:
            services = machines.a.status.get("services", [])
            return [(each["id"], each["state"]) for service in services for each in service["backends"]]

        until(lambda: states() == [(7, "up"), (8, "down")], "the second backend is down")
    until(lambda: states() == [(7, "down"), (8, "down")], "the first has stopped too")
    assert machines.a.status["services"][0]["ring_generation"] >= 3
    events = [line["event"] for line in log_lines(machines)]
    assert events.count("backend_down") == 2


def test_traffic_flows_and_is_counted(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    machines.wait_traffic()
    status = machines.a.status
    assert status["flows"]["udp"] == 1
    assert status["counters"]["flows_created"] == 1
    until(
        lambda: all(vip["verified"] for vip in machines.a.status["vips"]), "traffic has come from both LANs"
    )
    until(lambda: machines.a.status["rates"]["packets_per_s"] is not None, "rates are known")
