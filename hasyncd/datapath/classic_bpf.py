"""The classic BPF programs that tell the kernel stack which packets are not its own, one for each family.

Classic and not extended, because a container with NET_ADMIN may load only this. Pure: addresses in,
instructions out. Each test returns on the spot when it matches and else falls through, so that no jump leaves
its test and the 8-bit offsets of classic BPF never matter. The first instruction loads a constant that
nobody uses: the kernel keeps no name for a classic filter, and this is how a successor knows it for ours.

A frame at ingress starts with its Ethernet header. The tests, first match wins:

1. to an own address of the machine: the kernel's
2. to an owned address (VIP, public NAT address): dropped
3. to many (multicast, limited broadcast): the kernel's, which does not forward those
4. IPv6: from or to a link-local address, or neighbour discovery: the kernel's, which forwards neither
5. from or to a private network or a backend: dropped, whatever the other end
6. all else: the kernel's
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import Final, NamedTuple

INSTRUCTIONS_MAX: Final = 4096

TC_ACT_SHOT: Final = 2
TC_ACT_UNSPEC: Final = 0xFFFF_FFFF
"""Not decided here: the next filter is asked, and after the last one the packet goes up."""

MARK: Final = 0x6861_7379  # "hasy"

LOAD_IMMEDIATE: Final = 0x00
LOAD_BYTE: Final = 0x30
LOAD_HALF: Final = 0x28
LOAD_WORD: Final = 0x20
AND: Final = 0x54
JUMP_EQUAL: Final = 0x15
JUMP_GREATER_EQUAL: Final = 0x35
RETURN: Final = 0x06

_ETHERTYPE_AT: Final = 12
_SOURCE_AT: Final = 14 + 12
_DESTINATION_AT: Final = 14 + 16
_ETHERTYPE_IPV4: Final = 0x0800
_FIRST_MULTICAST: Final = 0xE000_0000

_NEXT_HEADER_AT: Final = 14 + 6
_SOURCE6_AT: Final = 14 + 8
_DESTINATION6_AT: Final = 14 + 24
_ICMPV6_TYPE_AT: Final = 14 + 40
_ETHERTYPE_IPV6: Final = 0x86DD
_ICMPV6: Final = 58
_ND_FIRST: Final = 133  # router solicitation
_ND_END: Final = 138  # behind redirect
_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_MULTICAST: Final = IPv6Network("ff00::/8")
_INSTRUCTION: Final = struct.Struct("=HBBI")


class Instruction(NamedTuple):
    """struct sock_filter: `jump_true` and `jump_false` count the instructions skipped."""

    code: int
    jump_true: int
    jump_false: int
    operand: int


class ProgramTooLongError(Exception):
    """More prefixes than one program can test."""


def build_drop_program(
    own_addresses: Iterable[IPv4Address], owned: Iterable[IPv4Network], private: Iterable[IPv4Network]
) -> list[Instruction]:
    """The program for IPv4; ProgramTooLongError when it exceeds 4,096 instructions (about 2,000 addresses)."""
    own = [IPv4Network(address) for address in own_addresses]
    private = list(private)
    return _checked(
        [
            *_head(_ETHERTYPE_IPV4),
            *_return_where(_DESTINATION_AT, own, TC_ACT_UNSPEC),
            *_return_where(_DESTINATION_AT, owned, TC_ACT_SHOT),
            Instruction(LOAD_WORD, 0, 0, _DESTINATION_AT),
            Instruction(JUMP_GREATER_EQUAL, 0, 1, _FIRST_MULTICAST),
            Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
            *_return_where(_SOURCE_AT, private, TC_ACT_SHOT),
            *_return_where(_DESTINATION_AT, private, TC_ACT_SHOT),
            Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
        ]
    )


def build_drop_program_ipv6(
    own_addresses: Iterable[IPv6Address], owned: Iterable[IPv6Network], private: Iterable[IPv6Network]
) -> list[Instruction]:
    """The program for IPv6; ProgramTooLongError when it exceeds 4,096 instructions (about 400 addresses)."""
    own = [IPv6Network(address) for address in own_addresses]
    private = list(private)
    return _checked(
        [
            *_head(_ETHERTYPE_IPV6),
            *_return_where_ipv6(_DESTINATION6_AT, own, TC_ACT_UNSPEC),
            *_return_where_ipv6(_DESTINATION6_AT, owned, TC_ACT_SHOT),
            *_return_where_ipv6(_DESTINATION6_AT, [_LINK_LOCAL, _MULTICAST], TC_ACT_UNSPEC),
            *_return_where_ipv6(_SOURCE6_AT, [_LINK_LOCAL], TC_ACT_UNSPEC),
            Instruction(LOAD_BYTE, 0, 0, _NEXT_HEADER_AT),
            Instruction(JUMP_EQUAL, 0, 4, _ICMPV6),
            Instruction(LOAD_BYTE, 0, 0, _ICMPV6_TYPE_AT),
            Instruction(JUMP_GREATER_EQUAL, 0, 2, _ND_FIRST),
            Instruction(JUMP_GREATER_EQUAL, 1, 0, _ND_END),
            Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
            *_return_where_ipv6(_SOURCE6_AT, private, TC_ACT_SHOT),
            *_return_where_ipv6(_DESTINATION6_AT, private, TC_ACT_SHOT),
            Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
        ]
    )


def _head(ethertype: int) -> list[Instruction]:
    return [
        Instruction(LOAD_IMMEDIATE, 0, 0, MARK),
        Instruction(LOAD_HALF, 0, 0, _ETHERTYPE_AT),
        Instruction(JUMP_EQUAL, 1, 0, ethertype),
        Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
    ]


def _checked(program: list[Instruction]) -> list[Instruction]:
    if len(program) > INSTRUCTIONS_MAX:
        raise ProgramTooLongError(
            f"the owned addresses need {len(program)} filter instructions of {INSTRUCTIONS_MAX}"
        )
    return program


def pack(program: Iterable[Instruction]) -> bytes:
    """The program as the kernel takes it."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def is_marked(packed: bytes) -> bool:
    """Whether a packed program was built here."""
    return packed.startswith(_INSTRUCTION.pack(LOAD_IMMEDIATE, 0, 0, MARK))


def _return_where(offset: int, networks: Iterable[IPv4Network], verdict: int) -> list[Instruction]:
    """Returns `verdict` when the address at `offset` lies in one of the networks; else falls through."""
    program: list[Instruction] = []
    mask = None
    for network in sorted(collapse_addresses(networks), key=lambda network: network.prefixlen):
        if int(network.netmask) != mask:
            mask = int(network.netmask)
            program += [Instruction(LOAD_WORD, 0, 0, offset), Instruction(AND, 0, 0, mask)]
        program += [
            Instruction(JUMP_EQUAL, 0, 1, int(network.network_address)),
            Instruction(RETURN, 0, 0, verdict),
        ]
    return program


def _return_where_ipv6(offset: int, networks: Iterable[IPv6Network], verdict: int) -> list[Instruction]:
    """The same for addresses of four words: the first word that differs ends a network's test."""
    program: list[Instruction] = []
    for network in collapse_addresses(networks):
        address, mask = network.network_address.packed, network.netmask.packed
        test: list[Instruction] = []
        for at in range(0, 16, 4):
            wanted = int.from_bytes(mask[at : at + 4], "big")
            if wanted:
                test.append(Instruction(LOAD_WORD, 0, 0, offset + at))
            if 0 < wanted < 0xFFFF_FFFF:
                test.append(Instruction(AND, 0, 0, wanted))
            if wanted:
                test.append(Instruction(JUMP_EQUAL, 0, 0, int.from_bytes(address[at : at + 4], "big")))
        test.append(Instruction(RETURN, 0, 0, verdict))
        program += [
            each._replace(jump_false=len(test) - 1 - at) if each.code == JUMP_EQUAL else each
            for at, each in enumerate(test)
        ]
    return program
