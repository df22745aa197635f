"""hasyncd.runtime.heartbeat_path: over a service LAN the peer is heard, on its interface and from the link alone."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from hasyncd.config_values import Endpoint
from hasyncd.pair_files import make_pair_files
from hasyncd.runtime.heartbeat_path import HeartbeatPath, Route
from hasyncd.runtime.pair_keys import PairKeys, load_pair_keys
from tests.datapath.namespaces import Namespace, join, namespaces
from tests.runtime.pair import PORT, until

pytestmark = pytest.mark.e2e

ADDRESSES = {
    4: ("10.0.1.2", "10.0.1.3", "10.9.0.3"),
    6: ("2001:db8:1::2", "2001:db8:1::3", "2001:db8:9::3"),
}
"""Ours, the peer's, and one of the peer's on another network."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairKeys, PairKeys]:
    directory = tmp_path_factory.mktemp("pair") / "keys"
    make_pair_files(directory, ("gw-a", "gw-b"))
    return load_pair_keys(directory / "gw-a", "gw-a"), load_pair_keys(directory / "gw-b", "gw-b")


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    """Two machines with two cables: `inside` and `outside`."""
    with namespaces(2) as (here, there):
        for each in (here, there):
            each.speak_ipv6()
        for name in ("inside", "outside"):
            join(here, name, there, name)
        for version, length in ((4, "24"), (6, "64")):
            ours, theirs, elsewhere = ADDRESSES[version]
            here.ip("addr", "add", f"{ours}/{length}", "dev", "inside")
            there.ip("addr", "add", f"{theirs}/{length}", "dev", "inside")
            there.ip("addr", "add", f"{elsewhere}/{length}", "dev", "outside")
        yield here, there


class End:
    """One end of the path `inside`, and what came by it."""

    def __init__(self, route: Route, keys: PairKeys | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self.heard: list[tuple[bytes, str]] = []
        self.path = HeartbeatPath(route, keys, self.counters)
        self.path.open(lambda payload, path: self.heard.append((payload, path)), lambda why: None)

    def say(self, payload: bytes) -> None:
        self.path.send(self.path.seal(payload))

    def close(self) -> None:
        self.path.close()


def route(version: int, *, reverse: bool = False) -> Route:
    ours, theirs, _ = (Endpoint(ipaddress.ip_address(address), PORT) for address in ADDRESSES[version])
    return Route("inside", theirs, ours, "inside") if reverse else Route("inside", ours, theirs, "inside")


@pytest.mark.parametrize("version", [4, 6])
async def test_the_two_ends_hear_each_other(
    machines: tuple[Namespace, Namespace], keys: tuple[PairKeys, PairKeys], version: int
) -> None:
    here, there = machines
    with contextlib.ExitStack() as stack:
        with here.entered():
            one = stack.enter_context(contextlib.closing(End(route(version), keys[0])))
        with there.entered():
            two = stack.enter_context(contextlib.closing(End(route(version, reverse=True), keys[1])))
        one.say(b"from a")
        two.say(b"from b")
        await until(lambda: one.heard and two.heard, "both")
        assert (one.heard, two.heard) == ([(b"from b", "inside")], [(b"from a", "inside")])
        assert not one.counters | two.counters


@pytest.mark.parametrize("version", [4, 6])
async def test_what_has_passed_a_router_and_what_is_no_peers_is_dropped(
    machines: tuple[Namespace, Namespace], version: int
) -> None:
    here, there = machines
    ours, theirs, elsewhere = ADDRESSES[version]
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    hops = (
        (socket.IPPROTO_IP, socket.IP_TTL)
        if version == 4
        else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    )
    with contextlib.ExitStack() as stack:
        with here.entered():
            one = stack.enter_context(contextlib.closing(End(route(version))))
        with there.entered():
            peer, stranger = (stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(2))
        peer.bind((theirs, PORT))
        stranger.bind((elsewhere, PORT))
        peer.setsockopt(*hops, 254)
        peer.sendto(b"routed", (ours, PORT))
        stranger.sendto(b"a stranger's", (ours, PORT))
        peer.setsockopt(*hops, 255)
        peer.sendto(b"the peer's", (ours, PORT))
        await until(lambda: one.heard, "the peer")
        assert one.heard == [(b"the peer's", "inside")]
        assert one.counters["datagrams_routed"] == 1
        assert one.counters["datagrams_refused"] == 1


async def test_another_interface_brings_nothing(machines: tuple[Namespace, Namespace]) -> None:
    """The peer's very words, by the wrong cable: the socket does not see them."""
    here, there = machines
    with contextlib.ExitStack() as stack:
        with here.entered():
            one = stack.enter_context(contextlib.closing(End(route(4))))
        for each in machines:
            each.sysctl("ipv4/conf/all/rp_filter", "0")
            each.sysctl("ipv4/conf/outside/rp_filter", "0")
        there.ip("route", "add", f"{ADDRESSES[4][0]}/32", "dev", "outside", "src", ADDRESSES[4][1])
        with there.entered():
            peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        peer.bind((ADDRESSES[4][1], PORT))
        before = here.counters("Udp")
        peer.sendto(b"by the outside", (ADDRESSES[4][0], PORT))
        await until(lambda: here.counters("Udp")["NoPorts"] > before["NoPorts"], "it came, and is nobody's")
        there.ip("route", "del", f"{ADDRESSES[4][0]}/32", "dev", "outside")
        peer.sendto(b"by the inside", (ADDRESSES[4][0], PORT))
        await until(lambda: one.heard, "the right cable")
        assert one.heard == [(b"by the inside", "inside")]


async def test_what_cannot_leave_is_counted(machines: tuple[Namespace, Namespace]) -> None:
    here, _ = machines
    with here.entered():
        one = End(route(4))
    here.ip("link", "set", "inside", "down")
    one.say(b"nobody")
    assert sum(one.counters.values()) == 1
    assert next(iter(one.counters)).startswith("heartbeat_send_")
    one.close()
    one.close()
    one.say(b"closed")
