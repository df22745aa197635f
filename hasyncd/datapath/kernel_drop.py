"""Keeps the owned prefixes from the kernel stack: a filter at clsact ingress, behind the packet sockets' tap.

The packet sockets see a frame before this filter does, the kernel's IP stack only after it. So the engine
forwards while the kernel sends neither RST nor redirect nor a second, untranslated copy.

Filters outlive the process that installed them: ours has a fixed place (priority, handle) and a mark, is
replaced in one step, and a successor finds it. Other filters stay, and so does the clsact qdisc itself, which
may serve them.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from pyroute2.netlink import nla, nlmsg

from hasyncd.datapath.classic_bpf import ProgramTooLongError, build_drop_program, is_marked, pack
from hasyncd.datapath.interfaces import Interface, local_addresses
from hasyncd.datapath.netlink_wire import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkError,
    NetlinkRequests,
)

PRIORITY: Final = 70
"""Of the filter: before those that the kernel numbers itself (from 49152 down)."""
HANDLE: Final = 1

_RTM_NEWQDISC: Final = 36
_RTM_NEWTFILTER: Final = 44
_RTM_DELTFILTER: Final = 45
_RTM_GETTFILTER: Final = 46
_CLSACT_HANDLE: Final = 0xFFFF_0000
_CLSACT_PARENT: Final = 0xFFFF_FFF1
_INGRESS_PARENT: Final = 0xFFFF_FFF2
_ETH_P_IP: Final = 0x0800
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
    own_addresses: Iterable[IPv4Address],
    owned: Iterable[IPv4Network],
    sources: Iterable[IPv4Network],
) -> None:
    """Drops for the kernel what goes to `owned` or comes from `sources`, save what goes to `own_addresses`.

    Idempotent: replaces, in one step, what a predecessor or an earlier call installed.
    Raises KernelDropError.
    """
    try:
        program = build_drop_program(own_addresses, owned, sources)
        with NetlinkRequests() as requests:
            _add_clsact(requests, interface_index)
            _refuse_strangers(requests, interface_index)
            message = _message(interface_index)
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


def remove(interface_index: int) -> None:
    """Removes our filter; the rest of clsact stays. Nothing happens where there is none, or no such
    interface. Raises KernelDropError."""
    try:
        with NetlinkRequests() as requests:
            if not any(_is_ours(found) for found in _filters(requests, interface_index)):
                return
            message = _message(interface_index)
            message["attrs"] = [("TCA_KIND", "bpf")]
            requests.perform(message, _RTM_DELTFILTER, 0, "removing the ingress filter")
    except OSError as error:
        raise KernelDropError(f"interface {interface_index}: {_text(error)}") from error


def is_installed(interface_index: int) -> bool:
    """Whether our filter is at its place. Raises OSError."""
    with NetlinkRequests() as requests:
        return any(_is_ours(found) for found in _filters(requests, interface_index))


def protect(
    interfaces: Sequence[Interface],
    owned: Sequence[IPv4Network],
    sources: Sequence[IPv4Network],
    *,
    forwarding: bool,
) -> list[str]:
    """Installs the drop on the gateway's interfaces, or refuses the start by KernelDropError.

    Refused: an owned address that the kernel holds on any interface (it would answer ARP for it, on the
    backup too), and a drop that cannot be installed while the kernel itself is `forwarding`. Without
    forwarding the kernel is silent about addresses it does not hold: then the failures are returned, one line
    for each interface, to be logged.
    """
    for local in local_addresses():
        if any(local.address.ip in network for network in owned):
            raise KernelDropError(
                f"{local.address.ip} is configured on a kernel interface: remove it there, "
                "hasyncd answers for it itself"
            )
    failures = []
    for interface in interfaces:
        try:
            install(interface.index, [address.ip for address in interface.addresses], owned, sources)
        except KernelDropError as error:
            if forwarding:
                raise KernelDropError(
                    f"{interface.name}: net.ipv4.ip_forward is 1, and owned packets cannot be kept from the "
                    f"kernel stack ({error}): set it to 0"
                ) from error
            failures.append(f"{interface.name}: {error}")
    return failures


def _message(interface_index: int) -> _TrafficMessage:
    message = _TrafficMessage()
    message["index"], message["parent"], message["handle"] = interface_index, _INGRESS_PARENT, HANDLE
    message["info"] = PRIORITY << 16 | socket.htons(_ETH_P_IP)
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


def _refuse_strangers(requests: NetlinkRequests, interface_index: int) -> None:
    for found in _filters(requests, interface_index):
        if found["info"] >> 16 == PRIORITY and found["handle"] != 0 and not _is_ours(found):
            raise KernelDropError(
                f"interface {interface_index}: another program's ingress filter has priority {PRIORITY}"
            )


def _is_ours(found: Any) -> bool:
    if found["info"] >> 16 != PRIORITY or found["handle"] != HANDLE or found.get_attr("TCA_KIND") != "bpf":
        return False
    return is_marked(found.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_OPS") or b"")


def _text(error: Exception) -> str:
    return str(error.args[-1]) if error.args else str(error)
