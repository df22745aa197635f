"""What the kernel's route and neighbour messages mean to the packet engine.

Pure: messages in, values out. `netlink.Netlink` owns the sockets and the timing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pyroute2.netlink.rtnl.ndmsg import ndmsg

from hasyncd.datapath.netlink_wire import NLM_F_CREATE, NLM_F_REPLACE, encode

RouteEntry = tuple[int, int, int, int]
"""(prefix, prefix length, side, gateway), addresses in host order, gateway 0 = on link."""

NeighbourEntry = tuple[int, int, bytes]
"""(side, address in host order, MAC); an empty MAC: not to be reached, or forgotten."""

RTM_NEWNEIGH: Final = 28
NEIGHBOUR_SEQUENCE: Final = 1
"""Sequence number of every `use_request`."""

RT_TABLE_MAIN: Final = 254
RTN_UNICAST: Final = 1
RTNH_F_DEAD: Final = 1
_RT_DEFAULT_METRIC: Final = 0
_NTF_USE: Final = 0x1

NUD_STALE: Final = 0x04
NUD_FAILED: Final = 0x20
_NUD_VALID: Final = 0x02 | NUD_STALE | 0x08 | 0x10 | 0x40 | 0x80
"""Reachable, stale, delay, probe, noarp, permanent: the entry's MAC may be used."""
_FIRST_MULTICAST: Final = 0xE000_0000


class RouteCandidate(NamedTuple):
    """One route of the main table. `side` is None when it leaves through another interface or nowhere."""

    prefix: int
    prefix_length: int
    metric: int
    side: int | None
    gateway: int


class Neighbour(NamedTuple):
    """What the kernel knows of one address; `mac` is empty when it cannot be used."""

    side: int
    address: int
    mac: bytes
    state: int


def address_to_int(address: str) -> int:
    """A dotted IPv4 address in host order."""
    return int.from_bytes(socket.inet_aton(address), "big")


def read_route(message: Any, sides: Mapping[int, int]) -> RouteCandidate | None:
    """A route of the main table as the lookup would use it; None for what is not its business.

    Broadcast, local and TOS routes are left out. Blackhole and unreachable ones, and those through other
    interfaces, are kept with side None: they may hide a worse route for the same prefix.
    `sides`: interface index -> side.
    """
    table = message.get_attr("RTA_TABLE") or message["table"]
    if table != RT_TABLE_MAIN or message["tos"] or message["family"] != socket.AF_INET:
        return None
    if message["flags"] & RTNH_F_DEAD:
        return None
    prefix = address_to_int(message.get_attr("RTA_DST") or "0.0.0.0")
    metric = message.get_attr("RTA_PRIORITY") or _RT_DEFAULT_METRIC
    side, gateway = None, 0
    if message["type"] == RTN_UNICAST:
        side, gateway = _next_hop(message, sides)
    elif message["type"] not in (6, 7, 8):  # blackhole, unreachable, prohibit
        return None
    return RouteCandidate(prefix, message["dst_len"], metric, side, gateway)


def _next_hop(message: Any, sides: Mapping[int, int]) -> tuple[int | None, int]:
    """(side, gateway) of the first living next hop on one of our sides; (None, 0) without one."""
    hops = message.get_attr("RTA_MULTIPATH")
    if hops is None:
        return _hop(message.get_attr("RTA_OIF"), message, sides)
    for hop in hops:
        if hop["flags"] & RTNH_F_DEAD:
            continue
        side, gateway = _hop(hop["oif"], hop, sides)
        if side is not None:
            return side, gateway
    return None, 0


def _hop(interface_index: int | None, attributes: Any, sides: Mapping[int, int]) -> tuple[int | None, int]:
    side = sides.get(interface_index) if interface_index is not None else None
    if side is None or attributes.get_attr("RTA_VIA") is not None:  # an IPv6 next hop: not ours to use
        return None, 0
    gateway = attributes.get_attr("RTA_GATEWAY")
    return side, address_to_int(gateway) if gateway else 0


def choose_routes(candidates: Iterable[RouteCandidate]) -> list[RouteEntry]:
    """The route that the kernel would use for each prefix (lowest metric, then first), sorted; without
    those that leave elsewhere."""
    best: dict[tuple[int, int], RouteCandidate] = {}
    for candidate in candidates:
        key = (candidate.prefix, candidate.prefix_length)
        if key not in best or candidate.metric < best[key].metric:
            best[key] = candidate
    return sorted(
        (route.prefix, route.prefix_length, route.side, route.gateway)
        for route in best.values()
        if route.side is not None
    )


def read_neighbour(message: Any, deleted: bool, sides: Mapping[int, int]) -> Neighbour | None:
    """A neighbour on one of our sides; None for others, for multicast and for unresolved ones."""
    side = sides.get(message["ifindex"])
    destination = message.get_attr("NDA_DST")
    if side is None or destination is None or message["family"] != socket.AF_INET:
        return None
    address, state = address_to_int(destination), int(message["state"])
    if address >= _FIRST_MULTICAST or address == 0:
        return None
    hardware = message.get_attr("NDA_LLADDR")
    mac = b""
    if not deleted and state & _NUD_VALID and hardware:
        mac = bytes.fromhex(hardware.replace(":", ""))
    return Neighbour(side, address, mac if len(mac) == 6 else b"", 0 if deleted else state)


class NeighbourTable:
    """The neighbours of both sides as last heard of, and what changed since it was last told."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._changed: dict[tuple[int, int], bytes] = {}
        self._seen: set[tuple[int, int]] = set()

    def begin_dump(self) -> None:
        """What is not received from now until `end_dump` is gone."""
        self._seen = set()

    def receive(self, neighbour: Neighbour, deleted: bool) -> None:
        """Takes an entry of a dump, or an event."""
        key = (neighbour.side, neighbour.address)
        self._seen.add(key)
        before, _ = self._held.get(key, (b"", 0))
        if deleted:
            self._held.pop(key, None)
        else:
            self._held[key] = (neighbour.mac, neighbour.state)
        # A failed resolution is told even of an address that had no MAC: packets may wait for it.
        if neighbour.mac != before or neighbour.state & NUD_FAILED:
            self._changed[key] = neighbour.mac

    def end_dump(self) -> None:
        for key in [key for key in self._held if key not in self._seen]:
            del self._held[key]
            self._changed[key] = b""

    def tell_again(self, key: tuple[int, int]) -> bool:
        """Marks a neighbour whose MAC is known as changed; False: it is not known."""
        mac, _ = self._held.get(key, (b"", 0))
        if mac:
            self._changed[key] = mac
        return bool(mac)

    def is_stale(self, key: tuple[int, int]) -> bool:
        """Whether the kernel would have to probe this neighbour before it is sure of it again."""
        return bool(self._held.get(key, (b"", 0))[1] & NUD_STALE)

    def take_changes(self) -> list[NeighbourEntry]:
        """What changed since the last call."""
        changed, self._changed = self._changed, {}
        return [(side, address, mac) for (side, address), mac in changed.items()]


def take(pending: dict[tuple[int, int], None], count: int) -> Iterator[tuple[int, int]]:
    """Removes and yields up to `count` of the oldest keys."""
    for _ in range(min(count, len(pending))):
        key = next(iter(pending))
        del pending[key]
        yield key


def use_request(interface_index: int) -> bytes:
    """RTM_NEWNEIGH that marks an address of the interface as used, without the four bytes of the address.

    The kernel resolves it if it is unknown and probes it if it is stale; `replace` because a second plain
    `add` is refused (EEXIST).
    """
    request = ndmsg()
    request["family"], request["ifindex"], request["flags"] = socket.AF_INET, interface_index, _NTF_USE
    request["attrs"] = [("NDA_DST", "0.0.0.0")]
    return encode(request, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, NEIGHBOUR_SEQUENCE)[:-4]
