"""A VIP that no LAN has: announced by BGP through a real bgpd, moved with the pair, shared by two pairs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.routed_world import VIP, RoutedGateway, RoutedPair, RoutedWorld, routed_world
from tests.e2e.world import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def one() -> Iterator[RoutedWorld]:
    with routed_world(1) as made:
        made.pairs[0].start()
        made.wait_next_hops(made.pairs[0].a.address)
        yield made


def told(gateway: RoutedGateway) -> list[str]:
    routes = gateway.status.get("routes") or {"prefixes": [{"told": []}]}
    return list(routes["prefixes"][0]["told"])


def moves_to(world: RoutedWorld, gateway: RoutedGateway, order: Callable[[], None]) -> float:
    """Gives the order; seconds until the router sends everything to this gateway alone."""
    began = time.monotonic()
    order()
    world.wait_next_hops(gateway.address)
    return time.monotonic() - began


def test_the_primary_alone_is_announced_and_the_daemon_says_to_whom(one: RoutedWorld) -> None:
    pair = one.pairs[0]
    until(lambda: told(pair.a) == ["203.0.1.254"], "gw-a knows that the router was told")
    assert '"routes_announced"' in pair.a.log
    assert pair.a.status["converged"] is False, "nobody has come for the VIPs yet"
    assert (pair.a.status["routes"]["metric"], pair.a.status["routes"]["error"]) == (0xFF_FFFF - 1, None)
    assert pair.b.status["routes"]["prefixes"] == [{"prefix": f"{VIP}/32", "announced": False, "told": []}]
    assert "hs-routes" not in pair.b.namespace.ip("link")
    flow = one.connect()
    assert flow.pair == 1
    until(lambda: pair.a.status["converged"] is True, "traffic for the VIPs was seen, and the route was told")
    assert pair.b.status["converged"] is None
    flow.close()


def test_a_killed_primary_withdraws_by_dying_and_its_flows_live(one: RoutedWorld) -> None:
    pair = one.pairs[0]
    flows = [one.connect() for _ in range(10)]
    took_s = moves_to(one, pair.b, pair.a.kill)
    assert [flow.ask() for flow in flows] == [1] * 10
    assert "hs-routes" not in pair.a.namespace.ip("link"), "the device went with the process"
    until(lambda: told(pair.b) == ["203.0.1.254"], "gw-b knows that the router was told")
    print(f"the router's route moved {took_s * 1000:.0f} ms after the kill")
    pair.a.start()
    until(lambda: pair.a.status["sync"]["state"] == "ready", "gw-a is back")
    assert one.next_hops() == {pair.b.address}
    for flow in flows:
        flow.close()


def test_a_switchover_moves_the_route_and_loses_no_packet(one: RoutedWorld) -> None:
    pair = one.pairs[0]
    flows = [one.connect() for _ in range(10)]
    hops: set[str] = set()
    assert pair.a.ask("switchover") is not None
    while hops != {pair.b.address}:
        hops = one.next_hops()
        assert hops, "at no moment is the router without a route"
        assert [flow.ask() for flow in flows] == [1] * 10
    until(lambda: "hs-routes" not in pair.a.namespace.ip("link"), "gw-a has withdrawn")
    assert [flow.ask() for flow in flows] == [1] * 10
    for flow in flows:
        flow.close()


def test_the_later_promotion_is_the_better_route_while_the_former_still_announces(one: RoutedWorld) -> None:
    """The primary is stopped: its device and its bgpd live on, and its route is still there."""
    pair = one.pairs[0]
    flows = [one.connect() for _ in range(10)]
    moves_to(one, pair.b, lambda: pair.a.signal(signal.SIGSTOP))
    paths = one.bgp.ask(f"show bgp ipv4 unicast {VIP}/32 json")["paths"]
    assert {path["nexthops"][0]["ip"]: path["metric"] for path in paths} == {
        pair.a.address: 0xFF_FFFF - 1,
        pair.b.address: 0xFF_FFFF - 2,
    }
    assert [flow.ask() for flow in flows] == [1] * 10
    pair.a.signal(signal.SIGCONT)
    pair.a.wait_role("backup")
    until(lambda: "hs-routes" not in pair.a.namespace.ip("link"), "it withdraws when it wakes up")
    for flow in flows:
        flow.close()


def test_a_routing_daemon_that_is_gone_is_told_and_stops_nothing(one: RoutedWorld) -> None:
    pair = one.pairs[0]
    flow = one.connect()
    pair.a.router.close()
    until(lambda: (pair.a.status.get("routes") or {}).get("error"), "gw-a cannot ask any more")
    assert '"routes_failed"' in pair.a.log
    assert pair.a.status["role"] == "primary"
    moves_to(one, pair.b, pair.a.kill)
    assert flow.ask() == 1
    flow.close()


def test_two_pairs_share_a_vip_and_the_failover_of_one_is_not_felt_at_the_other() -> None:
    with routed_world(2) as world:
        first, second = world.pairs
        for pair in world.pairs:
            pair.start()
        world.wait_next_hops(first.a.address, second.a.address)
        flows = [world.connect() for _ in range(40)]
        by_pair = {number: [flow for flow in flows if flow.pair == number] for number in (1, 2)}
        assert all(len(each) >= 5 for each in by_pair.values()), "equal shares, by the router's hash"
        first.a.kill()
        while world.next_hops() != {first.b.address, second.a.address}:
            assert [flow.ask() for flow in by_pair[2]] == [2] * len(by_pair[2]), "the others go on meanwhile"
        assert [flow.ask() for flow in flows] == [flow.pair for flow in flows], "each through its own pair"
        assert is_untouched(second)
        for flow in flows:
            flow.close()


def is_untouched(pair: RoutedPair) -> bool:
    return (pair.a.status["role"], pair.a.status["generation"]) == ("primary", 1)
