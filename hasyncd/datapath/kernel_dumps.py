"""The dumps of the kernel's tables: what is asked for, and how. Pure."""

from __future__ import annotations

import enum
import socket
from typing import Final

from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from hasyncd.datapath.kernel_tables import RT_TABLE_MAIN
from hasyncd.datapath.netlink_wire import NLM_F_DUMP, encode

_RTM_GETROUTE: Final = 26
_RTM_GETNEIGH: Final = 30


class Dump(enum.Enum):
    """What is dumped, one at a time."""

    ROUTES_IPV4 = "routes_ipv4"
    ROUTES_IPV6 = "routes_ipv6"
    NEIGHBOURS = "neighbours"
    """Of both families. Routes of any family cannot be asked for: the kernel ends after the first."""


ROUTE_DUMPS: Final = {Dump.ROUTES_IPV4: socket.AF_INET, Dump.ROUTES_IPV6: socket.AF_INET6}


def dump_request(dump: Dump, sequence: int) -> bytes:
    """The bytes that ask for it."""
    if dump is Dump.NEIGHBOURS:
        return encode(ndmsg(), _RTM_GETNEIGH, NLM_F_DUMP, sequence)
    request = rtmsg()
    request["family"], request["table"] = ROUTE_DUMPS[dump], RT_TABLE_MAIN
    return encode(request, _RTM_GETROUTE, NLM_F_DUMP, sequence)
