"""Keeps what is the engine's from the kernel's own stack, from before the first packet until the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from types import TracebackType

import structlog

from hasyncd.addresses import Address
from hasyncd.config import Settings
from hasyncd.datapath import kernel_drop
from hasyncd.datapath.interfaces import Interface, LocalAddress, ip_forward, ipv6_forward, local_addresses
from hasyncd.datapath.packet import owned_networks, private_networks, written_backends

_log = structlog.get_logger("hasyncd")


class KernelGuard:
    """The drop behind the packet sockets' tap, for as long as the context lasts."""

    def __init__(self, settings: Settings, interfaces: tuple[Interface, ...]) -> None:
        self._settings, self._interfaces = settings, interfaces
        self._owned, self._private = (
            owned_networks(settings),
            private_networks(settings, written_backends(settings)),
        )
        self._forwarding: set[int] = set()
        self._own: list[LocalAddress] = []

    def __enter__(self) -> KernelGuard:
        """Raises KernelDropError where the node must not start."""
        switches = ((4, ip_forward()), (6, ipv6_forward()))
        self._forwarding = {version for version, forwards in switches if forwards}
        self._own = local_addresses()
        for failure in self._protect():
            _log.warning("kernel_drop_missing", detail=failure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A kernel that forwards must not start to do so with private sources because we stopped.
        versions = kernel_drop.PLACES.keys() - self._forwarding
        for interface in self._interfaces:
            with contextlib.suppress(kernel_drop.KernelDropError):
                kernel_drop.remove(interface.index, versions)

    def refresh(self) -> None:
        """The machine's addresses may have changed (IPv6 ones come and go by themselves): packets to a new one are
        the kernel's."""
        own = local_addresses()
        if own == self._own:
            return
        self._own = own
        self._renew()

    def keep_backends(self, backends: Iterable[Address]) -> None:
        """The services have other backends."""
        private = private_networks(self._settings, backends)
        if private != self._private:
            self._private = private
            self._renew()

    def _renew(self) -> None:
        try:
            failures = self._protect()
        except kernel_drop.KernelDropError as error:
            failures = [str(error)]
        for failure in failures:
            _log.warning("kernel_drop_missing", detail=failure)

    def _protect(self) -> list[str]:
        return kernel_drop.protect(self._interfaces, self._owned, self._private, forwarding=self._forwarding)
