"""Membership in the VIPs' solicited-node groups, as the LAN's switches see it.

The packet sockets take the groups' frames from the wire, but tell nobody. A switch that snoops MLD (RFC 4541)
passes a solicitation for a VIP only to ports from which a report came, so the kernel is made a member and
reports; of the solicitations themselves it takes no notice, since the VIPs are not its own.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

_GROUP_PREFIX: Final = int(IPv6Address("ff02::1:ff00:0"))
_IFINDEX: Final = struct.Struct("=i")


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group of an address (RFC 4291 §2.7.1)."""
    return IPv6Address(_GROUP_PREFIX | int(address) & 0xFF_FFFF)


def join_solicited_nodes(vips: Iterable[tuple[int, IPv6Address]]) -> socket.socket | None:
    """Makes the kernel a member for (interface index, VIP) until the socket that is returned is closed; None
    without any VIP. Raises OSError."""
    members = {(index, solicited_node(address)) for index, address in vips}
    if not members:
        return None
    member = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        for index, group in members:
            request = group.packed + _IFINDEX.pack(index)
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    except OSError:
        member.close()
        raise
    return member
