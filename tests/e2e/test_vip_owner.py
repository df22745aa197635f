"""Who has the VIPs is asked on real LANs: the old primary behind a cut, a third host, and ourselves afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cuts import cut_lan, cut_sync, heal
from tests.e2e.world import OUTSIDE_VIP, Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def machines() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def pair(machines: World) -> World:
    """Heartbeats over the sync link alone."""
    machines.a.start()
    machines.a.wait_role("primary")
    machines.b.start()
    wait_ready(machines)
    machines.wait_traffic()
    return machines


def wait_ready(machines: World) -> None:
    gateways = (machines.a, machines.b)
    until(lambda: all(each.status["sync"]["state"] == "ready" for each in gateways), "the pair is ready")


def mac_of(world_: World, port: str) -> str:
    """Of the far end of a port of the LAN."""
    namespace, name = {"server": (world_.server, "eth0"), "a": (world_.a.namespace, "outside")}[port]
    return namespace.run("cat", f"/sys/class/net/{name}/address").strip()


def vip(gateway: Gateway, address: str = OUTSIDE_VIP) -> dict[str, Any]:
    return next(each for each in gateway.status["vips"] if each["address"].startswith(f"{address}/"))


@pytest.mark.parametrize("lan", [None, "inside", "outside"])
def test_a_cut_of_the_only_path_makes_no_second_primary(pair: World, lan: str | None) -> None:
    if lan:
        cut_lan(pair, lan, "gw-b")  # then the other LAN has to tell
    cut_sync(pair)
    until(lambda: '"vip_still_owned"' in pair.b.log, "the backup has asked")
    for _ in range(20):
        assert pair.b.status["role"] == "backup"
        assert pair.a.status["role"] == "primary"
        time.sleep(0.05)
    assert pair.a.status["solo"] is True
    assert pair.a.status["generation"] == 1
    pair.wait_traffic()
    if lan != "outside":
        assert mac_of(pair, "a") in pair.b.log, "the owner is named"
    heal(pair)
    wait_ready(pair)
    assert pair.talk()


def test_all_links_cut_is_still_a_death(pair: World) -> None:
    cut_lan(pair, "inside", "gw-a")
    cut_lan(pair, "outside", "gw-a")
    cut_sync(pair)
    pair.b.wait_role("primary")
    assert pair.b.status["last_change"].startswith("the primary is silent for ")
    pair.wait_traffic()
    until(lambda: vip(pair.b)["verified"], "traffic has come, and nobody else answers")
    assert '"converged"' in pair.b.log


def test_a_stopped_primary_does_not_answer_and_is_replaced(pair: World) -> None:
    pair.a.signal(signal.SIGSTOP)
    pair.b.wait_role("primary")
    pair.wait_traffic()
    cut_sync(pair)
    pair.a.signal(signal.SIGCONT)
    until(lambda: '"vip_still_owned"' in pair.a.log, "it has asked who took them")
    for _ in range(20):
        assert pair.talk()
        assert vip(pair.a)["owned"] is False
        time.sleep(0.02)
    heal(pair)
    pair.a.wait_role("backup")
    wait_ready(pair)


def test_a_third_host_is_found_before_its_address_is_taken(machines: World) -> None:
    machines.server.ip("address", "add", f"{OUTSIDE_VIP}/32", "dev", "eth0")
    machines.a.start()
    until(lambda: '"vip_still_owned"' in machines.a.log, "it has asked")
    assert machines.a.status["role"] == "init"
    assert f"{OUTSIDE_VIP} (outside): {mac_of(machines, 'server')} has it" in machines.a.log
    machines.server.ip("address", "del", f"{OUTSIDE_VIP}/32", "dev", "eth0")
    machines.a.wait_role("primary")
    machines.wait_traffic()


def test_a_policy_may_take_it_in_spite_of_that(machines: World) -> None:
    machines.server.ip("address", "add", f"{OUTSIDE_VIP}/32", "dev", "eth0")
    machines.a.start("insecure = true", 'insecure = true\non_vip_owned = "take"')
    machines.a.wait_role("primary")
    assert '"vip_conflict"' in machines.a.log


def test_a_third_host_that_comes_later_is_a_conflict_until_it_goes(pair: World) -> None:
    until(lambda: vip(pair.a)["verified"], "at first it is ours alone")
    pair.server.ip("address", "add", f"{OUTSIDE_VIP}/32", "dev", "eth0")
    until(lambda: vip(pair.a)["claimed_by"] == mac_of(pair, "server"), "the next question finds it")
    assert vip(pair.a)["verified"] is False
    assert '"vip_conflict"' in pair.a.log
    pair.server.ip("address", "del", f"{OUTSIDE_VIP}/32", "dev", "eth0")
    until(lambda: vip(pair.a)["claimed_by"] is None, "it is gone")
    assert '"vip_conflict_over"' in pair.a.log


def test_a_takeover_is_verified(pair: World) -> None:
    pair.a.kill()
    pair.b.wait_role("primary")
    assert pair.b.status["last_change"] == "the primary's process is dead"
    pair.wait_traffic()
    until(lambda: all(each["verified"] for each in pair.b.status["vips"]), "both LANs have learned")
    assert all(each["verified_ms"] >= 0 for each in pair.b.status["vips"])
    assert '"converged"' in pair.b.log


def test_a_takeover_that_nobody_uses_is_not_verified_and_that_is_said(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    until(lambda: '"vip_unverified"' in machines.a.log, "the train has left")
    assert [each["verified"] for each in machines.a.status["vips"]] == [False, False]
