"""Heartbeats over the sync link and both service LANs: what each cut costs, in namespaces."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hasyncd.pair_files import make_pair_files
from tests.e2e.cuts import cut_lan, cut_sync, heal
from tests.e2e.world import Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ALL_UP = {"sync": True, "inside": True, "outside": True}


def start_on_all_paths(gateway: Gateway, other: str) -> None:
    number, theirs = gateway.name[-1], other[-1]
    numbers = {"a": 2, "b": 3}
    lines = [f'keys = "{gateway.directory}/keys/{gateway.name}"', 'paths = ["sync", "inside", "outside"]']
    for side, network in (("inside", "10.0.1"), ("outside", "203.0.113")):
        lines.append(
            f'{side} = {{ listen = "{network}.{numbers[number]}:7077", address = "{network}.{numbers[theirs]}:7077" }}'
        )
    gateway.start("insecure = true", "\n".join(lines))


@pytest.fixture
def pair() -> Iterator[World]:
    with world() as made:
        make_pair_files(made.a.directory / "keys", ("gw-a", "gw-b"))
        start_on_all_paths(made.a, "gw-b")
        made.a.wait_role("primary")
        start_on_all_paths(made.b, "gw-a")
        until(lambda: is_whole(made), "the pair is ready, and every path up")
        made.wait_traffic()
        yield made


def paths(gateway: Gateway) -> dict[str, bool]:
    return {path["name"]: path["up"] for path in gateway.status["peer"]["paths"]}


def is_whole(machines: World) -> bool:
    gateways = (machines.a, machines.b)
    return all(each.status["sync"]["state"] == "ready" and paths(each) == ALL_UP for each in gateways)


def roles(machines: World) -> tuple[str, str]:
    return machines.a.status["role"], machines.b.status["role"]


def test_a_cut_sync_link_is_no_takeover(pair: World) -> None:
    flows = pair.a.status["flows"]["total"]
    port = pair.public_port
    cut_sync(pair)
    until(lambda: not paths(pair.a)["sync"] and not paths(pair.b)["sync"], "both have noticed")
    for _ in range(20):
        assert pair.talk(), "established flows go on"
        time.sleep(0.05)
    assert roles(pair) == ("primary", "backup")
    assert pair.a.status["generation"] == pair.b.status["generation"] == 1
    for gateway in (pair.a, pair.b):
        status = gateway.status
        assert (status["sync"]["state"], status["sync"]["reason"]) == ("degraded", "path_down: sync")
        assert status["peer"]["state"] == "connected"
        assert paths(gateway) == {"sync": False, "inside": True, "outside": True}
        assert "sync: the peer" in gateway.log
        assert '"path_down"' in gateway.log
    assert pair.a.status["flows"]["total"] == flows, "heartbeats on the LANs are no flows of the gateway's"
    heal(pair)
    until(lambda: is_whole(pair), "whole again")
    assert pair.talk()
    assert pair.public_port == port
    assert pair.a.status["counters"].get("rejected_replayed", 0) == 0


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_a_cut_lan_is_told_and_changes_nothing(pair: World, side: str) -> None:
    cut_lan(pair, side, "gw-b")
    until(lambda: not paths(pair.a)[side] and not paths(pair.b)[side], "both have noticed")
    assert roles(pair) == ("primary", "backup")
    assert pair.a.status["sync"]["state"] == pair.b.status["sync"]["state"] == "ready"
    assert pair.talk()
    heal(pair)
    until(lambda: is_whole(pair), "whole again")


def test_one_way_loss_is_seen_at_the_end_that_still_hears(pair: World) -> None:
    cut_lan(pair, "inside", "gw-b", "ingress")  # what gw-b says
    until(lambda: not paths(pair.a)["inside"] and not paths(pair.b)["inside"], "both have noticed")
    assert "inside: the peer was not heard there for" in pair.a.log
    assert "inside: the peer does not hear us there" in pair.b.log
    assert roles(pair) == ("primary", "backup")


def test_all_links_cut_is_a_death(pair: World) -> None:
    cut_sync(pair)
    for side in ("inside", "outside"):
        cut_lan(pair, side, "gw-a")
    pair.b.wait_role("primary")
    pair.wait_traffic()
    assert pair.b.status["last_change"].startswith("the primary is silent for ")


def test_a_kill_is_still_found_at_once(pair: World) -> None:
    pair.a.kill()
    pair.b.wait_role("primary")
    assert pair.b.status["last_change"] == "the primary's process is dead"
    pair.wait_traffic()


def test_an_address_that_the_interface_lacks_is_refused() -> None:
    with world() as made:
        make_pair_files(made.a.directory / "keys", ("gw-a", "gw-b"))
        made.a.start(
            "insecure = true",
            f'keys = "{made.a.directory}/keys/gw-a"\npaths = ["sync", "inside"]\n'
            'inside = { listen = "203.0.113.2:7077", address = "203.0.113.3:7077" }',
        )
        assert made.a.end() == 2
        assert "peer.inside.listen: inside has no address 203.0.113.2 (present: 10.0.1.2/24" in made.a.log
