"""What every table of the configuration is: frozen, strict, and without keys that are not known.

Each field has a docstring: with the types, the limits and the defaults it is what deploy/configuration.md says.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from hasyncd import addresses
from hasyncd.config_values import (
    Endpoint,
    PortRange,
    read_address,
    read_endpoint,
    read_ipv4_address,
    read_ipv4_endpoint,
    read_ipv4_network,
    read_ipv6_network,
    read_name,
    read_network,
    read_port_range,
)

AsText = PlainSerializer(str, return_type=str)
Name = Annotated[str, BeforeValidator(read_name)]
Address = Annotated[addresses.Address, BeforeValidator(read_address), AsText]
Network = Annotated[addresses.Network, BeforeValidator(read_network), AsText]
Socket = Annotated[Endpoint, BeforeValidator(read_endpoint), AsText]
AddressV4 = Annotated[IPv4Address, BeforeValidator(read_ipv4_address), AsText]
NetworkV4 = Annotated[IPv4Network, BeforeValidator(read_ipv4_network), AsText]
NetworkV6 = Annotated[IPv6Network, BeforeValidator(read_ipv6_network), AsText]
SocketV4 = Annotated[Endpoint, BeforeValidator(read_ipv4_endpoint), AsText]
Ports = Annotated[PortRange, BeforeValidator(read_port_range), AsText]
Commit = Literal["ack", "emit"]
"""What must be true before the first packets of a new flow leave: proto/sync.md §6."""
Item = TypeVar("Item")
# TOML has arrays where settings have tuples; their elements stay strict. The limits, here and in config.py, are
# those of hasyncd/native/core/limits.h.
Several = Annotated[tuple[Item, ...], Field(strict=False, max_length=64)]
Some = Annotated[tuple[Item, ...], Field(strict=False, min_length=1, max_length=64)]


@dataclass(frozen=True)
class Unit:
    """What a number counts, for the reference, where the key's own end (`_ms`, `_s`) does not say it."""

    name: str


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=False, use_attribute_docstrings=True
    )
