"""The machine's interfaces as the configuration names them, and what of the kernel's settings matters.

Everything here is asked once, before the event loop carries traffic; what changes later is
`netlink.Netlink`'s business.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from hasyncd import addresses
from hasyncd.datapath.netlink_wire import NetlinkRequests

RTM_GETLINK: Final = 18
RTM_GETADDR: Final = 22
_FAMILIES: Final = (2, 10)  # AF_INET, AF_INET6
_ARPHRD_ETHER: Final = 1
_IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")
_IPV6_SETTINGS: Final = Path("/proc/sys/net/ipv6/conf")


class InterfaceError(Exception):
    """An interface that the configuration names does not exist here or cannot serve."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An Ethernet interface of this network namespace, as it was when asked."""

    name: str
    index: int
    mac: bytes
    mtu: int
    addresses: tuple[addresses.Interface, ...]


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address that the kernel answers for, and the interface that carries it."""

    interface_index: int
    address: addresses.Interface


def find_interface(spec: str) -> Interface:
    """The interface named `spec`, or the one that carries the address `spec` ("10.0.1.2/24").

    Container engines reorder names, so an address is the better name there. Raises InterfaceError
    when there is none, more than one, or when it is not Ethernet; NetlinkError when the kernel refuses.
    """
    with NetlinkRequests() as requests:
        links = requests.dump(ifinfmsg(), RTM_GETLINK, "listing interfaces")
    present = local_addresses()
    link = _link_by_address(spec, links, present) if "/" in spec else _link_by_name(spec, links)
    name, mac = str(link.get_attr("IFLA_IFNAME")), link.get_attr("IFLA_ADDRESS")
    if link["ifi_type"] != _ARPHRD_ETHER or mac is None:
        raise InterfaceError(f"interface {name} is not Ethernet")
    index = int(link["index"])
    return Interface(
        name=name,
        index=index,
        mac=bytes.fromhex(mac.replace(":", "")),
        mtu=int(link.get_attr("IFLA_MTU")),
        addresses=tuple(local.address for local in present if local.interface_index == index),
    )


def local_addresses() -> list[LocalAddress]:
    """Every address of this network namespace, loopback's and link-local ones included."""
    with NetlinkRequests() as requests:
        messages = requests.dump(ifaddrmsg(), RTM_GETADDR, "listing addresses")
    found = []
    for message in messages:
        # On a point-to-point link IFA_ADDRESS is the far end, and IFA_LOCAL ours.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if message["family"] in _FAMILIES and address is not None:
            interface = ipaddress.ip_interface(f"{address}/{message['prefixlen']}")
            found.append(LocalAddress(int(message["index"]), interface))
    return found


def addresses_in_use(owned: Sequence[addresses.Network]) -> list[addresses.Address]:
    """Addresses of `owned` that the kernel holds on some interface, and so would answer for itself."""
    held = [local.address.ip for local in local_addresses()]
    return list(dict.fromkeys(address for network in owned for address in held if address in network))


def ip_forward() -> bool:
    """Whether the kernel of this network namespace forwards IPv4 itself."""
    return _IP_FORWARD.read_text(encoding="ascii").strip() != "0"


def ipv6_forward() -> bool:
    """Whether the kernel of this network namespace forwards IPv6 itself, or would on some interface.

    `conf.all.forwarding` is the switch, `force_forwarding` (since Linux 6.17) one for each interface; an interface
    whose `forwarding` is 1 is half of the way, and counts.
    """
    switches = [*_IPV6_SETTINGS.glob("*/forwarding"), *_IPV6_SETTINGS.glob("*/force_forwarding")]
    return any(switch.read_text(encoding="ascii").strip() != "0" for switch in switches)


def _link_by_name(name: str, links: list[Any]) -> Any:
    for link in links:
        if link.get_attr("IFLA_IFNAME") == name:
            return link
    present = ", ".join(sorted(str(link.get_attr("IFLA_IFNAME")) for link in links))
    raise InterfaceError(f"no interface {name} (present: {present})")


def _link_by_address(spec: str, links: list[Any], local: list[LocalAddress]) -> Any:
    try:
        wanted = ipaddress.ip_interface(spec)
    except ValueError as error:
        raise InterfaceError(f"{spec} is neither an interface's name nor address/prefix") from error
    indexes = {each.interface_index for each in local if each.address == wanted}
    if len(indexes) > 1:
        raise InterfaceError(f"several interfaces carry {spec}")
    for link in links:
        if int(link["index"]) in indexes:
            return link
    present = ", ".join(str(each.address) for each in local)
    raise InterfaceError(f"no interface carries {spec} (present: {present})")
