"""Addresses of both families, and their form at the engine's door: an int for IPv4, 16 bytes for IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

EngineAddress = int | bytes
EnginePrefix = tuple[EngineAddress, int]


def for_engine(address: Address) -> EngineAddress:
    """The address as `hasyncd._native` takes it."""
    return int(address) if isinstance(address, IPv4Address) else address.packed


def prefixes_for_engine(networks: Iterable[Network]) -> list[EnginePrefix]:
    """(address, length) of each network, as `hasyncd._native` takes them."""
    return [(for_engine(network.network_address), network.prefixlen) for network in networks]


def text_of(address: EngineAddress) -> str:
    """An address that came from `hasyncd._native`, as people write it (RFC 5952)."""
    return str(IPv4Address(address) if isinstance(address, int) else IPv6Address(address))


def in_order(networks: Iterable[Network]) -> list[Network]:
    """Sorted, IPv4 before IPv6, each network once."""
    return sorted(set(networks), key=ipaddress.get_mixed_type_key)
