"""How packets reach the engine: which engine it is, its sockets, its thread or the loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from ipaddress import IPv6Interface
from typing import TYPE_CHECKING

import structlog

from hasyncd.addresses import Address, Network
from hasyncd.config import Settings
from hasyncd.datapath.interfaces import Interface
from hasyncd.datapath.multicast import join_solicited_nodes
from hasyncd.datapath.packet import (
    SIDES,
    Engine,
    open_sides,
    owned_networks,
    private_networks,
    written_backends,
)
from hasyncd.datapath.tc import FlowCache, TcUnavailable

if TYPE_CHECKING:
    from hasyncd.runtime.pump import Pump

_log = structlog.get_logger("hasyncd")


def wants_packet_thread(settings: Settings) -> bool:
    """As configured; else a thread where another core can run the interpreter beside it."""
    if settings.node.packet_thread is not None:
        return settings.node.packet_thread
    return len(os.sched_getaffinity(0)) > 1


class PacketFlow:
    """Lets packets flow from `start` to `stop`."""

    def __init__(self, settings: Settings, engine: Engine, inside: Interface, outside: Interface) -> None:
        self._settings, self._engine = settings, engine
        self._interfaces = (inside, outside)
        self._backends = written_backends(settings)
        self._loop = asyncio.get_running_loop()
        self._pump: Pump | None = None
        self._watched: tuple[int, ...] = ()
        self._membership: socket.socket | None = None
        self._cache: FlowCache | None = None
        self.engine = "packet"
        self.reason: str | None = "not started"
        """Why `auto` chose it, or how the program hangs on the interfaces."""

    def start(self, pump: Pump) -> None:
        """Raises OSError; TcUnavailable where `engine = "tc"` cannot be had."""
        self._pump = pump
        self._cache = self._load_cache()
        sockets = open_sides(
            self._engine,
            *self._interfaces,
            self._settings.node.packet_io,
            behind=self._cache is not None,
        )
        if self._cache is not None:
            self._cache.join(self._engine, *self._interfaces)
        if wants_packet_thread(self._settings):
            news = self._engine.start_thread()
            self._loop.add_reader(news, pump.read_news, news)
            self._watched = (news,)
        else:
            self._watched = sockets
            self.watch_again()
        self._join_groups()
        self._tell_missing_ipv6()

    def _load_cache(self) -> FlowCache | None:
        self.engine, self.reason = "packet", "as configured"
        if self._settings.node.engine == "packet":
            return None
        try:
            cache = FlowCache(self._settings.node.capacity, ipv6=self._settings.speaks_ipv6)
            cache.keep_machine(*self._networks())
            cache.attach(self._interfaces)
        except TcUnavailable as error:
            if self._settings.node.engine == "tc":
                raise
            self.reason = f"tc is not available: {error}"
            return None
        self.engine, self.reason = "tc", cache.hook
        return cache

    def refresh_addresses(self) -> None:
        """The machine's own addresses may have changed."""
        if self._cache is None:
            return
        try:
            self._cache.keep_machine(*self._networks())
        except OSError as error:
            _log.warning("addresses_not_kept", detail=str(error))

    def keep_backends(self, backends: Iterable[Address]) -> None:
        """The services have other backends."""
        self._backends = list(backends)
        self.refresh_addresses()

    def _networks(self) -> tuple[list[Network], list[Network]]:
        return owned_networks(self._settings), private_networks(self._settings, self._backends)

    def watch_again(self) -> None:
        """After a link came back: the error of the downed one has ended the loop's watch for good."""
        if self._pump is None or wants_packet_thread(self._settings):
            return
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
            self._loop.add_reader(descriptor, self._pump.poll)

    def stop(self) -> None:
        """Closes the sockets and whatever hangs on the interfaces."""
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
        self._watched = ()
        self._engine.close()
        if self._cache is not None:
            self._cache.close()
        if self._membership is not None:
            self._membership.close()

    def _join_groups(self) -> None:
        """Without IPv6 on an interface its VIPs are still answered for, where switches let the questions through."""
        try:
            self._membership = join_solicited_nodes(
                (self._interfaces[SIDES[vip.interface]].index, vip.address.ip)
                for vip in self._settings.vip
                if isinstance(vip.address, IPv6Interface)
            )
        except OSError as error:
            _log.warning("groups_not_joined", detail=f"solicited-node groups of the VIPs: {error.strerror}")

    def _tell_missing_ipv6(self) -> None:
        """The kernel finds IPv6 neighbours from an IPv6 address of the interface, and has none to do it with."""
        if not self._settings.speaks_ipv6:
            return
        for interface in self._interfaces:
            if not any(address.version == 6 for address in interface.addresses):
                detail = f"{interface.name} has no IPv6 address, so that none of its neighbours can be found"
                _log.warning("no_ipv6_address", detail=detail)
