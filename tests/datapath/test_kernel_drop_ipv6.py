"""The drop at clsact, on real IPv6 packets of a kernel that forwards and one that does not.

client ── inside [gateway] outside ── server
2001:db8:1::7  ::2      2001:db8:2::2  ::50
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest

from hasyncd.datapath import kernel_drop
from hasyncd.datapath.interfaces import Interface, find_interface
from hasyncd.datapath.kernel_drop import KernelDropError
from tests.datapath.namespaces import Namespace, join, namespaces
from tests.datapath.test_kernel_drop import STRANGER

pytestmark = pytest.mark.e2e

VIP, OWN, SERVER = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::50"
OWNED = [IPv6Network(VIP), IPv6Network("2001:db8:2::5"), IPv4Network("203.0.113.5")]
PRIVATE = [IPv6Network("2001:db8:1::/64")]


class Net:
    """A gateway between a client, whose default route it is, and a server."""

    def __init__(self, client: Namespace, gateway: Namespace, server: Namespace) -> None:
        self.client, self.gateway, self.server = client, gateway, server
        for namespace in (client, gateway, server):
            namespace.speak_ipv6()
        join(client, "eth0", gateway, "inside")
        join(gateway, "outside", server, "eth0")
        for namespace, address, interface in (
            (client, "2001:db8:1::7", "eth0"),
            (gateway, OWN, "inside"),
            (gateway, "2001:db8:2::2", "outside"),
            (server, SERVER, "eth0"),
        ):
            namespace.ip("addr", "add", f"{address}/64", "dev", interface, "nodad")
        client.ip("-6", "route", "add", "default", "via", OWN)
        server.ip("-6", "route", "add", "default", "via", "2001:db8:2::2")

    def protect(self, *forwarding: int) -> list[str]:
        with self.gateway.entered():
            interfaces = [find_interface("inside"), find_interface("outside")]
            return kernel_drop.protect(interfaces, OWNED, PRIVATE, forwarding=forwarding)

    def forwarded(self) -> int:
        lines = self.gateway.run("cat", "/proc/net/snmp6").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Ip6OutForwDatagrams"))


def pings(namespace: Namespace, address: str, tries: int = 1) -> bool:
    """One echo, answered; `tries`: of an address that may first have to be resolved."""
    command = ["ip", "netns", "exec", namespace.name, "ping", "-6", "-c", "1", "-W", "2", address]
    return any(
        subprocess.run(command, capture_output=True, check=False).returncode == 0 for _ in range(tries)
    )


@pytest.fixture
def net() -> Iterator[Net]:
    with namespaces(3) as (client, gateway, server):
        yield Net(client, gateway, server)


def test_a_forwarding_kernel_forwards_neither_way_but_answers_for_itself(net: Net) -> None:
    net.gateway.sysctl("ipv6/conf/all/forwarding", "1")
    assert pings(net.client, SERVER, 3), "without the drop the kernel forwards"
    assert net.protect(6) == []
    before = net.forwarded()
    assert not pings(net.client, SERVER)
    assert not pings(net.server, "2001:db8:1::7")
    assert pings(net.client, OWN)
    assert net.forwarded() == before
    with net.gateway.entered():
        assert kernel_drop.installed(find_interface("inside").index) == {4, 6}


def test_the_kernel_still_resolves_and_is_resolved(net: Net) -> None:
    """Solicitations and advertisements of private hosts are the kernel's: without them nobody finds anybody."""
    assert net.protect() == []
    for namespace in (net.client, net.gateway):
        namespace.ip("-6", "neigh", "flush", "all")
    assert pings(net.client, OWN, 3)
    net.gateway.ip("-6", "neigh", "flush", "all")
    assert pings(net.gateway, "2001:db8:1::7", 3)
    assert (
        net.gateway.run("ip", "-6", "neigh", "show", "2001:db8:1::7", "dev", "inside").split()[1] == "lladdr"
    )


def test_an_address_that_came_later_is_the_kernels_after_the_next_call(net: Net) -> None:
    assert net.protect() == []
    net.gateway.ip("addr", "add", "2001:db8:1::99/64", "dev", "inside", "nodad")
    assert not pings(net.client, "2001:db8:1::99", 2)
    assert net.protect() == []
    assert pings(net.client, "2001:db8:1::99", 2)


def test_an_owned_address_on_a_kernel_interface_refuses_the_start(net: Net) -> None:
    net.gateway.ip("addr", "add", f"{VIP}/128", "dev", "lo")
    with pytest.raises(KernelDropError, match=r"2001:db8:1::1 is configured on a kernel interface"):
        net.protect()


def test_only_the_family_that_the_kernel_forwards_refuses_the_start(net: Net) -> None:
    net.gateway.run("tc", "qdisc", "add", "dev", "inside", "clsact")
    add = ["tc", "filter", "add", "dev", "inside", "ingress", "protocol", "ipv6", "prio"]
    net.gateway.run(*add, str(kernel_drop.PLACES[6].priority), *STRANGER)
    failures = net.protect(4)
    assert len(failures) == 1
    assert "another program's" in failures[0]
    with pytest.raises(KernelDropError, match=r"inside: net\.ipv6\.conf\.\*\.forwarding is 1"):
        net.protect(6)


def test_a_node_without_ipv6_removes_what_its_predecessor_left_and_adds_nothing(net: Net) -> None:
    with net.gateway.entered():
        index = find_interface("inside").index
        kernel_drop.install(index, [IPv6Address(OWN)], OWNED, PRIVATE)
        assert kernel_drop.installed(index) == {4, 6}
        kernel_drop.install(index, [], [IPv4Network("203.0.113.5")], [])
        assert kernel_drop.installed(index) == {4}
        kernel_drop.install(index, [IPv6Address(OWN)], OWNED, PRIVATE)
        kernel_drop.remove(index, {4})
        assert kernel_drop.installed(index) == {6}
        kernel_drop.remove(index)
        assert kernel_drop.installed(index) == set()


def test_an_interface_that_has_gone_is_told_for_each_family(net: Net) -> None:
    gone = Interface("gone", 9999, bytes(6), 1500, ())
    with net.gateway.entered():
        failures = kernel_drop.protect([gone], OWNED, PRIVATE, forwarding=())
    assert len(failures) == 2
    assert all(failure.startswith("gone: ") for failure in failures)
