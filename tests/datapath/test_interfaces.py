"""Interfaces are found by name and by address, and what is wrong is said."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface

import pytest

from hasyncd.datapath.interfaces import (
    InterfaceError,
    addresses_in_use,
    find_interface,
    ip_forward,
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


def test_names_the_addresses_that_the_kernel_holds(gateway: Namespace) -> None:
    asked = [IPv4Address("10.0.1.1"), IPv4Address("203.0.113.2"), IPv4Address("127.0.0.1")]
    assert addresses_in_use(asked) == asked[1:]


def test_reads_the_namespaces_own_forwarding(gateway: Namespace) -> None:
    assert not ip_forward()
    gateway.sysctl("ipv4/ip_forward", "1")
    assert ip_forward()
