"""The mirror of the kernel's IPv6 tables.

host ── inside [gateway] outside ── server
2001:db8:1::21  ::2      2001:db8:2::2  ::50
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from hasyncd.datapath.netlink import Netlink
from tests.datapath.namespaces import Namespace, join, namespaces
from tests.datapath.test_netlink import Mirror, in_gateway

pytestmark = pytest.mark.e2e


def six(address: str) -> bytes:
    return ipaddress.IPv6Address(address).packed


INSIDE_NET = (six("2001:db8:1::"), 64, 0, 0)
OUTSIDE_NET = (six("2001:db8:2::"), 64, 1, 0)
HOST = (0, six("2001:db8:1::21"))
NOBODY = (0, six("2001:db8:1::99"))


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with namespaces(3) as (host, gateway, server):
        for namespace in (host, gateway, server):
            namespace.speak_ipv6()
        join(gateway, "inside", host, "eth0")
        join(gateway, "outside", server, "eth0")
        host.ip("addr", "add", "2001:db8:1::21/64", "dev", "eth0", "nodad")
        server.ip("addr", "add", "2001:db8:2::50/64", "dev", "eth0", "nodad")
        gateway.ip("addr", "add", "2001:db8:1::2/64", "dev", "inside", "nodad")
        gateway.ip("addr", "add", "2001:db8:2::2/64", "dev", "outside", "nodad")
        yield Mirror(gateway, host)


def link_local(namespace: Namespace, interface: str) -> str:
    words = namespace.ip("-6", "-o", "addr", "show", "dev", interface, "scope", "link").split()
    return words[words.index("inet6") + 1].partition("/")[0]


def test_start_tells_both_families_and_no_link_local_route(mirror: Mirror) -> None:
    mirror.gateway.ip("addr", "add", "10.0.1.2/24", "dev", "inside")
    mirror.gateway.ip("-6", "route", "add", "default", "via", "fe80::9", "dev", "outside")
    mirror.gateway.ip("neigh", "add", "2001:db8:1::30", "lladdr", "02:00:00:00:00:1e", "dev", "inside")

    async def scenario(netlink: Netlink) -> None:
        assert mirror.routes == [
            (int(ipaddress.IPv4Address("10.0.1.0")), 24, 0, 0),
            (bytes(16), 0, 1, six("fe80::9")),
            INSIDE_NET,
            OUTSIDE_NET,
        ]
        assert mirror.neighbours[(0, six("2001:db8:1::30"))] == bytes.fromhex("02000000001e")

    in_gateway(mirror, scenario)


def test_the_same_link_local_address_is_another_neighbour_on_each_side(mirror: Mirror) -> None:
    mirror.gateway.ip("neigh", "add", "fe80::9", "lladdr", "02:00:00:00:00:01", "dev", "inside")
    mirror.gateway.ip("neigh", "add", "fe80::9", "lladdr", "02:00:00:00:00:02", "dev", "outside")

    async def scenario(netlink: Netlink) -> None:
        found = {side: mirror.neighbours[(side, six("fe80::9"))][-1] for side in (0, 1)}
        assert found == {0: 1, 1: 2}

    in_gateway(mirror, scenario)


def test_a_multipath_route_leaves_by_its_first_living_hop(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        hops = ["nexthop", "via", "fe80::8", "dev", "outside", "nexthop", "via", "fe80::9", "dev", "inside"]
        mirror.gateway.ip("-6", "route", "add", "default", *hops)
        await mirror.until(lambda: (bytes(16), 0, 1, six("fe80::8")) in (mirror.routes or ()))
        mirror.gateway.ip("link", "set", "outside", "down")
        await mirror.until(lambda: (bytes(16), 0, 0, six("fe80::9")) in (mirror.routes or ()))

    in_gateway(mirror, scenario)


def test_a_router_is_learnt_from_its_advertisement(mirror: Mirror) -> None:
    """Router advertisements are the kernel's to read; their default routes are ours to use."""
    mirror.gateway.sysctl("ipv6/conf/inside/accept_ra", "2")
    router = link_local(mirror.host, "eth0")
    advertise = (
        "import socket, struct; s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6);"
        "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255);"
        "s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0),"
        " ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))"
    )

    async def scenario(netlink: Netlink) -> None:
        mirror.host.run("/usr/bin/python3", "-c", advertise)
        await mirror.until(lambda: (bytes(16), 0, 0, six(router)) in (mirror.routes or ()))

    in_gateway(mirror, scenario)


def test_resolves_an_ipv6_neighbour_and_tells_a_failure(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        router = (0, six(link_local(mirror.host, "eth0")))
        netlink.resolve([HOST, NOBODY, router])
        await mirror.until(lambda: mirror.neighbours.keys() >= {HOST, NOBODY, router})
        assert mirror.neighbours[HOST] == mirror.neighbours[router] == mirror.mac_of_host()
        assert mirror.neighbours[NOBODY] == b""
        assert netlink.counters["neighbour_request_errors"] == 0

    in_gateway(mirror, scenario)


def test_a_stale_ipv6_neighbour_in_use_is_probed(mirror: Mirror) -> None:
    mirror.gateway.sysctl("ipv6/neigh/inside/delay_first_probe_time", "1")
    stale = ["2001:db8:1::21", "lladdr", "02:00:00:00:00:aa", "nud", "stale"]
    mirror.gateway.ip("neigh", "add", *stale, "dev", "inside")

    async def scenario(netlink: Netlink) -> None:
        netlink.refresh([HOST, NOBODY])
        await mirror.until(lambda: mirror.neighbours[HOST] == b"")
        assert netlink.counters["neighbour_requests"] == 1
        netlink.resolve([HOST])
        await mirror.until(lambda: mirror.neighbours[HOST] == mirror.mac_of_host())

    in_gateway(mirror, scenario)


def test_an_address_that_comes_or_goes_is_told(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        before = mirror.address_calls
        mirror.gateway.ip("addr", "add", "2001:db8:7::2/64", "dev", "inside", "nodad")
        await mirror.until(lambda: mirror.address_calls > before)
        await mirror.until(lambda: (six("2001:db8:7::"), 64, 0, 0) in (mirror.routes or ()))
        before = mirror.address_calls
        mirror.gateway.ip("addr", "del", "2001:db8:7::2/64", "dev", "inside")
        await mirror.until(lambda: mirror.address_calls > before)
        await mirror.until(lambda: mirror.routes == [INSIDE_NET, OUTSIDE_NET])

    in_gateway(mirror, scenario)
