"""A primary's word on the backends of a service, as values and as bytes: proto/sync.md §4.4."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

MEMBER_BYTES: Final = 34
MEMBERS_MAX: Final = 1024
"""Backends of one service."""
STATES: Final = 4
"""up, draining, down, and in the table although it is not healthy."""
STEPS: Final = 4
"""Of a slow start, from 1 on; the last is the whole weight."""
NO_DEADLINE: Final = 0xFFFF_FFFF

_MEMBER: Final = struct.Struct(">IHHHBBBxI16s")
assert _MEMBER.size == MEMBER_BYTES, "proto/sync.md §4.4"
_ADDRESS_BYTES: Final = {4: 4, 6: 16}


class MemberWord(NamedTuple):
    """What a backup has to know of one backend to go on as its primary would."""

    id: int
    address: bytes
    """4 or 16 bytes."""
    port: int
    weight: int
    """The configured one."""
    ordered: int
    """The operator's; 0: none."""
    state: int
    step: int
    drain_ms: int
    """What is left until its flows are ended; 0: it is not drained; `NO_DEADLINE`: nothing ends them."""


def encode_members(members: Iterable[MemberWord]) -> bytes:
    """In order of their ids."""
    return b"".join(
        _MEMBER.pack(
            member.id, member.port, member.weight, member.ordered, 4 if len(member.address) == 4 else 6,
            member.state, member.step, member.drain_ms, member.address,
        )
        for member in sorted(members)
    )  # fmt: skip


def decode_members(data: bytes) -> tuple[MemberWord, ...]:
    """Raises ValueError for what `encode_members` cannot have written, or what no backend can be."""
    if len(data) % MEMBER_BYTES or len(data) > MEMBERS_MAX * MEMBER_BYTES:
        raise ValueError("no whole members")
    members = tuple(_read(data))
    if encode_members(members) != data or len({member.id for member in members}) != len(members):
        raise ValueError("not in the one form that they have")
    if len({(member.address, member.port) for member in members}) != len(members):
        raise ValueError("two backends at one address")
    return members


def _read(data: bytes) -> Iterator[MemberWord]:
    for id, port, weight, ordered, family, state, step, drain_ms, address in _MEMBER.iter_unpack(data):
        if not (
            id and port and weight and 1 <= step <= STEPS and state < STATES and family in _ADDRESS_BYTES
        ):
            raise ValueError("no backend is so")
        yield MemberWord(id, address[: _ADDRESS_BYTES[family]], port, weight, ordered, state, step, drain_ms)
