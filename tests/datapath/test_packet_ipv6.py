"""The IPv6 of a configuration as the engine's rules, seen by what the engine then does; groups of the VIPs."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hasyncd.config import Settings
from hasyncd.datapath.multicast import join_solicited_nodes, solicited_node
from hasyncd.datapath.packet import (
    INSIDE,
    OUTSIDE,
    Engine,
    owned_networks,
    private_networks,
    written_backends,
)
from tests.datapath.configured import engine_of, settings_of
from tests.datapath.namespaces import join, namespaces
from tests.native.engines import arm
from tests.native.frames import SYN
from tests.native.frames6 import Seen6, number6, read6, solicitation, tcp6, udp6

CONFIGURATION = """
[node]
name = "n1"
capacity = 1024
[interfaces]
inside = "inside"
outside = "outside"
[[vip]]
address = "10.0.1.1/24"
interface = "inside"
[[vip]]
address = "2001:db8:1::1/64"
interface = "inside"
[[vip]]
address = "2001:db8:2::5/64"
interface = "outside"
[peer]
listen = "[fd00::1]:7077"
address = "[fd00::2]:7077"
insecure = true
[[pass]]
source = ["2001:db8:1::/64"]
destination = ["2001:db8:9::/48"]
[[pass]]
source = ["2001:db8:1::8/128"]
inbound = true
[[service]]
name = "web"
vip = "[2001:db8:2::5]:80"
protocol = "tcp"
allow = ["2001:db8:2::/64"]
backends = [{ id = 7, address = "[fd00:1::21]:8080" }]
"""
HOST, SERVER, CLIENT = "2001:db8:1::7", "2001:db8:9::9", "2001:db8:2::100"
SERVED = "2001:db8:1::8"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(CONFIGURATION, tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Engine:
    made = engine_of(settings)
    made.set_routes(
        [
            (number6("2001:db8:1::"), 64, INSIDE, 0),
            (number6("fd00:1::"), 64, INSIDE, 0),
            (bytes(16), 0, OUTSIDE, number6("fe80::fe")),
        ]
    )
    inside = [(INSIDE, number6(address), b"\2\0\0\0\0\7") for address in (HOST, SERVED, "fd00:1::21")]
    made.set_neighbours([*inside, (OUTSIDE, number6("fe80::fe"), b"\2\0\0\0\0\xfe")])
    arm(made)
    return made


def send(engine: Engine, side: int, frame: bytes) -> list[Seen6]:
    engine.inject(side, frame, 10**12)
    return [read6(sent) for _, sent in engine.take_sent()]


def test_pass_rules_say_who_may_begin_and_where_to(engine: Engine) -> None:
    (passed,) = send(engine, INSIDE, udp6(HOST, 5000, SERVER, 53))
    assert passed.ends == (HOST, 5000, SERVER, 53)
    assert send(engine, INSIDE, udp6(HOST, 5000, "2001:db8:8::9", 53)) == []
    assert send(engine, OUTSIDE, tcp6(CLIENT, 4000, HOST, 80, SYN)) == []
    (opened,) = send(engine, OUTSIDE, tcp6(CLIENT, 4000, SERVED, 80, SYN))
    assert opened.ends == (CLIENT, 4000, SERVED, 80)
    (away,) = send(engine, INSIDE, udp6(SERVED, 5000, "2001:db8:8::9", 53))
    assert away.source == SERVED


def test_a_service_and_whom_it_allows(engine: Engine) -> None:
    (web,) = send(engine, OUTSIDE, tcp6(CLIENT, 5000, "2001:db8:2::5", 80, SYN))
    assert web.ends == (CLIENT, 5000, "fd00:1::21", 8080)
    assert engine.backend_flow_counts(0) == {7: 1}
    assert send(engine, OUTSIDE, tcp6("2001:db8:3::1", 5000, "2001:db8:2::5", 80, SYN)) == []


def test_vips_are_answered_on_their_side_only(engine: Engine) -> None:
    for side, asker, vip, answers in (
        (INSIDE, HOST, "2001:db8:1::1", 1),
        (OUTSIDE, CLIENT, "2001:db8:2::5", 1),
        (OUTSIDE, CLIENT, "2001:db8:1::1", 0),
    ):
        assert len(send(engine, side, solicitation(asker, vip))) == answers, (side, vip)


def test_what_is_owned_and_what_is_private(settings: Settings) -> None:
    owned = ["10.0.1.1/32", "2001:db8:1::1/128", "2001:db8:2::5/128"]
    assert owned_networks(settings) == [ipaddress.ip_network(each) for each in owned]
    private = ["2001:db8:1::/64", "2001:db8:1::8/128", "fd00:1::21/128"]
    assert private_networks(settings, written_backends(settings)) == [
        ipaddress.ip_network(each) for each in private
    ]


def test_the_group_of_an_address_has_its_last_24_bits() -> None:
    assert solicited_node(IPv6Address("2001:db8::12:3456")) == IPv6Address("ff02::1:ff12:3456")


@pytest.mark.e2e
def test_the_kernel_is_a_member_until_the_end() -> None:
    with namespaces(2) as (gateway, lan):
        gateway.speak_ipv6()
        join(gateway, "inside", lan, "eth0")
        with gateway.entered():
            assert join_solicited_nodes([]) is None
            index = int(gateway.run("cat", "/sys/class/net/inside/ifindex"))
            member = join_solicited_nodes([(index, IPv6Address("2001:db8:1::aa:1"))])
        assert member is not None
        with member:
            assert "ff02::1:ffaa:1" in gateway.ip("maddr", "show", "dev", "inside")
        assert "ff02::1:ffaa:1" not in gateway.ip("maddr", "show", "dev", "inside")
        with gateway.entered(), pytest.raises(OSError, match="No such device"):
            join_solicited_nodes([(9999, IPv6Address("2001:db8:1::1"))])
