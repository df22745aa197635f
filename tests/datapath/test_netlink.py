"""The mirror of the kernel's tables, in a namespace of its own and under uvloop.

host ── inside [gateway] outside ── server
10.0.1.21     .2         .2         203.0.113.50
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from hasyncd.datapath.interfaces import find_interface
from hasyncd.datapath.kernel_tables import NeighbourEntry, NeighbourKey, RouteEntry
from hasyncd.datapath.netlink import LinkState, Netlink
from tests.datapath.namespaces import Namespace, join, namespaces

pytestmark = pytest.mark.e2e


def number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


INSIDE_NET = (number("10.0.1.0"), 24, 0, 0)
OUTSIDE_NET = (number("203.0.113.0"), 24, 1, 0)
DEFAULT = (0, 0, 1, number("203.0.113.50"))
HOST = (0, number("10.0.1.21"))
NOBODY = (0, number("10.0.1.99"))


@dataclass
class Mirror:
    """What the callbacks were told, and a way to wait for it."""

    gateway: Namespace
    host: Namespace
    routes: list[RouteEntry] | None = None
    neighbours: dict[NeighbourKey, bytes] = field(default_factory=dict)
    told: list[NeighbourEntry] = field(default_factory=list)
    links: list[tuple[int, LinkState]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    route_calls: int = 0
    address_calls: int = 0

    def open(self, receive_buffer: int = 1 << 20) -> Netlink:
        return Netlink(
            find_interface("inside"),
            find_interface("outside"),
            on_routes=self.receive_routes,
            on_neighbours=self.receive_neighbours,
            on_link=self.receive_link,
            on_addresses=self.receive_addresses,
            receive_buffer=receive_buffer,
        )

    def receive_routes(self, routes: list[RouteEntry]) -> None:
        self.routes = routes
        self.route_calls += 1
        self.changed.set()

    def receive_neighbours(self, entries: list[NeighbourEntry]) -> None:
        self.told += entries
        self.neighbours.update({(side, address): mac for side, address, mac in entries})
        self.changed.set()

    def receive_link(self, side: int, state: LinkState) -> None:
        self.links.append((side, state))
        self.changed.set()

    def receive_addresses(self) -> None:
        self.address_calls += 1
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def mac_of_host(self) -> bytes:
        text = self.host.run("cat", "/sys/class/net/eth0/address").strip()
        return bytes.fromhex(text.replace(":", ""))


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with namespaces(3) as (host, gateway, server):
        join(gateway, "inside", host, "eth0")
        join(gateway, "outside", server, "eth0")
        host.ip("addr", "add", "10.0.1.21/24", "dev", "eth0")
        server.ip("addr", "add", "203.0.113.50/24", "dev", "eth0")
        gateway.ip("addr", "add", "10.0.1.2/24", "dev", "inside")
        gateway.ip("addr", "add", "203.0.113.2/24", "dev", "outside")
        gateway.ip("route", "add", "default", "via", "203.0.113.50")
        yield Mirror(gateway, host)


def in_gateway(
    mirror: Mirror, scenario: Callable[[Netlink], Awaitable[None]], receive_buffer: int = 1 << 20
) -> None:
    """Runs the scenario with a started mirror in the gateway's namespace."""

    async def main() -> None:
        netlink = mirror.open(receive_buffer)
        try:
            await netlink.start()
            await scenario(netlink)
        finally:
            netlink.close()

    with mirror.gateway.entered(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_start_tells_routes_neighbours_and_links(mirror: Mirror) -> None:
    mirror.gateway.ip("neigh", "add", "10.0.1.30", "lladdr", "02:00:00:00:00:1e", "dev", "inside")

    async def scenario(netlink: Netlink) -> None:
        assert mirror.routes == netlink.routes == [DEFAULT, INSIDE_NET, OUTSIDE_NET]
        assert mirror.neighbours[(0, number("10.0.1.30"))] == bytes.fromhex("02000000001e")
        assert sorted(mirror.links, key=lambda link: link[0]) == [(0, LinkState.UP), (1, LinkState.UP)]

    in_gateway(mirror, scenario)


def test_a_namespace_without_any_route_starts(mirror: Mirror) -> None:
    mirror.gateway.ip("addr", "flush", "dev", "inside")
    mirror.gateway.ip("addr", "flush", "dev", "outside")

    async def scenario(netlink: Netlink) -> None:
        assert mirror.routes == []

    in_gateway(mirror, scenario)


def test_many_route_changes_are_told_together(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        batch = Path(f"/tmp/{mirror.gateway.name}.batch")
        try:
            batch.write_text("".join(f"route add 10.9.{n}.0/24 via 10.0.1.21\n" for n in range(200)))
            mirror.gateway.ip("-batch", str(batch))
        finally:
            batch.unlink()
        await mirror.until(lambda: len(mirror.routes or ()) == 203)
        assert (number("10.9.7.0"), 24, 0, number("10.0.1.21")) in (mirror.routes or ())
        assert mirror.route_calls < 10

    in_gateway(mirror, scenario)


def test_routes_follow_a_better_metric_and_a_lost_address(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        mirror.gateway.ip("route", "replace", "default", "via", "203.0.113.50", "metric", "50")
        mirror.gateway.ip("route", "del", "default", "metric", "0")
        mirror.gateway.ip("route", "add", "default", "via", "10.0.1.21", "metric", "10")
        await mirror.until(lambda: (0, 0, 0, number("10.0.1.21")) in (mirror.routes or ()))
        mirror.gateway.ip("addr", "del", "10.0.1.2/24", "dev", "inside")
        await mirror.until(lambda: mirror.routes == [DEFAULT, OUTSIDE_NET])

    in_gateway(mirror, scenario)


def test_resolves_a_neighbour_and_tells_a_failure(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        netlink.resolve([HOST, NOBODY])
        await mirror.until(lambda: HOST in mirror.neighbours and NOBODY in mirror.neighbours)
        assert mirror.neighbours[HOST] == mirror.mac_of_host()
        assert mirror.neighbours[NOBODY] == b""
        assert netlink.counters["neighbour_request_errors"] == 0

    in_gateway(mirror, scenario)


def test_what_is_known_is_told_again_and_not_asked(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        netlink.resolve([HOST])
        await mirror.until(lambda: HOST in mirror.neighbours)
        asked = netlink.counters["neighbour_requests"]
        mirror.neighbours.clear()
        netlink.resolve([HOST])
        await mirror.until(lambda: HOST in mirror.neighbours)
        assert netlink.counters["neighbour_requests"] == asked

    in_gateway(mirror, scenario)


def test_a_deleted_neighbour_is_forgotten(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        netlink.resolve([HOST])
        await mirror.until(lambda: mirror.neighbours.get(HOST))
        mirror.gateway.ip("neigh", "flush", "dev", "inside")
        await mirror.until(lambda: mirror.neighbours[HOST] == b"")

    in_gateway(mirror, scenario)


def test_a_stale_neighbour_in_use_is_probed(mirror: Mirror) -> None:
    """The host's MAC changes in silence; using the entry makes the kernel find the new one."""
    mirror.gateway.sysctl("ipv4/neigh/inside/delay_first_probe_time", "1")
    mirror.gateway.ip(
        "neigh", "add", "10.0.1.21", "lladdr", "02:00:00:00:00:aa", "nud", "stale", "dev", "inside"
    )

    async def scenario(netlink: Netlink) -> None:
        assert mirror.neighbours[HOST] == bytes.fromhex("0200000000aa")
        netlink.refresh([HOST, NOBODY])
        await mirror.until(lambda: mirror.neighbours[HOST] == b"")
        assert netlink.counters["neighbour_requests"] == 1, (
            "what is not in the kernel's table is not refreshed"
        )
        netlink.resolve([HOST])
        await mirror.until(lambda: mirror.neighbours[HOST] == mirror.mac_of_host())

    in_gateway(mirror, scenario)


def test_requests_are_bounded(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        netlink.resolve([(0, number("10.0.0.0") + n) for n in range(5000)])
        assert netlink.counters["neighbour_requests_dropped"] == 5000 - 4096
        await asyncio.sleep(0)
        assert netlink.counters["neighbour_requests"] <= 64

    in_gateway(mirror, scenario)


def test_after_an_overrun_everything_is_dumped_anew(mirror: Mirror) -> None:
    mirror.gateway.ip("neigh", "add", "10.0.1.200", "lladdr", "02:00:00:00:00:c8", "dev", "inside")

    async def scenario(netlink: Netlink) -> None:
        batch = Path(f"/tmp/{mirror.gateway.name}.batch")
        lines = ["neigh del 10.0.1.200 dev inside\n"]
        # The loop does not run meanwhile: the socket's queue overflows.
        lines += [f"neigh add 10.0.1.{n} lladdr 02:00:00:00:01:{n:02x} dev inside\n" for n in range(30, 200)]
        lines += ["neigh del 10.0.1.30 dev inside\n", "route add 10.8.0.0/16 via 10.0.1.21\n"]
        try:
            batch.write_text("".join(lines))
            mirror.gateway.ip("-batch", str(batch))
        finally:
            batch.unlink()
        expected = {(0, number(f"10.0.1.{n}")) for n in range(31, 200)}
        await mirror.until(
            lambda: (
                {key for key, mac in mirror.neighbours.items() if mac} == expected
                and (number("10.8.0.0"), 16, 0, number("10.0.1.21")) in (mirror.routes or ())
            )
        )
        assert netlink.counters["overruns"] > 0
        assert mirror.neighbours[(0, number("10.0.1.200"))] == b""

    in_gateway(mirror, scenario, receive_buffer=32_768)


def test_a_link_that_goes_down_comes_back_and_vanishes(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        netlink.resolve([HOST])
        await mirror.until(lambda: mirror.neighbours.get(HOST))
        mirror.host.ip("link", "set", "eth0", "down")
        await mirror.until(lambda: mirror.links[-1] == (0, LinkState.DOWN))
        mirror.host.ip("link", "set", "eth0", "up")
        await mirror.until(lambda: mirror.links[-1] == (0, LinkState.UP))
        mirror.gateway.ip("link", "set", "inside", "down")
        await mirror.until(lambda: mirror.links[-1] == (0, LinkState.DOWN))
        await mirror.until(lambda: mirror.routes == [DEFAULT, OUTSIDE_NET])
        await mirror.until(lambda: mirror.neighbours[HOST] == b"")
        mirror.gateway.ip("link", "del", "outside")
        await mirror.until(lambda: mirror.links[-1] == (1, LinkState.AWAY))
        await mirror.until(lambda: mirror.routes == [])

    in_gateway(mirror, scenario)


def test_a_port_that_leaves_a_bridge_is_not_away(mirror: Mirror) -> None:
    mirror.gateway.ip("link", "add", "br0", "type", "bridge")
    mirror.gateway.ip("link", "set", "inside", "master", "br0")

    async def scenario(netlink: Netlink) -> None:
        mirror.gateway.ip("link", "set", "inside", "nomaster")
        mirror.gateway.ip("link", "set", "outside", "down")
        await mirror.until(lambda: mirror.links[-1] == (1, LinkState.DOWN))
        assert (0, LinkState.AWAY) not in mirror.links

    in_gateway(mirror, scenario)


def test_nothing_is_told_after_close(mirror: Mirror) -> None:
    async def scenario(netlink: Netlink) -> None:
        netlink.resolve([HOST])
        netlink.close()
        netlink.close()
        netlink.resolve([HOST])
        netlink.refresh([HOST])
        await asyncio.sleep(0.05)
        assert mirror.neighbours == {}

    in_gateway(mirror, scenario)
