"""How single values of the configuration are read, each from the text that stands in the file.

Every `read_*` takes what TOML gave and returns the value or raises `ValueError` with a message that
completes the sentence `KEY: …`.
"""

from __future__ import annotations

import re
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    NetmaskValueError,
)
from pathlib import Path
from typing import Final, NamedTuple

from hasyncd.addresses import Address, Interface, Network

SOCKET_PATH_BYTES_MAX: Final = 107  # sockaddr_un, its terminating zero taken off
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_INTERFACE_NAME = re.compile(r"[^\s/:]{1,15}")  # the kernel's own rule (dev_valid_name)
_URL = re.compile(r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
_UNAVAILABLE = "is not available in this version"
_NAT_IS_IPV4 = "NAT is for IPv4 only ([[pass]] forwards IPv6)"


def show(value: object) -> str:
    """A value as the reader of the file knows it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, (str, int, float)) else str(value)


class Endpoint(NamedTuple):
    """An address and a port, written `10.0.1.21:8080` or `[2001:db8::21]:8080`."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.address.version == 4 else f"[{self.address}]:{self.port}"


class PortRange(NamedTuple):
    """First and last port, both included, written `1024-65535` or `5000`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {show(value)}")
    return value


def read_ipv4_address(value: object) -> IPv4Address:
    text = _read_text(value)
    if text.count(":") > 1:
        raise ValueError(f"must be an IPv4 address, not {text!r}: {_NAT_IS_IPV4}")
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise ValueError(f"must be an IPv4 address such as 203.0.113.5, not {text!r}") from None


def read_address(value: object) -> Address:
    """Of either family."""
    text = _read_text(value)
    return _read_ipv6_address(text) if ":" in text else read_ipv4_address(text)


def _read_ipv6_address(text: str) -> IPv6Address:
    _refuse_scope(text)
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise ValueError(f"must be an IPv6 address such as 2001:db8::5, not {text!r}") from None
    _refuse_unfit(address)
    return address


def _refuse_scope(text: str) -> None:
    if "%" in text:
        raise ValueError(f"{text} names an interface, which only a link-local address needs")


def _refuse_unfit(address: IPv6Address) -> None:
    """What is no address of one host that others reach through a gateway."""
    if address.is_link_local:
        raise ValueError(f"{address} is a link-local address: it means another host on every link")
    if address.ipv4_mapped is not None:
        raise ValueError(
            f"::ffff:{address.ipv4_mapped} is an IPv4-mapped address; write {address.ipv4_mapped}"
        )
    for is_it, what in (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "the loopback address"),
        (address.is_multicast, "a multicast address"),
    ):
        if is_it:
            raise ValueError(f"{address} is {what}, not a host's")


def read_interface(value: object) -> Interface:
    text = _read_text(value)
    address, slash, _ = text.partition("/")
    is_ipv6 = ":" in address
    _refuse_scope(text)
    if not slash:
        raise ValueError(f"must name its network too, such as {text}/{64 if is_ipv6 else 24}")
    try:
        interface = IPv6Interface(text) if is_ipv6 else IPv4Interface(text)
    except (AddressValueError, NetmaskValueError):
        raise ValueError(
            f"must be an address with its prefix such as 10.0.1.1/24 or 2001:db8:1::1/64, not {text!r}"
        ) from None
    network = interface.network
    if isinstance(interface, IPv6Interface):
        _refuse_unfit(interface.ip)
        if network.prefixlen < 127 and interface.ip == network.network_address:
            raise ValueError(
                f"{interface.ip} is the anycast address of all routers of {network} (RFC 4291 2.6.1)"
            )
    elif network.prefixlen < 31 and interface.ip in (network.network_address, network.broadcast_address):
        raise ValueError(f"{interface.ip} is no host of {network} but its network or broadcast address")
    return interface


def read_network(value: object) -> Network:
    """Of either family."""
    text = _read_text(value)
    try:
        interface = IPv6Interface(text) if ":" in text else IPv4Interface(text)
    except (AddressValueError, NetmaskValueError):
        raise ValueError(f"must be a network such as 10.0.1.0/24 or 2001:db8:1::/64, not {text!r}") from None
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{text} has host bits set; the network is {interface.network}")
    return interface.network


def read_ipv4_network(value: object) -> IPv4Network:
    network = read_network(value)
    if isinstance(network, IPv6Network):
        raise ValueError(f"must be an IPv4 network, not {str(network)!r}: {_NAT_IS_IPV4}")
    return network


def read_ipv6_network(value: object) -> IPv6Network:
    network = read_network(value)
    if isinstance(network, IPv4Network):
        raise ValueError(
            f"must be an IPv6 network, not {str(network)!r}: [[pass]] is for IPv6 only ([[nat]] exempt "
            "forwards IPv4 untranslated)"
        )
    mapped = network.network_address.ipv4_mapped is not None and network.prefixlen >= 96
    if network.is_link_local or network.is_multicast or network.is_loopback or mapped:
        raise ValueError(f"{network} holds nothing that is forwarded between links")
    return network


def _read_port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise ValueError(f"port {text!r} is not a number from 1 to 65535")
    return int(text)


def read_endpoint(value: object) -> Endpoint:
    """Of either family."""
    text = _read_text(value)
    address, colon, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        return Endpoint(_read_ipv6_address(address[1:-1]), _read_port(port))
    if text.count(":") > 1:
        raise ValueError(f"an IPv6 address stands in brackets, such as [2001:db8::21]:8080, not {text!r}")
    if not colon:
        raise ValueError(f"must be address:port such as 10.0.1.21:8080, not {text!r}")
    return Endpoint(read_ipv4_address(address), _read_port(port))


def read_listener(value: object) -> Endpoint:
    """An address of this machine and a port: the loopback address and "every address" are good too."""
    text = _read_text(value)
    for address in ("[::1]", "[::]"):
        if text.startswith(f"{address}:"):
            return Endpoint(IPv6Address(address[1:-1]), _read_port(text.removeprefix(f"{address}:")))
    return read_endpoint(text)


def read_ipv4_endpoint(value: object) -> Endpoint:
    endpoint = read_endpoint(value)
    if endpoint.address.version == 6:
        raise ValueError(f"must be an IPv4 address and a port, not '{endpoint}': {_NAT_IS_IPV4}")
    return endpoint


def read_port_range(value: object) -> PortRange:
    text = _read_text(value)
    first, dash, last = text.partition("-")
    ports = PortRange(_read_port(first), _read_port(last if dash else first))
    if ports.first > ports.last:
        raise ValueError(f"the range {text} is reversed; write {ports.last}-{ports.first}")
    return ports


def read_name(value: object) -> str:
    text = _read_text(value)
    if not NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name: letters, digits, '.', '_' and '-', the first a letter or digit, 63 at most"
        )
    return text


def read_interface_choice(value: object) -> str:
    text = _read_text(value)
    if "/" in text:
        read_interface(text)
    elif not _INTERFACE_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither an interface name nor an address with its prefix found on one")
    return text


def read_device_name(value: object) -> str:
    text = _read_text(value)
    if not _INTERFACE_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no interface's name: 1 to 15 characters, none of them a space, '/' or ':'"
        )
    return text


def read_absolute_path(value: object) -> Path:
    path = Path(_read_text(value))
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {str(path)!r}")
    return path


def read_socket_path(value: object) -> Path:
    path = read_absolute_path(value)
    if len(str(path).encode()) > SOCKET_PATH_BYTES_MAX:
        raise ValueError(f"is too long for a Unix socket: {SOCKET_PATH_BYTES_MAX} bytes at most")
    return path


def read_url(value: object) -> str:
    """Of an HTTP server: scheme, host and port, nothing behind them."""
    text = _read_text(value)
    if not _URL.fullmatch(text):
        raise ValueError(f"must be http://HOST:PORT or https://HOST:PORT, not {text!r}")
    _read_port(text.rpartition(":")[2])
    return text


def read_engine(value: object) -> str:
    return _read_text(value)
