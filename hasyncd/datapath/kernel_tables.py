"""What the kernel's route and neighbour messages mean to the packet engine.

Pure: messages in, values out. `netlink.Netlink` owns the sockets and the timing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pyroute2.netlink.rtnl.ndmsg import ndmsg

from hasyncd.addresses import EngineAddress
from hasyncd.datapath.netlink_wire import NLM_F_CREATE, NLM_F_REPLACE, encode

RouteEntry = tuple[EngineAddress, int, int, EngineAddress]
"""(prefix, prefix length, side, gateway), gateway 0 = on link."""

NeighbourKey = tuple[int, EngineAddress]
"""(side, address)."""

NeighbourEntry = tuple[int, EngineAddress, bytes]
"""(side, address, MAC); an empty MAC: not to be reached, or forgotten."""

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
_RTM_F_CLONED: Final = 0x200
_ANY: Final[dict[int, EngineAddress]] = {socket.AF_INET: 0, socket.AF_INET6: bytes(16)}
_PREFERENCES: Final = {1: -1, 0: 0, 3: 1}
"""RFC 4191: high, medium, low; the lowest of ours wins."""


class RouteCandidate(NamedTuple):
    """One route of the main table. `side` is None when it leaves through another interface or nowhere."""

    prefix: EngineAddress
    prefix_length: int
    metric: int
    side: int | None
    gateway: EngineAddress
    preference: int = 0
    """Of a router that advertised it; decides between equal metrics."""


class Neighbour(NamedTuple):
    """What the kernel knows of one address; `mac` is empty when it cannot be used."""

    side: int
    address: EngineAddress
    mac: bytes
    state: int


def read_address(text: str) -> EngineAddress:
    """An address as pyroute2 writes it."""
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return int.from_bytes(socket.inet_aton(text), "big")


def is_scoped(address: EngineAddress) -> bool:
    """Whether it is IPv6 multicast or link-local, which no gateway forwards (RFC 4291 §2.5.6)."""
    return isinstance(address, bytes) and (
        address[0] == 0xFF or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
    )


def read_route(message: Any, sides: Mapping[int, int]) -> RouteCandidate | None:
    """A route of the main table as the lookup would use it; None for what is not its business.

    Broadcast, local and TOS routes are left out, and of IPv6 those of link-local and multicast prefixes, cached
    ones, and those for one source only. Blackhole and unreachable ones, and those through other
    interfaces, are kept with side None: they may hide a worse route for the same prefix.
    `sides`: interface index -> side.
    """
    table = message.get_attr("RTA_TABLE") or message["table"]
    if table != RT_TABLE_MAIN or message["tos"] or message["src_len"] or message["family"] not in _ANY:
        return None
    if message["flags"] & (RTNH_F_DEAD | _RTM_F_CLONED):
        return None
    destination = message.get_attr("RTA_DST")
    prefix = read_address(destination) if destination else _ANY[message["family"]]
    if is_scoped(prefix):
        return None
    metric = message.get_attr("RTA_PRIORITY") or _RT_DEFAULT_METRIC
    side: int | None = None
    gateway: EngineAddress = 0
    if message["type"] == RTN_UNICAST:
        side, gateway = _next_hop(message, sides)
    elif message["type"] not in (6, 7, 8):  # blackhole, unreachable, prohibit
        return None
    preference = _PREFERENCES.get(message.get_attr("RTA_PREF"), 0)
    return RouteCandidate(prefix, message["dst_len"], metric, side, gateway, preference)


def _next_hop(message: Any, sides: Mapping[int, int]) -> tuple[int | None, EngineAddress]:
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


def _hop(
    interface_index: int | None, attributes: Any, sides: Mapping[int, int]
) -> tuple[int | None, EngineAddress]:
    side = sides.get(interface_index) if interface_index is not None else None
    if side is None or attributes.get_attr("RTA_VIA") is not None:  # of the other family: not ours to use
        return None, 0
    gateway = attributes.get_attr("RTA_GATEWAY")
    return side, read_address(gateway) if gateway else 0


def choose_routes(candidates: Iterable[RouteCandidate]) -> list[RouteEntry]:
    """The route that the kernel would use for each prefix (lowest metric, highest preference, then first),
    sorted, IPv4 first; without those that leave elsewhere."""
    best: dict[tuple[EngineAddress, int], RouteCandidate] = {}
    for candidate in candidates:
        key = (candidate.prefix, candidate.prefix_length)
        before = best.get(key)
        if before is None or (candidate.metric, candidate.preference) < (before.metric, before.preference):
            best[key] = candidate
    chosen = [
        (route.prefix, route.prefix_length, route.side, route.gateway)
        for route in best.values()
        if route.side is not None
    ]
    return sorted(chosen, key=lambda route: (isinstance(route[0], bytes), route[:3]))


def read_neighbour(message: Any, deleted: bool, sides: Mapping[int, int]) -> Neighbour | None:
    """A neighbour on one of our sides; None for others, for multicast and for unresolved ones."""
    side = sides.get(message["ifindex"])
    destination = message.get_attr("NDA_DST")
    if side is None or destination is None or message["family"] not in _ANY:
        return None
    address, state = read_address(destination), int(message["state"])
    if address == _ANY[message["family"]] or _is_multicast(address):
        return None
    hardware = message.get_attr("NDA_LLADDR")
    mac = b""
    if not deleted and state & _NUD_VALID and hardware:
        mac = bytes.fromhex(hardware.replace(":", ""))
    return Neighbour(side, address, mac if len(mac) == 6 else b"", 0 if deleted else state)


def _is_multicast(address: EngineAddress) -> bool:
    return address[0] == 0xFF if isinstance(address, bytes) else address >= _FIRST_MULTICAST


class NeighbourTable:
    """The neighbours of both sides as last heard of, and what changed since it was last told."""

    def __init__(self) -> None:
        self._held: dict[NeighbourKey, tuple[bytes, int]] = {}
        self._changed: dict[NeighbourKey, bytes] = {}
        self._seen: set[NeighbourKey] = set()

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

    def tell_again(self, key: NeighbourKey) -> bool:
        """Marks a neighbour whose MAC is known as changed; False: it is not known."""
        mac, _ = self._held.get(key, (b"", 0))
        if mac:
            self._changed[key] = mac
        return bool(mac)

    def is_stale(self, key: NeighbourKey) -> bool:
        """Whether the kernel would have to probe this neighbour before it is sure of it again."""
        return bool(self._held.get(key, (b"", 0))[1] & NUD_STALE)

    def take_changes(self) -> list[NeighbourEntry]:
        """What changed since the last call."""
        changed, self._changed = self._changed, {}
        return [(side, address, mac) for (side, address), mac in changed.items()]


def take(pending: dict[NeighbourKey, None], count: int) -> Iterator[NeighbourKey]:
    """Removes and yields up to `count` of the oldest keys."""
    for _ in range(min(count, len(pending))):
        key = next(iter(pending))
        del pending[key]
        yield key


def use_request(interface_index: int, family: int) -> bytes:
    """RTM_NEWNEIGH that marks an address of the interface as used, without the bytes of the address.

    The kernel resolves it if it is unknown and probes it if it is stale; `replace` because a second plain
    `add` is refused (EEXIST). An IPv6 neighbour is asked from a link-local address of the interface: where there is
    none yet (it takes a second or two after the link came up, RFC 4862 §5.4) the kernel does not ask.
    """
    request = ndmsg()
    request["family"], request["ifindex"], request["flags"] = family, interface_index, _NTF_USE
    any_text = "0.0.0.0" if family == socket.AF_INET else "::"
    request["attrs"] = [("NDA_DST", any_text)]
    encoded = encode(request, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, NEIGHBOUR_SEQUENCE)
    return encoded[: -len(socket.inet_pton(family, any_text))]
