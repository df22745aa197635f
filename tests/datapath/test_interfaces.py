"""Interfaces are found by name and by address, and what is wrong is said."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from hasyncd.datapath.interfaces import (
    InterfaceError,
    find_interface,
    ip_forward,
    ipv6_forward,
)
from tests.datapath.namespaces import Namespace, join, namespaces

pytestmark = pytest.mark.e2e


@pytest.fixture
def gateway() -> Iterator[Namespace]:
    with namespaces(2) as (gateway, other):
        join(gateway, "eth0", other, "far0")
        join(gateway, "eth1", other, "far1")
        gateway.ip("link", "set", "eth0", "address", "02:00:00:00:00:0a", "mtu", "1400")
        gateway.ip("addr", "add", "10.0.1.2/24", "dev", "eth0")
        gateway.ip("addr", "add", "10.0.1.9/24", "dev", "eth0")
        gateway.ip("addr", "add", "203.0.113.2/24", "dev", "eth1")
        with gateway.entered():
            yield gateway


def test_finds_by_name_and_by_address(gateway: Namespace) -> None:
    found = find_interface("eth0")
    assert (found.name, found.mac, found.mtu) == ("eth0", bytes.fromhex("02000000000a"), 1400)
    assert found.addresses == (IPv4Interface("10.0.1.2/24"), IPv4Interface("10.0.1.9/24"))
    assert found == find_interface("10.0.1.9/24")
    assert find_interface("203.0.113.2/24").name == "eth1"


def test_finds_by_an_ipv6_address(gateway: Namespace) -> None:
    gateway.sysctl("ipv6/conf/eth0/disable_ipv6", "0")
    gateway.ip("addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
    found = find_interface("2001:db8:1:0::2/64")
    assert found.name == "eth0"
    assert IPv6Interface("2001:db8:1::2/64") in found.addresses
    assert any(address.ip.is_link_local for address in found.addresses)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("eth7", r"no interface eth7 \(present: eth0, eth1, lo\)"),
        ("10.0.1.2/16", r"no interface carries 10\.0\.1\.2/16 \(present: .*10\.0\.1\.2/24"),
        ("10.0.1/24", "neither"),
        ("lo", "lo is not Ethernet"),
    ],
)
def test_says_what_is_wrong(gateway: Namespace, spec: str, message: str) -> None:
    with pytest.raises(InterfaceError, match=message):
        find_interface(spec)


def test_an_address_on_two_interfaces_names_neither(gateway: Namespace) -> None:
    gateway.ip("addr", "add", "10.0.1.2/24", "dev", "eth1")
    with pytest.raises(InterfaceError, match="several"):
        find_interface("10.0.1.2/24")


def test_reads_the_namespaces_own_forwarding(gateway: Namespace) -> None:
    assert not ip_forward()
    gateway.sysctl("ipv4/ip_forward", "1")
    assert ip_forward()


@pytest.mark.parametrize("switch", ["all/forwarding", "eth0/forwarding", "eth0/force_forwarding"])
def test_reads_the_switches_of_ipv6_forwarding(gateway: Namespace, switch: str) -> None:
    assert not ipv6_forward()
    gateway.sysctl(f"ipv6/conf/{switch}", "1")
    assert ipv6_forward()
