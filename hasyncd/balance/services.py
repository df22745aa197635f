"""The services and which of their backends are in use, as the packet engine takes them.

Pure: no socket, clock or log. Every change of a service's membership makes a new *publication*: the whole
table with the next ring generation. A service whose backends are all down has an explicit empty table, so
that its packets are dropped by name and never sent to a backend known to be dead.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from hasyncd.addresses import EngineAddress, EnginePrefix, for_engine, prefixes_for_engine

if TYPE_CHECKING:
    from hasyncd.config_services import Backend, Service

_PROTOCOLS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_UP, _DOWN = 0, 2
"""States, as `Engine.publish` takes them."""
_GENERATION_MAX: Final = 0xFFFF_FFFF


class Declaration(NamedTuple):
    """The arguments of the engine's `set_service`."""

    service: int
    """Its place in the configuration."""
    vip: EngineAddress
    port: int
    protocol: int
    allow: list[EnginePrefix]


class Publication(NamedTuple):
    """What a service's next table is made of; backends as (server_id, address, port, weight, state)."""

    service: int
    backends: list[tuple[int, EngineAddress, int, int, int]]
    generation: int
    algorithm: str

    @property
    def members(self) -> dict[int, int]:
        """Whom new flows may go to: id -> weight."""
        return {server_id: weight for server_id, _, _, weight, state in self.backends if state == _UP}


@dataclass(frozen=True, slots=True)
class BackendView:
    """A backend as `status` shows it."""

    id: int
    address: str
    weight: int
    state: str
    """`up` or `down`."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service as `status` shows it."""

    index: int
    name: str
    vip: str
    algorithm: str
    ring_generation: int
    backends: tuple[BackendView, ...]


class Services:
    """All services, by their place in the configuration. A backend is up until its checks say otherwise."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = tuple(services)
        self._generations = [1] * len(services)
        self._down: list[set[int]] = [set() for _ in services]

    def declarations(self) -> list[Declaration]:
        """What to declare once at the start, in order."""
        return [
            Declaration(
                service=index,
                vip=for_engine(service.vip.address),
                port=service.vip.port,
                protocol=_PROTOCOLS[service.protocol],
                allow=prefixes_for_engine(service.allow),
            )
            for index, service in enumerate(self._services)
        ]

    def publication(self, index: int) -> Publication:
        """The table of a service as it is now."""
        down = self._down[index]
        backends = [_row(backend, backend.id not in down) for backend in self._services[index].backends]
        return Publication(index, backends, self._generations[index], self._services[index].algorithm)

    def set_backend_up(self, index: int, backend_id: int, up: bool) -> Publication | None:
        """Notes a backend's health; the table to publish, or None when nothing changed.

        Raises KeyError for a backend that the service does not have.
        """
        if all(backend.id != backend_id for backend in self._services[index].backends):
            raise KeyError(f"service {self._services[index].name} has no backend {backend_id}")
        down = self._down[index]
        if up != (backend_id in down):
            return None
        if up:
            down.discard(backend_id)
        else:
            down.add(backend_id)
        assert self._generations[index] < _GENERATION_MAX, "the ring generation is a u32"
        self._generations[index] += 1
        return self.publication(index)

    def ring_generations(self) -> tuple[int, ...]:
        """One a service in order of configuration, as heartbeats carry them."""
        return tuple(self._generations)

    def views(self) -> list[ServiceView]:
        """All services for `status`."""
        return [
            ServiceView(
                index=index,
                name=service.name,
                vip=str(service.vip),
                algorithm=service.algorithm,
                ring_generation=self._generations[index],
                backends=tuple(
                    BackendView(
                        id=backend.id,
                        address=str(backend.address),
                        weight=backend.weight,
                        state="down" if backend.id in self._down[index] else "up",
                    )
                    for backend in service.backends
                ),
            )
            for index, service in enumerate(self._services)
        ]


def _row(backend: Backend, up: bool) -> tuple[int, EngineAddress, int, int, int]:
    state = _UP if up else _DOWN
    return backend.id, for_engine(backend.address.address), backend.address.port, backend.weight, state
