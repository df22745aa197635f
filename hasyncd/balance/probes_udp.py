"""Does a datagram bring an answer, or at least no refusal?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hasyncd.balance.probes import Target, Unwell, open_socket

if TYPE_CHECKING:
    from hasyncd.config_health import UdpProbe

SILENCE: Final = "no refusal"
_ANSWER_BYTES_MAX: Final = 65_535
_RECVERR: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),  # IP_RECVERR of ip(7); Python 3.11 does not name them
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),  # IPV6_RECVERR
}


@contextmanager
def asking(target: Target) -> Iterator[socket.socket]:
    """A socket that hears nobody else, and everything that ICMP says: without RECVERR the kernel keeps to itself
    that a host is unreachable."""
    with open_socket(target.address, socket.SOCK_DGRAM) as asked:
        asked.setsockopt(*_RECVERR[socket.AddressFamily(asked.family)], 1)
        asked.connect((target.address, target.port))
        yield asked


async def ask_udp(settings: UdpProbe, target: Target) -> str:
    """Sends one datagram and takes the first that comes back."""
    with asking(target) as asked:
        asked.send(settings.payload)
        answer = await asyncio.get_running_loop().sock_recv(asked, _ANSWER_BYTES_MAX)
    if settings.wanted not in answer:
        raise Unwell(f"its answer of {len(answer)} bytes does not have what it must")
    return f"answered with {len(answer)} bytes"
