"""The fitter node is primary: interfaces go down, a gateway is lost, a command fails, and flows move without a loss."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.world import SERVER, Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

UPLINK = f"""[[track]]
name = "uplink"
kind = "gateway"
address = "{SERVER}"
interval_ms = 50
fall = 2
[[track]]
name = "well"
kind = "command"
command = ["/usr/bin/test", "!", "-e", "{{directory}}/{{name}}-unwell"]
interval_ms = 100
fall = 1
rise = 1
[control]"""


def is_ready(machines: World) -> bool:
    return all(each.status["sync"]["state"] == "ready" for each in (machines.a, machines.b))


def start(gateway: Gateway) -> None:
    gateway.start("[control]", UPLINK.format(directory=gateway.directory, name=gateway.name))


@pytest.fixture
def pair() -> Iterator[World]:
    with world() as made:
        start(made.a)
        made.a.wait_role("primary")
        start(made.b)
        until(lambda: is_ready(made), "the pair is ready")
        made.wait_traffic()
        yield made


def failed(gateway: Gateway) -> dict[str, str]:
    return {
        track["name"]: track["reason"]
        for track in gateway.status.get("tracks", [])
        if track["state"] == "failed"
    }


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_an_interface_that_goes_down_moves_the_addresses_and_no_flow_is_lost(pair: World, side: str) -> None:
    port = pair.public_port
    pair.a.namespace.ip("link", "set", side, "down")
    pair.b.wait_role("primary")
    pair.wait_traffic()
    assert pair.public_port == port, "the same flow"
    # Where its last frame comes later than its heartbeats say so, the same hand-over has another name.
    assert pair.b.status["last_change"] in ("the primary handed over", "the primary has left")
    assert pair.b.status["certificate"]["complete"] is True
    assert '"handover_by_fitness"' in pair.a.log
    assert failed(pair.a)[side] == f"{side} is down"
    until(lambda: is_ready(pair), "cut off from a LAN, and a ready backup")
    status = pair.b.status
    assert (status["fitness"], status["peer"]["fitness"]) == (1000, 0)
    pair.a.namespace.ip("link", "set", side, "up")
    until(lambda: pair.a.status.get("fitness") == 1000, "fit again")
    assert (pair.a.status["role"], pair.b.status["role"]) == ("backup", "primary"), "and nothing moves back"
    pair.wait_traffic()
    assert pair.public_port == port


def test_a_gateway_that_one_node_loses_moves_the_addresses(pair: World) -> None:
    """Only the way to it is broken: the interface is up."""
    pair.lan.run("nft", "add table bridge lost")
    pair.lan.run("nft", "add chain bridge lost to { type filter hook forward priority 0; }")
    pair.lan.run("nft", "add rule bridge lost to iifname a-out ether type arp arp saddr ip 203.0.113.2 drop")
    port = pair.public_port
    pair.b.wait_role("primary")
    assert failed(pair.a) == {"uplink": f"no answer from {SERVER} within 50 ms"}
    assert pair.a.status["fitness"] == 500
    pair.wait_traffic()
    assert pair.public_port == port
    pair.lan.run("nft", "delete table bridge lost")
    until(lambda: pair.a.status.get("fitness") == 1000, "found again")


def test_a_command_that_fails_on_both_moves_nothing_and_on_one_moves_the_addresses(pair: World) -> None:
    for gateway in (pair.b, pair.a):
        (gateway.directory / f"{gateway.name}-unwell").touch()
        until(lambda g=gateway: g.status.get("fitness") == 500, f"{gateway.name} is unfit")  # type: ignore[misc]
    assert pair.a.status["role"] == "primary"
    (pair.b.directory / "gw-b-unwell").unlink()
    pair.b.wait_role("primary")
    assert failed(pair.a) == {"well": "/usr/bin/test ended with 1"}
    pair.wait_traffic()


def test_an_unfit_node_takes_over_from_a_dead_one(pair: World) -> None:
    (pair.b.directory / "gw-b-unwell").touch()
    until(lambda: pair.b.status.get("fitness") == 500, "gw-b is unfit")
    pair.a.kill()
    pair.b.wait_role("primary")
    pair.wait_traffic()
    assert pair.b.status["last_change"] == "the primary's process is dead"
    start(pair.a)
    pair.a.wait_role("primary")
    pair.wait_traffic()
    assert pair.a.status["certificate"]["complete"] is True, "fitter, and in step"
