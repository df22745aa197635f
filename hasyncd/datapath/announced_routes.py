"""Routes of the pair's addresses in the kernel, for a routing daemon to announce; they live as long as this process.

They lead into a TUN device that nobody reads. The device is not persistent: the kernel removes it with the descriptor
that made it (Documentation/networking/tuntap.rst), and its routes with it, whatever ends the process. So a routing
daemon that redistributes kernel routes withdraws them although nobody tells it to, and no stale route is left.

Nothing goes through the device: what is for these addresses is the packet engine's, taken before the kernel routes it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from hasyncd.addresses import Network
from hasyncd.datapath.kernel_tables import RT_TABLE_MAIN, RTN_UNICAST
from hasyncd.datapath.netlink_wire import NLM_F_CREATE, NLM_F_EXCL, NetlinkRequests

_RTM_NEWLINK: Final = 16
_RTM_NEWROUTE: Final = 24
_TUNSETIFF: Final = 0x4004_54CA
_IFREQ: Final = struct.Struct("=16sH22x")
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_IFF_UP: Final = 0x1
_RTPROT_BOOT: Final = 3
_RT_SCOPE_LINK: Final = 253
METRIC_MAX: Final = 0xFF_FFFF
"""zebra takes the upper 8 bits of a kernel route's metric for its distance (zebra/rt_netlink.c)."""


class AnnouncedRoutes:
    """The device and its routes, until `close`. Raises OSError where the kernel refuses; then nothing is left."""

    def __init__(self, device: str, prefixes: Iterable[Network], metric: int) -> None:
        self.metric = metric
        self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._tun, _TUNSETIFF, _IFREQ.pack(device.encode(), _IFF_TUN_NO_PI))
            index = socket.if_nametoindex(device)
            with NetlinkRequests() as requests:
                requests.perform(_up(index), _RTM_NEWLINK, 0, f"bringing {device} up")
                for prefix in prefixes:
                    route = _route(prefix, index, metric)
                    flags = NLM_F_CREATE | NLM_F_EXCL
                    requests.perform(route, _RTM_NEWROUTE, flags, f"adding a route for {prefix}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Removes both. Idempotent."""
        if self._tun >= 0:
            os.close(self._tun)
            self._tun = -1


def _up(index: int) -> ifinfmsg:
    message = ifinfmsg()
    message["index"], message["flags"], message["change"] = index, _IFF_UP, _IFF_UP
    return message


def _route(prefix: Network, index: int, metric: int) -> rtmsg:
    message = rtmsg()
    message["family"] = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
    message["dst_len"], message["table"] = prefix.prefixlen, RT_TABLE_MAIN
    # Not RTPROT_STATIC … RTPROT_BGP, which zebra would take for its own and sweep away (zebra/rt_netlink.c).
    message["proto"], message["type"] = _RTPROT_BOOT, RTN_UNICAST
    message["scope"] = _RT_SCOPE_LINK if prefix.version == 4 else 0
    message["attrs"] = [
        ("RTA_DST", str(prefix.network_address)),
        ("RTA_OIF", index),
        ("RTA_PRIORITY", metric),
    ]
    return message
