"""Asks a router on a LAN whether it is there: ARP (RFC 826), or a neighbour solicitation (RFC 4861 §7.2.2).

The kernel's own neighbour state is no answer: a stale entry stays usable for seconds, and is probed only when
somebody sends. Whoever has answered ARP is asked by unicast next time (RFC 1122 §2.3.2.1 (3)), so that the LAN hears
little of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Final

from hasyncd.datapath.interfaces import Interface
from hasyncd.datapath.multicast import solicited_node

_ETH_P_ARP: Final = 0x0806
_ARP_REQUEST: Final = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ARP: Final = struct.Struct("!14xHHBBH6s4s")
_ETHERNET_IPV4: Final = (1, 0x0800, 6, 4)
_BROADCAST: Final = b"\xff" * 6
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_LINK_ADDRESS: Final = b"\x01\x01"
_ICMP6_FILTER: Final = 1
_PASS_ADVERTISEMENTS: Final = b"".join(
    struct.pack("=I", 0xFFFF_FFFF & ~(1 << _ADVERTISEMENT % 32 if word == _ADVERTISEMENT // 32 else 0))
    for word in range(8)
)
"""struct icmp6_filter: a bit that is set is a type that is not wanted (RFC 3542 §3.2)."""


class GatewayProbe:
    """Asks for one address on one interface; one question at a time."""

    def __init__(self, interface: Interface, address: IPv4Address | IPv6Address) -> None:
        self._interface, self._address = interface, address
        self._mac: bytes | None = None

    async def ask(self, timeout_s: float) -> bool:
        """Whether it answers in time. Raises OSError where nothing can be sent."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        with self._open() as asking:

            def read() -> None:
                try:
                    answered = self._is_answer(asking.recv(2048))
                except BlockingIOError:
                    return
                except OSError as error:
                    if not answer.done():
                        answer.set_exception(error)
                    return
                if answered and not answer.done():
                    answer.set_result(None)

            loop.add_reader(asking.fileno(), read)
            try:
                self._send(asking)
                async with asyncio.timeout(timeout_s):
                    await answer
            except TimeoutError:
                self._mac = None
                return False
            finally:
                loop.remove_reader(asking.fileno())
        return True

    def _open(self) -> socket.socket:
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        if isinstance(self._address, IPv4Address):
            asking = socket.socket(socket.AF_PACKET, flags, 0)
        else:
            asking = socket.socket(socket.AF_INET6, flags, socket.IPPROTO_ICMPV6)
        try:
            if isinstance(self._address, IPv4Address):
                asking.bind((self._interface.name, _ETH_P_ARP))
            else:
                asking.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _PASS_ADVERTISEMENTS)
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.name.encode())
                asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        except BaseException:
            asking.close()
            raise
        return asking

    def _send(self, asking: socket.socket) -> None:
        if isinstance(self._address, IPv4Address):
            asking.send(self.arp_request())
            return
        body = self._address.packed + _SOURCE_LINK_ADDRESS + self._interface.mac
        solicitation = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + body  # the kernel fills in the checksum
        asking.sendto(solicitation, (str(solicited_node(self._address)), 0, 0, self._interface.index))

    def arp_request(self) -> bytes:
        """Asked with this machine's own address, so that its cache entry there is refreshed; without one on that
        network with none (RFC 5227 §1.1), which changes no cache."""
        sender = bytes(4)
        for own in self._interface.addresses:
            if isinstance(own, IPv4Interface) and self._address in own.network:
                sender = own.ip.packed
        mac = self._interface.mac
        return _ARP_REQUEST.pack(
            self._mac or _BROADCAST, mac, _ETH_P_ARP, *_ETHERNET_IPV4, 1, mac, sender, bytes(6), self._address.packed
        )  # fmt: skip

    def _is_answer(self, packet: bytes) -> bool:
        """Any ARP packet that it sent shows that it is there; of IPv6, its advertisement."""
        if isinstance(self._address, IPv6Address):
            return packet[8:24] == self._address.packed
        if len(packet) < _ARP.size:
            return False
        *kind, _, mac, sender = _ARP.unpack_from(packet)
        if tuple(kind) != _ETHERNET_IPV4 or sender != self._address.packed or mac == self._interface.mac:
            return False
        self._mac = mac
        return True
