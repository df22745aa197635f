"""The services and which of their backends are in use, as the packet engine takes them.

Pure: no socket, clock or log. `membership.py` says what each backend is there for; every change of that makes a new
*publication*: the whole table with the next ring generation. A service whose backends are all down has an explicit
empty table, so that its packets are dropped by name and never sent to a backend known to be dead.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from hasyncd.addresses import EngineAddress, EnginePrefix, for_engine, prefixes_for_engine
from hasyncd.balance.membership import RAMP_STEPS, Member, Membership, Policy, Standing, State

if TYPE_CHECKING:
    from hasyncd.config_services import Service

_PROTOCOLS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_SECOND_NS: Final = 1_000_000_000
_MILLISECOND_NS: Final = 1_000_000
VNODES: Final = 160
"""Of a ring, for a weight of 1. A part of a weight has its part of them, so that a slow start moves nobody else."""


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
    scale: int = 1
    """What a weight of 1 is in `backends`."""
    given_up: frozenset[int] = frozenset()
    """Whose flows are the down policy's, once this is published."""

    @property
    def members(self) -> dict[int, int]:
        """Whom new flows may go to: id -> weight."""
        return {server_id: weight for server_id, _, _, weight, state in self.backends if state == State.UP}


@dataclass(frozen=True, slots=True)
class BackendView:
    """A backend as `status` shows it."""

    id: int
    address: str
    weight: int
    """The operator's, else the configured one."""
    state: str
    """`up`, `slow-start`, `drain`, `down` or `removed`."""
    why: str = ""
    """What the last check that changed something said, or who ordered it."""
    weight_effective: float = 0.0
    """What it has of its weight in the table of now."""
    drain_left_ms: int | None = None
    """Until its flows are ended; None: nothing ends them."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service as `status` shows it."""

    index: int
    name: str
    vip: str
    algorithm: str
    ring_generation: int
    backends: tuple[BackendView, ...]
    panics: bool = False
    """Backends are used in spite of their health."""
    follows: bool = False
    """The primary's word counts here, not the own checks."""


class Services:
    """All services, by their place in the configuration. A backend is up until somebody says otherwise."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = tuple(services)
        self._memberships = [
            Membership(policy_of(service), members_of(service), generation=1) for service in services
        ]

    def __len__(self) -> int:
        return len(self._services)

    def __getitem__(self, index: int) -> Membership:
        return self._memberships[index]

    def name(self, index: int) -> str:
        return self._services[index].name

    def find(self, name: str) -> int | None:
        """The place of the service with this name."""
        return next((i for i, service in enumerate(self._services) if service.name == name), None)

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

    def publication(self, index: int, given_up: frozenset[int] = frozenset()) -> Publication:
        """The table of a service as it is now."""
        membership = self._memberships[index]
        rows = [
            (row.id, for_engine(row.address.address), row.address.port, row.weight, int(row.state))
            for row in membership.rows
        ]
        algorithm = self._services[index].algorithm
        return Publication(index, rows, membership.generation, algorithm, membership.scale, given_up)

    def settle(self, index: int) -> Publication | None:
        """After anything was said of a service: the table to publish, or None where it stays as it is."""
        given_up = self._memberships[index].settle()
        return None if given_up is None else self.publication(index, given_up)

    def replace(self, services: Sequence[Service], now_ns: int) -> list[int]:
        """The same services with other keys; the places of those that are otherwise than they were."""
        changed = []
        before, self._services = self._services, tuple(services)
        for index, (old, new) in enumerate(zip(before, services, strict=True)):
            if old == new:
                continue
            changed.append(index)
            membership = self._memberships[index]
            membership.policy = policy_of(new)
            if new.source is None:
                membership.replace(members_of(new), now_ns)
        return changed

    def ring_generations(self) -> tuple[int, ...]:
        """One a service in order of configuration, as heartbeats carry them."""
        return tuple(membership.generation for membership in self._memberships)

    def views(self, now_ns: int = 0) -> list[ServiceView]:
        """All services for `status`."""
        return [
            self._view(index, service, self._memberships[index], now_ns)
            for index, service in enumerate(self._services)
        ]

    def _view(self, index: int, service: Service, membership: Membership, now_ns: int) -> ServiceView:
        rows = {row.id: row for row in membership.rows}
        backends = []
        for standing, state in membership.states():
            row = rows.get(standing.member.id)
            used = row.weight / membership.scale if row is not None and row.state is State.UP else 0.0
            until_ns = standing.drain_until_ns
            backends.append(
                BackendView(
                    id=standing.member.id,
                    address=str(standing.member.address),
                    weight=standing.full_weight,
                    state=state_word(standing, state),
                    why=_why(standing, state),
                    weight_effective=used,
                    drain_left_ms=None if until_ns is None else max(0, until_ns - now_ns) // _MILLISECOND_NS,
                )
            )
        return ServiceView(
            index=index,
            name=service.name,
            vip=str(service.vip),
            algorithm=service.algorithm,
            ring_generation=membership.generation,
            backends=tuple(backends),
            panics=membership.panics,
            follows=membership.following,
        )


def members_of(service: Service) -> list[Member]:
    """As the configuration lists them."""
    return [Member(backend.id, backend.address, backend.weight) for backend in service.backends]


def policy_of(service: Service) -> Policy:
    return Policy(
        round(service.slow_start_s * _SECOND_NS),
        round(service.drain_timeout_s * _SECOND_NS),
        service.panic_threshold,
    )


def state_word(standing: Standing, state: State) -> str:
    """One word for people."""
    if standing.removed:
        return "removed"
    if state is State.UP:
        return "slow-start" if standing.step < RAMP_STEPS else "up"
    return "drain" if state is State.DRAINING else "down"


def _why(standing: Standing, state: State) -> str:
    if standing.removed:
        return "not listed any more"
    if state is State.DRAINING:
        return "an operator drains it"
    if state is State.UP and not standing.healthy:
        return f"panic: {standing.reason}"
    return standing.reason


def digest_of(tables: Iterable[tuple[str, int]]) -> int:
    """Over (service name, table digest), in whatever order: proto/pair.md §5, `tables`."""
    text = "\n".join(f"{name} {digest:016x}" for name, digest in sorted(tables))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
