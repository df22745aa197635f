"""The packet engine: AF_PACKET sockets around the C core, set up from the configuration.

`hasyncd._native.Engine` is itself the interface that the shell drives (its stub documents it); this file
only tells it the rules and opens its sockets.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from typing import Final, Literal

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine, start_memory_keeper
from hasyncd.addresses import (
    Address,
    EngineAddress,
    EnginePrefix,
    Network,
    for_engine,
    in_order,
    prefixes_for_engine,
)
from hasyncd.config import Settings
from hasyncd.config_rules import Forward, NatRule, OneToOne, Pass
from hasyncd.config_services import Service
from hasyncd.datapath.interfaces import Interface

__all__ = [
    "Engine",
    "build_engine",
    "open_sides",
    "owned_networks",
    "private_networks",
    "start_memory_keeper",
    "written_backends",
]

SIDES: Final = {"inside": INSIDE, "outside": OUTSIDE}
PROTOCOLS: Final = {"tcp": 6, "udp": 17}


Declaration = tuple[int, EngineAddress, int, int, list[EnginePrefix]]
"""The arguments of `Engine.set_service`."""
Publication = tuple[list[tuple[int, EngineAddress, int, int, int]], BackendTable]
"""The arguments of `Engine.publish`, after the service's place."""


def build_engine(
    settings: Settings,
    seed: bytes,
    services: Iterable[tuple[Declaration, Publication]],
    log_file: int = -1,
) -> Engine:
    """An engine with the configuration's rules, no sockets yet. `seed` is 16 random bytes, `log_file` the descriptor of
    the delta log's memory (-1: memory of its own). Raises OSError."""
    engine = Engine(
        capacity=settings.node.capacity, seed=seed, log_records=settings.sync.log_records, log_file=log_file
    )
    engine.set_scrub(settings.sync.scrub_s)
    engine.set_vips([(SIDES[vip.interface], for_engine(vip.address.ip)) for vip in settings.vip])
    engine.set_nat_rules(
        [
            (
                _prefixes(rule.source),
                _prefixes(rule.destination),
                [int(address) for address in rule.public],
                rule.ports.first,
                rule.ports.last,
            )
            for rule in settings.nat
        ]
    )
    for index, rule in enumerate(settings.nat):
        engine.set_nat_options(
            index,
            exempt=_prefixes(rule.exempt),
            reserved=[(ports.first, ports.last) for ports in rule.reserved],
            max_flows_per_source=rule.max_flows_per_source,
            hold_down_s=rule.hold_down_s,
            preserve_parity=rule.preserve_parity,
            port_classes=rule.port_classes,
            icmp_on_exhaustion=rule.on_exhaustion == "icmp",
            log=rule.log == "flows",
        )
    engine.set_policy(
        half_open_per_source=settings.flows.half_open_per_source,
        loose=settings.flows.loose,
        early_drop=settings.flows.early_drop,
    )
    engine.set_forwards(_ways_in(settings))
    engine.set_passes(
        [
            (prefixes_for_engine(rule.source), prefixes_for_engine(rule.destination), rule.inbound)
            for rule in settings.passes
        ]
    )
    for declaration, publication in services:
        engine.set_service(*declaration)
        index, service = declaration[0], settings.service[declaration[0]]
        engine.set_balance(index, service.key, round((service.load_limit or 0) * 100), service.on_empty)
        engine.publish(index, *publication)
    for table, index, mode in rule_commits(settings):
        engine.set_rule_commit(table, index, mode)
    return engine


def rule_commits(settings: Settings) -> list[tuple[str, int, str]]:
    """The rules with a commit mode of their own, as `Engine.set_rule_commit` takes them."""
    tables: dict[str, Sequence[Service | NatRule | Forward | OneToOne | Pass]] = {
        "service": settings.service,
        "nat": settings.nat,
        "forward": [*settings.forward, *settings.one_to_one],
        "pass": settings.passes,
    }
    return [
        (table, index, rule.commit)
        for table, rules in tables.items()
        for index, rule in enumerate(rules)
        if rule.commit is not None
    ]


def open_sides(
    engine: Engine,
    inside: Interface,
    outside: Interface,
    packet_io: Literal["auto", "ring", "mmsg"] = "auto",
    *,
    behind: bool = False,
) -> tuple[int, int]:
    """Opens both sides' packet sockets, `behind` tc ingress or before it; a descriptor of each. Raises OSError."""
    return _open(engine, INSIDE, inside, packet_io, behind), _open(
        engine, OUTSIDE, outside, packet_io, behind
    )


def _open(engine: Engine, side: int, interface: Interface, packet_io: str, behind: bool) -> int:
    if packet_io != "mmsg":
        try:
            return engine.open(side, interface.index, interface.mac, interface.mtu, True, behind)
        except OSError as error:
            if packet_io == "ring" or error.errno != errno.ENOMEM:
                raise
    return engine.open(side, interface.index, interface.mac, interface.mtu, False, behind)


def owned_networks(settings: Settings) -> list[Network]:
    """What the kernel stack must never answer for: VIPs and public addresses."""
    addresses = {vip.address.ip for vip in settings.vip}
    for rule in settings.nat:
        addresses.update(rule.public)
    addresses.update(forward.public.address for forward in settings.forward)
    addresses.update(mapping.public for mapping in settings.one_to_one)
    return in_order(ipaddress.ip_network(address) for address in addresses)


def written_backends(settings: Settings) -> list[Address]:
    """The addresses of all backends that the file lists."""
    return [backend.address.address for each in settings.service for backend in each.backends]


def private_networks(settings: Settings, backends: Iterable[Address]) -> list[Network]:
    """Whose transit is the gateway's alone: NAT and pass sources, and `backends`, which answer clients."""
    networks: set[Network] = {network for rule in settings.nat for network in rule.source}
    networks.update(network for pass_rule in settings.passes for network in pass_rule.source)
    networks.update(ipaddress.ip_network(address) for address in backends)
    networks.update(ipaddress.ip_network(forward.to.address) for forward in settings.forward)
    networks.update(IPv4Network(mapping.inside) for mapping in settings.one_to_one)
    return in_order(networks)


def _ways_in(settings: Settings) -> list[tuple[int, int, int, int, int, list[tuple[int, int]]]]:
    """The arguments of `Engine.set_forwards`: single ports before whole addresses."""
    ports = [
        (
            int(forward.public.address),
            forward.public.port,
            PROTOCOLS[forward.protocol],
            int(forward.to.address),
            forward.to.port,
            _prefixes(forward.allow),
        )
        for forward in settings.forward
    ]
    return ports + [
        (int(mapping.public), 0, 0, int(mapping.inside), 0, _prefixes(mapping.allow))
        for mapping in settings.one_to_one
    ]


def _prefixes(networks: Sequence[IPv4Network]) -> list[tuple[int, int]]:
    return [(int(network.network_address), network.prefixlen) for network in networks]
