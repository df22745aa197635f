"""What is forwarded beside services: `[[nat]]`, `[[forward]]`, `[[one_to_one]]`, `[[pass]]`; and `[flows]`."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field

from hasyncd.config_section import (
    AddressV4,
    Commit,
    NetworkV4,
    NetworkV6,
    Ports,
    Section,
    Several,
    SocketV4,
    Some,
    Unit,
)
from hasyncd.config_values import PortRange


class Flows(Section):
    """What new flows may cost."""

    half_open_per_source: Annotated[int, Unit("flows")] = Field(0, ge=0, le=8 << 20)
    """Half-open TCP flows of one source; 0: no limit but the one for all, a quarter of the capacity."""
    loose: bool = False
    """An ACK without a flow makes one where the rules lead it to the same host."""
    early_drop: bool = False
    """A full table drops flows that are unanswered or over (RFC 6888 would have them stay)."""


class NatRule(Section):
    """Private hosts that go out with a public address, each flow with a port of its own."""

    source: Some[NetworkV4]
    """The private hosts."""
    destination: Several[NetworkV4] = ()
    """Where they may go. No networks: anywhere."""
    public: Some[AddressV4]
    """The addresses they go out with; may lie outside the interface's network (routed pools)."""
    ports: Ports = PortRange(1024, 65535)
    """The public ports that are given out."""
    reserved: Several[Ports] = ()
    """Ports of the range that are never given out."""
    exempt: Several[NetworkV4] = ()
    """Destinations to which a source goes with its own address and port, still tracked and only from inside."""
    max_flows_per_source: Annotated[int, Unit("flows")] = Field(0, ge=0, le=8 << 20)
    """Flows that one source may have at a time; 0: no limit."""
    hold_down_s: int = Field(120, ge=0, le=3600)
    """A freed public port serves no other endpoint towards the same destination for so long (RFC 6888 REQ-8)."""
    preserve_parity: bool = False
    """UDP: an even port for an even one, an odd one for an odd one (RFC 4787 REQ-4)."""
    port_classes: bool = True
    """Sources below 1024 get ports below 1024, where `ports` has any."""
    on_exhaustion: Literal["drop", "icmp"] = "drop"
    """What a packet meets for which no port is free: silence, or an ICMP error (unreachable, prohibited)."""
    log: Literal["off", "flows"] = "off"
    """A line for each mapping that is made or ended, into log.mappings."""
    commit: Commit | None = None
    """As `sync.commit`, for this rule's flows; default: that one."""


class Forward(Section):
    """A port of a public address that is an inside host's."""

    public: SocketV4
    """The public end. It is never given to a source."""
    protocol: Literal["tcp", "udp"]
    """Of both ends."""
    to: SocketV4
    """The inside host's end."""
    allow: Some[NetworkV4] = (IPv4Network("0.0.0.0/0"),)
    """Who may use it."""
    commit: Commit | None = None
    """As `sync.commit`, for this rule's flows; default: that one."""


class OneToOne(Section):
    """A public address that is an inside host's own, both ways."""

    public: AddressV4
    """The address outside; no VIP, in no pool."""
    inside: AddressV4
    """The host."""
    allow: Some[NetworkV4] = (IPv4Network("0.0.0.0/0"),)
    """Who may open flows to it."""
    commit: Commit | None = None
    """As `sync.commit`, for this rule's flows; default: that one."""


class Pass(Section):
    """IPv6 that is forwarded as it is: hosts inside and whom they may reach."""

    source: Some[NetworkV6]
    """The hosts inside."""
    destination: Several[NetworkV6] = ()
    """Where they may go. No networks: anywhere."""
    inbound: bool = False
    """Flows may be opened from outside too, from a destination to a source."""
    commit: Commit | None = None
    """As `sync.commit`, for this rule's flows; default: that one."""
