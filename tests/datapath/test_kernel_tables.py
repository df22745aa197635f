"""Which routes and neighbours of the kernel the engine is told."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from hasyncd.datapath.kernel_tables import (
    Neighbour,
    RouteCandidate,
    choose_routes,
    read_neighbour,
    read_route,
)

SIDES = {3: 0, 4: 1}
TEN = 0x0A00_0000


DOC = IPv6Address("2001:db8::").packed


def six(text: str) -> bytes:
    return IPv6Address(text).packed


def route(**values: Any) -> RouteCandidate | None:
    """Reads a route with these fields (lower case) and attributes (RTA_…), as the kernel would send it."""
    message = rtmsg()
    fields = {"family": 2, "table": 254, "type": 1, "dst_len": 8, **values}
    for name, value in fields.items():
        if not name.startswith("RTA_"):
            message[name] = value
    message["attrs"] = [
        (name, value) for name, value in fields.items() if name.startswith("RTA_") and value is not None
    ]
    message.encode()
    received = rtmsg(bytes(message.data))
    received.decode()
    return read_route(received, SIDES)


def test_reads_routes_on_link_and_by_gateway() -> None:
    assert route(RTA_DST="10.0.0.0", RTA_OIF=3) == RouteCandidate(TEN, 8, 0, 0, 0)
    by_gateway = route(dst_len=0, RTA_OIF=4, RTA_GATEWAY="10.0.0.9", RTA_PRIORITY=100)
    assert by_gateway == RouteCandidate(0, 0, 100, 1, TEN + 9)


def test_a_multipath_route_leaves_by_its_first_living_hop_of_ours() -> None:
    hops = [
        {"oif": 9, "hops": 0, "flags": 0, "attrs": [("RTA_GATEWAY", "10.0.0.1")]},
        {"oif": 3, "hops": 0, "flags": 1, "attrs": [("RTA_GATEWAY", "10.0.0.2")]},
        {"oif": 4, "hops": 0, "flags": 0, "attrs": [("RTA_GATEWAY", "10.0.0.3")]},
    ]
    assert route(RTA_DST="10.0.0.0", RTA_MULTIPATH=hops) == RouteCandidate(TEN, 8, 0, 1, TEN + 3)


@pytest.mark.parametrize(
    "values",
    [
        {"table": 255, "type": 2},  # local
        {"type": 3},  # broadcast
        {"table": 100},
        {"tos": 8},
        {"flags": 1},  # dead
    ],
)
def test_leaves_out_what_the_lookup_does_not_use(values: dict[str, int]) -> None:
    assert route(RTA_DST="10.0.0.0", RTA_OIF=3, **values) is None


@pytest.mark.parametrize("values", [{"RTA_OIF": 9}, {"type": 6}])
def test_keeps_what_only_hides_worse_routes(values: dict[str, int]) -> None:
    assert route(RTA_DST="10.0.0.0", **values) == RouteCandidate(TEN, 8, 0, None, 0)


def route6(**values: Any) -> RouteCandidate | None:
    return route(**{"family": 10, "dst_len": 32, "RTA_DST": "2001:db8::", "RTA_PRIORITY": 1024, **values})


def test_reads_ipv6_routes_whose_gateways_are_link_local() -> None:
    assert route6(RTA_OIF=3) == RouteCandidate(DOC, 32, 1024, 0, 0)
    by_router = route6(dst_len=0, RTA_DST=None, RTA_OIF=4, RTA_GATEWAY="fe80::9", RTA_PREF=1)
    assert by_router == RouteCandidate(bytes(16), 0, 1024, 1, six("fe80::9"), -1)
    hops = [
        {"oif": 3, "hops": 0, "flags": 1, "attrs": [("RTA_GATEWAY", "fe80::2")]},
        {"oif": 4, "hops": 0, "flags": 0, "attrs": [("RTA_GATEWAY", "fe80::3")]},
    ]
    assert route6(RTA_MULTIPATH=hops) == RouteCandidate(DOC, 32, 1024, 1, six("fe80::3"))


@pytest.mark.parametrize(
    "values",
    [
        {"RTA_DST": "fe80::", "dst_len": 64},  # on every link, and never forwarded
        {"RTA_DST": "ff00::", "dst_len": 8, "type": 5},
        {"flags": 0x200},  # cached
        {"src_len": 64, "RTA_SRC": "2001:db8:1::"},
        {"table": 255, "type": 2},
    ],
)
def test_leaves_out_ipv6_routes_that_nobody_forwards_by(values: dict[str, Any]) -> None:
    assert route6(RTA_OIF=3, **values) is None


def test_a_preferred_router_wins_between_equal_metrics() -> None:
    candidates = [
        RouteCandidate(bytes(16), 0, 1024, 1, six("fe80::1"), 0),
        RouteCandidate(bytes(16), 0, 1024, 1, six("fe80::2"), -1),
        RouteCandidate(bytes(16), 0, 1024, 1, six("fe80::3"), 1),
        RouteCandidate(0, 0, 0, 1, 7),
    ]
    assert choose_routes(candidates) == [(0, 0, 1, 7), (bytes(16), 0, 1, six("fe80::2"))]


def test_the_lowest_metric_wins_and_may_lead_elsewhere() -> None:
    candidates = [
        RouteCandidate(0, 0, 200, 1, 7),
        RouteCandidate(0, 0, 100, 0, 8),
        RouteCandidate(TEN, 8, 10, None, 0),
        RouteCandidate(TEN, 8, 20, 1, 0),
        RouteCandidate(TEN, 16, 0, 1, 0),
    ]
    assert choose_routes(candidates) == [(0, 0, 0, 8), (TEN, 16, 1, 0)]


def neighbour(
    state: int, mac: str | None = "02:00:00:00:00:07", address: str = "10.0.0.7", index: int = 3
) -> ndmsg:
    message = ndmsg()
    message["family"], message["ifindex"], message["state"] = 10 if ":" in address else 2, index, state
    message["attrs"] = [("NDA_DST", address)] + ([("NDA_LLADDR", mac)] if mac else [])
    message.encode()
    received = ndmsg(bytes(message.data))
    received.decode()
    return received


MAC = bytes.fromhex("020000000007")


@pytest.mark.parametrize("state", [0x02, 0x04, 0x08, 0x10, 0x80])
def test_a_valid_neighbour_has_its_mac(state: int) -> None:
    assert read_neighbour(neighbour(state), False, SIDES) == Neighbour(0, TEN + 7, MAC, state)


def test_a_failed_incomplete_or_deleted_neighbour_has_none() -> None:
    assert read_neighbour(neighbour(0x20), False, SIDES) == Neighbour(0, TEN + 7, b"", 0x20)
    assert read_neighbour(neighbour(0x01, None), False, SIDES) == Neighbour(0, TEN + 7, b"", 0x01)
    assert read_neighbour(neighbour(0x02), True, SIDES) == Neighbour(0, TEN + 7, b"", 0)


@pytest.mark.parametrize("values", [{"index": 9}, {"address": "224.0.0.1"}, {"address": "255.255.255.255"}])
def test_other_interfaces_and_multicast_are_not_told(values: dict[str, Any]) -> None:
    assert read_neighbour(neighbour(0x40, **values), False, SIDES) is None


def test_an_ipv6_neighbour_is_known_by_its_side_and_its_16_bytes() -> None:
    found = read_neighbour(neighbour(0x02, address="fe80::7"), False, SIDES)
    assert found == Neighbour(0, six("fe80::7"), MAC, 0x02)
    assert read_neighbour(neighbour(0x40, address="ff02::2"), False, SIDES) is None
    assert read_neighbour(neighbour(0x40, address="::"), False, SIDES) is None
