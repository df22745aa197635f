"""Keeps the owned prefixes from the kernel stack: a filter at clsact ingress, behind the packet sockets' tap.

The packet sockets see a frame before this filter does, the kernel's IP stack only after it. So the engine
forwards while the kernel sends neither RST nor redirect nor a second, untranslated copy.

Filters outlive the process that installed them: ours, one for each family, have a fixed place (priority, handle)
and a mark, are replaced in one step, and a successor finds them. Other filters stay, and so does the clsact
qdisc itself, which may serve them.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, NamedTuple

from pyroute2.netlink import nla, nlmsg

from hasyncd.addresses import Address, Network
from hasyncd.datapath.classic_bpf import (
    Instruction,
    ProgramTooLongError,
    build_drop_program,
    build_drop_program_ipv6,
    is_marked,
    pack,
)
from hasyncd.datapath.interfaces import Interface, addresses_in_use, local_addresses
from hasyncd.datapath.netlink_wire import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkError,
    NetlinkRequests,
)


class _Place(NamedTuple):
    """Where a family's filter stands: its priority, before those that the kernel numbers itself (from 49152
    down), and its protocol. And the switch that would make the kernel forward that family."""

    priority: int
    ethertype: int
    switch: str


PLACES: Final = {
    4: _Place(70, 0x0800, "net.ipv4.ip_forward"),
    6: _Place(71, 0x86DD, "net.ipv6.conf.*.forwarding"),
}
"""By IP version."""
HANDLE: Final = 1

_RTM_NEWQDISC: Final = 36
_RTM_NEWTFILTER: Final = 44
_RTM_DELTFILTER: Final = 45
_RTM_GETTFILTER: Final = 46
_CLSACT_HANDLE: Final = 0xFFFF_0000
_CLSACT_PARENT: Final = 0xFFFF_FFF1
_INGRESS_PARENT: Final = 0xFFFF_FFF2
_ACT_DIRECT: Final = 1


class KernelDropError(Exception):
    """The kernel stack cannot be kept from packets that are the engine's."""


class _BpfOptions(nla):  # type: ignore[misc]
    """TCA_OPTIONS of a cls_bpf filter; pyroute2's own lacks the classic program."""

    nla_map = (
        ("TCA_BPF_UNSPEC", "none"),
        ("TCA_BPF_ACT", "hex"),
        ("TCA_BPF_POLICE", "hex"),
        ("TCA_BPF_CLASSID", "uint32"),
        ("TCA_BPF_OPS_LEN", "uint16"),
        ("TCA_BPF_OPS", "cdata"),
        ("TCA_BPF_FD", "uint32"),
        ("TCA_BPF_NAME", "asciiz"),
        ("TCA_BPF_FLAGS", "uint32"),
    )


class _TrafficMessage(nlmsg):  # type: ignore[misc]
    """struct tcmsg and the attributes used here: a filter or a qdisc. Options other than bpf's stay unread.

    Not a subclass of pyroute2's tcmsg: that one's table of attributes, once compiled, would be inherited.
    """

    prefix = "TCA_"
    fields = (
        ("family", "B"),
        ("pad", "3x"),
        ("index", "i"),
        ("handle", "I"),
        ("parent", "I"),
        ("info", "I"),
    )
    nla_map = (("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "get_options"))
    bpf_options = _BpfOptions

    @staticmethod
    def get_options(message: Any, *_: Any, **__: Any) -> Any:
        return message.bpf_options if message.get_attr("TCA_KIND") == "bpf" else message.hex


def install(
    interface_index: int,
    own_addresses: Iterable[Address],
    owned: Iterable[Network],
    private: Iterable[Network],
) -> None:
    """Drops for the kernel what goes to `owned` and what comes from or goes to `private`, save what goes to
    `own_addresses`; of each family that has any.

    Idempotent: replaces, each family's in one step, what a predecessor or an earlier call installed.
    Raises KernelDropError.
    """
    own_addresses, owned, private = list(own_addresses), list(owned), list(private)
    for version in PLACES:
        _install(interface_index, version, own_addresses, owned, private)


def _install(
    interface_index: int, version: int, own: list[Address], owned: list[Network], private: list[Network]
) -> None:
    if not any(network.version == version for network in (*owned, *private)):
        _remove(interface_index, version)
        return
    try:
        program = _program(version, own, owned, private)
        with NetlinkRequests() as requests:
            _add_clsact(requests, interface_index)
            _refuse_strangers(requests, interface_index, version)
            message = _message(interface_index, version)
            message["attrs"] = [
                ("TCA_KIND", "bpf"),
                (
                    "TCA_OPTIONS",
                    {
                        "attrs": [
                            ("TCA_BPF_OPS_LEN", len(program)),
                            ("TCA_BPF_OPS", pack(program)),
                            ("TCA_BPF_FLAGS", _ACT_DIRECT),
                        ]
                    },
                ),
            ]
            requests.perform(
                message, _RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, "installing the ingress filter"
            )
    except (OSError, ProgramTooLongError) as error:
        raise KernelDropError(f"interface {interface_index}: {_text(error)}") from error


def _program(
    version: int, own: list[Address], owned: list[Network], private: list[Network]
) -> list[Instruction]:
    if version == 4:
        return build_drop_program(
            (address for address in own if isinstance(address, IPv4Address)),
            (network for network in owned if isinstance(network, IPv4Network)),
            (network for network in private if isinstance(network, IPv4Network)),
        )
    return build_drop_program_ipv6(
        (address for address in own if isinstance(address, IPv6Address)),
        (network for network in owned if isinstance(network, IPv6Network)),
        (network for network in private if isinstance(network, IPv6Network)),
    )


def remove(interface_index: int, versions: Iterable[int] = PLACES) -> None:
    """Removes our filters of these IP versions; the rest of clsact stays. Nothing happens where there are none,
    or no such interface. Raises KernelDropError."""
    for version in versions:
        _remove(interface_index, version)


def _remove(interface_index: int, version: int) -> None:
    try:
        with NetlinkRequests() as requests:
            if not any(_is_ours(found, version) for found in _filters(requests, interface_index)):
                return
            message = _message(interface_index, version)
            message["attrs"] = [("TCA_KIND", "bpf")]
            requests.perform(message, _RTM_DELTFILTER, 0, "removing the ingress filter")
    except OSError as error:
        raise KernelDropError(f"interface {interface_index}: {_text(error)}") from error


def installed(interface_index: int) -> set[int]:
    """The IP versions of which our filter is at its place. Raises OSError."""
    with NetlinkRequests() as requests:
        found = _filters(requests, interface_index)
    return {version for version in PLACES if any(_is_ours(each, version) for each in found)}


def protect(
    interfaces: Sequence[Interface],
    owned: Sequence[Network],
    private: Sequence[Network],
    *,
    forwarding: Collection[int],
) -> list[str]:
    """Installs the drop on the gateway's interfaces, or refuses the start by KernelDropError.

    Refused: an owned address that the kernel holds on any interface (it would answer for it, on the
    backup too), and a drop that cannot be installed for an IP version of which the kernel itself is `forwarding`.
    Without forwarding the kernel is silent about addresses it does not hold: then the failures are returned,
    one line for each interface and version, to be logged.
    """
    for address in addresses_in_use(owned):
        raise KernelDropError(
            f"{address} is configured on a kernel interface: remove it there, hasyncd answers for it itself"
        )
    own = [local.address.ip for local in local_addresses()]
    failures = []
    for interface in interfaces:
        for version, place in PLACES.items():
            try:
                _install(interface.index, version, own, list(owned), list(private))
            except KernelDropError as error:
                if version in forwarding:
                    raise KernelDropError(
                        f"{interface.name}: {place.switch} is 1, and owned packets cannot be kept from the "
                        f"kernel stack ({error}): set it to 0"
                    ) from error
                failures.append(f"{interface.name}: {error}")
    return failures


def _message(interface_index: int, version: int) -> _TrafficMessage:
    message, place = _TrafficMessage(), PLACES[version]
    message["index"], message["parent"], message["handle"] = interface_index, _INGRESS_PARENT, HANDLE
    message["info"] = place.priority << 16 | socket.htons(place.ethertype)
    return message


def _add_clsact(requests: NetlinkRequests, interface_index: int) -> None:
    message = _TrafficMessage()
    message["index"], message["parent"], message["handle"] = interface_index, _CLSACT_PARENT, _CLSACT_HANDLE
    message["attrs"] = [("TCA_KIND", "clsact")]
    try:
        requests.perform(message, _RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, "adding clsact")
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise


def _filters(requests: NetlinkRequests, interface_index: int) -> list[Any]:
    message = _TrafficMessage()
    message["index"], message["parent"] = interface_index, _INGRESS_PARENT
    try:
        return requests.dump(message, _RTM_GETTFILTER, "listing the ingress filters")
    except NetlinkError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL, errno.ENOENT):  # no interface, or no clsact on it
            return []
        raise


def _refuse_strangers(requests: NetlinkRequests, interface_index: int, version: int) -> None:
    priority = PLACES[version].priority
    for found in _filters(requests, interface_index):
        if found["info"] >> 16 == priority and found["handle"] != 0 and not _is_ours(found, version):
            raise KernelDropError(
                f"interface {interface_index}: another program's ingress filter has priority {priority}"
            )


def _is_ours(found: Any, version: int) -> bool:
    if (
        found["info"] >> 16 != PLACES[version].priority
        or found["handle"] != HANDLE
        or found.get_attr("TCA_KIND") != "bpf"
    ):
        return False
    return is_marked(found.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_OPS") or b"")


def _text(error: Exception) -> str:
    return str(error.args[-1]) if error.args else str(error)
