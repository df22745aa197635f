"""The classic BPF program that tells the kernel stack which packets are not its own.

Classic and not extended, because a container with NET_ADMIN may load only this. Pure: addresses in,
instructions out. Each test returns on the spot when it matches, so that no jump is longer than one
instruction and the 8-bit offsets of classic BPF never matter. The first instruction loads a constant that
nobody uses: the kernel keeps no name for a classic filter, and this is how a successor knows it for ours.

A frame at ingress starts with its Ethernet header. The tests, first match wins:

1. to an own address of the interface: the kernel's
2. to an owned address (VIP, public NAT address): dropped
3. to many (multicast, limited broadcast): the kernel's, which does not forward those
4. from a private network or a backend: dropped, whatever the destination
5. all else: the kernel's
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Final, NamedTuple

INSTRUCTIONS_MAX: Final = 4096

TC_ACT_SHOT: Final = 2
TC_ACT_UNSPEC: Final = 0xFFFF_FFFF
"""Not decided here: the next filter is asked, and after the last one the packet goes up."""

MARK: Final = 0x6861_7379  # "hasy"

LOAD_IMMEDIATE: Final = 0x00
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
    own_addresses: Iterable[IPv4Address], owned: Iterable[IPv4Network], sources: Iterable[IPv4Network]
) -> list[Instruction]:
    """The program; ProgramTooLongError when it exceeds 4,096 instructions (about 2,000 addresses)."""
    own = [IPv4Network(address) for address in own_addresses]
    program = [
        Instruction(LOAD_IMMEDIATE, 0, 0, MARK),
        Instruction(LOAD_HALF, 0, 0, _ETHERTYPE_AT),
        Instruction(JUMP_EQUAL, 1, 0, _ETHERTYPE_IPV4),
        Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
        *_return_where(_DESTINATION_AT, own, TC_ACT_UNSPEC),
        *_return_where(_DESTINATION_AT, owned, TC_ACT_SHOT),
        Instruction(LOAD_WORD, 0, 0, _DESTINATION_AT),
        Instruction(JUMP_GREATER_EQUAL, 0, 1, _FIRST_MULTICAST),
        Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
        *_return_where(_SOURCE_AT, sources, TC_ACT_SHOT),
        Instruction(RETURN, 0, 0, TC_ACT_UNSPEC),
    ]
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
