"""Lists of backends that somebody else keeps: the file's lines, and what a name resolves to. Pure.

An answer that cannot be read changes nothing: whoever reads it goes on with the one before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from hasyncd.balance.membership import Member
from hasyncd.config_values import Endpoint, read_endpoint

BACKENDS_MAX: Final = 1024
WEIGHT_MAX: Final = 256
_ID_MAX: Final = 0xFFFF_FFFF


class BadList(ValueError):
    """A list that cannot be used; the message names the place."""


def read_list(text: str, version: int) -> list[Member]:
    """`ID ADDRESS:PORT [WEIGHT]` a line, `#` begins a comment; addresses of IPv4 or IPv6 (`version`). An empty list is
    a list. Raises BadList."""
    members: dict[int, Member] = {}
    addresses: dict[Endpoint, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            member = _read_line(words, version)
            if member.id in members:
                raise BadList(f"id {member.id} is listed twice")
            if member.address in addresses:
                raise BadList(f"{member.address} is backend {addresses[member.address]} already")
        except ValueError as error:
            raise BadList(f"line {number}: {error}") from None
        members[member.id] = member
        addresses[member.address] = member.id
    if len(members) > BACKENDS_MAX:
        raise BadList(f"{len(members)} backends: a service has {BACKENDS_MAX} at most")
    return list(members.values())


def _read_line(words: list[str], version: int) -> Member:
    if not 2 <= len(words) <= 3:
        raise BadList("ID ADDRESS:PORT [WEIGHT], please")
    id = _number(words[0], "an id", _ID_MAX)
    endpoint = read_endpoint(words[1])
    assert isinstance(endpoint, Endpoint), "what read_endpoint makes of text"
    if endpoint.address.version != version:
        raise BadList(f"{endpoint} is IPv{endpoint.address.version}, the VIP is IPv{version}")
    return Member(id, endpoint, _number(words[2], "a weight", WEIGHT_MAX) if len(words) == 3 else 1)


def _number(word: str, what: str, maximum: int) -> int:
    if not word.isascii() or not word.isdigit() or not 1 <= int(word) <= maximum:
        raise BadList(f"{what} is a number from 1 to {maximum}, not {word!r}")
    return int(word)


def members_at(addresses: Iterable[IPv4Address | IPv6Address], port: int) -> list[Member]:
    """A backend of weight 1 for each address. Its id follows from the address, so that both nodes give the same one.
    Raises BadList: none, too many, or two IPv6 addresses with one id."""
    every = set(addresses)
    members = {id_of(address): Member(id_of(address), Endpoint(address, port), 1) for address in every}
    if not every:
        raise BadList("no address")
    if len(members) != len(every) or len(members) > BACKENDS_MAX:
        raise BadList("too many addresses")
    return sorted(members.values())


def id_of(address: IPv4Address | IPv6Address) -> int:
    """IPv4: the address as a number. IPv6: 32 bits of a hash over it."""
    if isinstance(address, IPv4Address):
        return int(address) or 1
    return int.from_bytes(hashlib.blake2s(address.packed, digest_size=4).digest()) or 1
