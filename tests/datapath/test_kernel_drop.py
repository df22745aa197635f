"""The drop at clsact, on real packets.

client ── inside [gateway] outside ── server
10.0.1.7      .2         .2           203.0.113.50
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from hasyncd.datapath import kernel_drop
from hasyncd.datapath.interfaces import Interface, find_interface
from hasyncd.datapath.kernel_drop import KernelDropError
from tests.datapath.namespaces import Namespace, join, namespaces

pytestmark = pytest.mark.e2e

VIP = "10.0.1.1"
OWN = "10.0.1.2"
OWNED = [IPv4Network(VIP), IPv4Network("203.0.113.5")]
SOURCES = [IPv4Network("10.0.1.0/24")]
STRANGER = ["bpf", "da", "bytecode", "1,6 0 0 4294967295"]


@dataclass
class Net:
    client: Namespace
    gateway: Namespace
    server: Namespace

    def interface(self, name: str) -> Interface:
        with self.gateway.entered():
            return find_interface(name)

    def install(self) -> None:
        with self.gateway.entered():
            inside = find_interface("inside")
            kernel_drop.install(inside.index, [IPv4Address(OWN)], OWNED, SOURCES)

    def filters(self) -> list[str]:
        """The filters at the gateway's inside ingress, without the heads of their chains."""
        lines = self.gateway.run("tc", "filter", "show", "dev", "inside", "ingress").splitlines()
        return [line for line in lines if "handle" in line]

    def knock(self, address: str) -> int:
        """Sends a TCP SYN from the client, without waiting for what comes of it; returns its port."""
        with self.client.entered(), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as knocking:
            knocking.setblocking(False)
            result = knocking.connect_ex((address, 80))
            assert result in (errno.EINPROGRESS, errno.ECONNREFUSED)
            return int(knocking.getsockname()[1])

    def ping(self, address: str) -> bool:
        """Sends an echo request from the client and waits for the answer; False: none came in 5 s."""
        with (
            self.client.entered(),
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pinging,
        ):
            pinging.settimeout(5)
            body = struct.pack(">HH", 7, 1) + b"hasyncd!"
            total = sum(struct.unpack(">6H", body)) + 0x0800
            total = (total & 0xFFFF) + (total >> 16)
            checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            pinging.sendto(struct.pack(">BBH", 8, 0, checksum) + body, (address, 0))
            try:
                while True:
                    packet, (source, _) = pinging.recvfrom(2048)
                    if source == address and packet[20] == 0:
                        return True
            except TimeoutError:
                return False


@pytest.fixture
def net() -> Iterator[Net]:
    with namespaces(3) as (client, gateway, server):
        join(client, "eth0", gateway, "inside")
        join(gateway, "outside", server, "eth0")
        client.ip("addr", "add", "10.0.1.7/24", "dev", "eth0")
        gateway.ip("addr", "add", f"{OWN}/24", "dev", "inside")
        gateway.ip("addr", "add", "203.0.113.2/24", "dev", "outside")
        server.ip("addr", "add", "203.0.113.50/24", "dev", "eth0")
        # The client reaches whatever is behind the gateway, and the VIP itself, by the gateway's MAC.
        mac = gateway.run("cat", "/sys/class/net/inside/address").strip()
        client.ip("neigh", "replace", VIP, "lladdr", mac, "nud", "permanent", "dev", "eth0")
        client.ip("route", "add", "default", "via", VIP)
        server.ip("route", "add", "default", "via", "203.0.113.2")
        yield Net(client, gateway, server)


def test_the_kernel_resets_nothing_of_an_address_that_is_dropped(net: Net) -> None:
    """The address lies on loopback, where the kernel would answer for it; the own address still answers."""
    net.gateway.ip("addr", "add", f"{VIP}/32", "dev", "lo")
    net.knock(VIP)
    assert net.ping(OWN)
    assert net.gateway.counters("Tcp")["OutRsts"] == 1, "without the drop the kernel answers"
    net.install()
    for _ in range(3):
        net.knock(VIP)
    # Packets do not overtake each other on the wire: the answer to a later ping proves the silence.
    assert net.ping(OWN)
    assert net.gateway.counters("Tcp")["OutRsts"] == 1


def test_a_forwarding_kernel_neither_forwards_nor_complains(net: Net) -> None:
    net.gateway.sysctl("ipv4/ip_forward", "1")
    assert net.ping("203.0.113.50"), "without the drop the kernel forwards"
    forwarded = net.gateway.counters("Ip")["ForwDatagrams"]
    assert forwarded > 0
    net.install()
    net.knock("203.0.113.50")
    net.knock("203.0.113.5")
    net.knock(VIP)
    before = net.gateway.counters("Icmp")["OutMsgs"]
    assert net.ping(OWN)
    assert net.gateway.counters("Ip")["ForwDatagrams"] == forwarded
    assert net.gateway.counters("Icmp")["OutMsgs"] == before + 1, "the one echo reply"


def test_packet_sockets_see_what_the_kernel_does_not(net: Net) -> None:
    net.install()
    with net.gateway.entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with tap:
        tap.bind(("inside", 3))
        tap.settimeout(10)
        port = net.knock("203.0.113.5")
        wanted = b"".join(
            (socket.inet_aton("10.0.1.7"), socket.inet_aton("203.0.113.5"), port.to_bytes(2, "big"))
        )
        while tap.recv(2048)[26:36] != wanted:
            pass


def test_installing_again_replaces_what_a_dead_predecessor_left(net: Net) -> None:
    with net.gateway.entered():
        inside = find_interface("inside")
        kernel_drop.install(inside.index, [], [IPv4Network("192.0.2.1")], [])
        first = net.filters()
        kernel_drop.install(inside.index, [IPv4Address(OWN)], OWNED, SOURCES)
        second = net.filters()
        kernel_drop.install(inside.index, [IPv4Address(OWN)], OWNED, SOURCES)
        assert kernel_drop.installed(inside.index) == {4}
    assert len(first) == len(second) == 1
    assert first != second == net.filters()


def test_other_programs_filters_and_their_clsact_stay(net: Net) -> None:
    net.gateway.run("tc", "qdisc", "add", "dev", "inside", "clsact")
    add = ["tc", "filter", "add", "dev", "inside", "ingress", "protocol", "ip", "prio"]
    net.gateway.run(*add, "9", *STRANGER)
    before = net.filters()
    net.install()
    assert len(net.filters()) == 2
    with net.gateway.entered():
        index = find_interface("inside").index
        kernel_drop.remove(index)
        kernel_drop.remove(index)
        assert kernel_drop.installed(index) == set()
    assert net.filters() == before
    assert "clsact" in net.gateway.run("tc", "qdisc", "show", "dev", "inside")


def test_refuses_the_place_of_another_programs_filter(net: Net) -> None:
    net.gateway.run("tc", "qdisc", "add", "dev", "inside", "clsact")
    add = ["tc", "filter", "add", "dev", "inside", "ingress", "protocol", "ip", "prio"]
    net.gateway.run(*add, str(kernel_drop.PLACES[4].priority), *STRANGER)
    with pytest.raises(KernelDropError, match="another program's"):
        net.install()
    with net.gateway.entered():
        kernel_drop.remove(find_interface("inside").index)
    assert len(net.filters()) == 1


def test_removing_where_nothing_is_does_nothing(net: Net) -> None:
    with net.gateway.entered():
        kernel_drop.remove(find_interface("inside").index)
        kernel_drop.remove(9999)


def test_an_owned_address_on_a_kernel_interface_refuses_the_start(net: Net) -> None:
    net.gateway.ip("addr", "add", f"{VIP}/32", "dev", "lo")
    interfaces = [net.interface("inside"), net.interface("outside")]
    with net.gateway.entered(), pytest.raises(KernelDropError, match=r"10\.0\.1\.1 is configured"):
        kernel_drop.protect(interfaces, OWNED, SOURCES, forwarding=())


def test_a_drop_that_fails_refuses_the_start_of_a_forwarding_gateway(net: Net) -> None:
    gone = Interface("gone", 9999, bytes(6), 1500, ())
    interfaces = [net.interface("inside"), gone]
    with net.gateway.entered():
        with pytest.raises(KernelDropError, match=r"gone: net\.ipv4\.ip_forward is 1"):
            kernel_drop.protect(interfaces, OWNED, SOURCES, forwarding=(4,))
        failures = kernel_drop.protect(interfaces, OWNED, SOURCES, forwarding=())
    assert len(failures) == 1
    assert failures[0].startswith("gone: ")
    assert len(net.filters()) == 1
