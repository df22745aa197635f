"""The services of a node: health, orders, sources and the primary's word in; published tables and ended flows out.

Who decides on what a backend is there for is `balance/membership.py`; here is whom it hears, and who hears of it. A
primary judges for the pair and tells its backup each table (proto/sync.md §4.4); a backup that was told follows, and
its own checks only go on so that it can judge when it leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from hasyncd.addresses import Address
from hasyncd.balance.health import HealthChecks
from hasyncd.balance.membership import Member, State
from hasyncd.balance.services import Publication, Services, digest_of
from hasyncd.balance.tables import BackendTable, first_tables
from hasyncd.config_services import Service, with_backends
from hasyncd.core.effects import FollowMembers
from hasyncd.core.members import MemberWord
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.backend_sources import BackendSources
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.flow_ender import BY_RESET, HOW, FlowEnder
from hasyncd.runtime.member_words import told_by, words_of
from hasyncd.runtime.passive_watch import PassiveWatch
from hasyncd.runtime.table_publisher import TablePublisher

_DIFFER_LOOKS: Final = 5
GRACE_NS: Final = 60 * 10**9
"""So long the table before answers for connections under way whose flow is not known."""


class Listener(Protocol):
    """Who hears which tables are in use: the shell."""

    def set_ring_generations(self, rings: tuple[int, ...], tables: int) -> None: ...
    def tell_members(self, service: str, ring_generation: int, members: Iterable[MemberWord]) -> None: ...


class Balancer:
    """Turns what is said of backends into published tables."""

    def __init__(self, settings: Sequence[Service], report_event: Callable[[str, str], None]) -> None:
        self.services = Services(settings)
        self.leads = False
        self.on_backends: Callable[[], None] = lambda: None
        """Hears that `addresses` may be others."""
        self._settings = tuple(settings)
        self._report_event = report_event
        self.first_tables = first_tables(self.services)
        self._generations = list(self.services.ring_generations())
        self._digests = [table.digest for _, (_, table) in self.first_tables]
        self._given_up: list[set[int]] = [set() for _ in settings]
        self._differ = 0
        self._words: dict[int, FollowMembers] = {}
        """The primary's last one on each service."""
        self._strangers: dict[int, list[str]] = {}
        self._health = HealthChecks(settings, self._judged, on_unable=self._cannot_ask)
        self._passive = PassiveWatch(settings, self._judged, self._health.check_now, report_event)
        self._tables = TablePublisher(self._publish)
        self._sources = BackendSources(self._looked_up, self._source_failed)

    def start(self, engine: Engine, listener: Listener) -> None:
        """Starts checks and sources in the running loop."""
        self._engine, self._listener = engine, listener
        self._ender = FlowEnder(engine.end_backend_flows, self._flows_ended)
        self._health.start()
        self._passive.start(engine.backend_counters, lambda: self.leads)
        self._sources.start(self._settings, lambda: self.leads)
        self._say_generations()
        for index in range(len(self._settings)):
            self._tell(index)

    async def stop(self) -> None:
        """Nothing is published afterwards."""
        await self._sources.stop()
        await self._passive.stop()
        await self._health.stop()
        await self._tables.stop()
        if hasattr(self, "_ender"):
            await self._ender.stop()

    @property
    def tables_digest(self) -> int:
        """Over all tables in use."""
        names = (service.name for service in self._settings)
        return digest_of(zip(names, self._digests, strict=True))

    def addresses(self) -> list[Address]:
        """Of all backends, those included that only have flows left."""
        every = (
            standing.member.address.address
            for index in range(len(self._settings))
            for standing, _ in self.services[index].states()
        )
        return list(dict.fromkeys(every))

    # --- the pair ----------------------------------------------------------------------------------

    def take_role(self, *, leads: bool) -> None:
        """A primary judges from what it was told as a backup: nothing flaps and nothing warms up anew."""
        took_over, self.leads = leads and not self.leads, leads
        if not took_over:
            return
        self._passive.forget()
        now = now_ns()
        for index in range(len(self._settings)):
            membership = self.services[index]
            membership.lead(now)
            for standing, state in membership.states():
                id = standing.member.id
                self._health.assume(index, id, standing.healthy)
                if not standing.healthy:
                    self._passive.assume_down(index, id)
                if state is State.DOWN:
                    self._given_up[index].add(id)
            self._settle(index)
            self._end_given_up(index)

    def follow(self, word: FollowMembers) -> None:
        """The primary's word. What does not fit this node's configuration is told, and the rest taken."""
        index = self.services.find(word.service)
        if index is None:
            self._report_strangers(-1, [f"service {word.service}"])
            return
        self._words[index] = word
        service, membership = self._settings[index], self.services[index]
        told = told_by(word.members)
        fits = [each for each in told if each.address.address.version == service.vip.address.version]
        before = membership.generation, membership.rows
        strangers = membership.follow(fits, word.ring_generation, now_ns(), adopt=service.source is not None)
        strangers += [str(each.address) for each in told if each not in fits]
        self._report_strangers(index, strangers)
        if (membership.generation, membership.rows) != before:
            self._tables.want(self.services.publication(index))
        self._tell(index)
        if service.source is not None:
            self._backends_changed()

    def compare(self, tables_match: bool | None) -> None:
        """Once a second: whether the peer's heartbeats name the tables that are in use here. A change needs a moment on
        the stream, so they differ only where they do for `_DIFFER_LOOKS` looks in a row."""
        self._differ = self._differ + 1 if tables_match is False else 0
        if self._differ == _DIFFER_LOOKS:
            self._report_event("tables_differ", f"ours: {self.tables_digest:016x}")

    def _report_strangers(self, index: int, strangers: list[str]) -> None:
        if strangers and strangers != self._strangers.get(index):
            names = ", ".join(strangers)
            where = self.services.name(index) if index >= 0 else "the configuration"
            self._report_event("members_unknown", f"{where}: the primary uses {names}")
        self._strangers[index] = strangers

    # --- orders ------------------------------------------------------------------------------------

    def drain(self, index: int, backend: int, timeout_s: float | None) -> None:
        """None: as configured, 0: without a deadline. Raises KeyError."""
        timeout_ns = None if timeout_s is None else round(timeout_s * 1e9)
        self.services[index].drain(backend, now_ns(), timeout_ns)
        self._report_event("backend_drained", self._name(index, backend))
        self._ordered(index)

    def undrain(self, index: int, backend: int) -> None:
        """Raises KeyError."""
        self.services[index].undrain(backend, now_ns())
        self._report_event("backend_undrained", self._name(index, backend))
        self._ordered(index)

    def weigh(self, index: int, backend: int, weight: int) -> None:
        """0: as configured. Raises KeyError."""
        self.services[index].weigh(backend, weight)
        self._report_event("backend_weighed", f"{self._name(index, backend)}: {weight or 'as configured'}")
        self._ordered(index)

    def _name(self, index: int, backend: int) -> str:
        return f"{self.services.name(index)}/{backend}"

    def _ordered(self, index: int) -> None:
        self._settle(index)
        self._tell(index)  # a deadline alone changes no table

    def replace(self, settings: Sequence[Service]) -> None:
        """A reloaded configuration: the same services, with other backends, weights, checks and policies."""
        changed = self.services.replace(settings, now_ns())
        self._settings = tuple(settings)
        for index in changed:
            self.set_balance(index)
            if self.services[index].following:
                self.follow(self._words[index])  # it may have named one that is known from here on
            self._settle(index)
            self._tell(index)
        self._backends_changed()
        self._sources.start(self._settings, lambda: self.leads)

    def set_balance(self, index: int) -> None:
        """Keys, limits and what an empty service says, to the engine."""
        service = self._settings[index]
        limit = round((service.load_limit or 0) * 100)
        self._engine.set_balance(index, service.key, limit, service.on_empty)

    # --- health and time ---------------------------------------------------------------------------

    def _judged(self, index: int, backend: int, up: bool, reason: str) -> None:
        membership = self.services[index]
        if membership.following:
            return
        try:
            membership.judge(backend, up, reason, now_ns())
        except KeyError:
            return  # its source has just forgotten it
        self._report_event(
            "backend_up" if up else "backend_down", f"{self.services.name(index)}/{backend}: {reason}"
        )
        self._settle(index)

    def _cannot_ask(self, index: int, backend: int, reason: str) -> None:
        self._report_event("health_unknown", f"{self.services.name(index)}/{backend}: {reason}")

    def look(self) -> None:
        """Several times a second: slow starts, deadlines of drains, and removed ones whose last flow has gone."""
        now = now_ns()
        for index in range(len(self._settings)):
            membership = self.services[index]
            if membership.following:
                continue
            deadline = membership.next_deadline_ns()
            if deadline is not None and now >= deadline:
                for backend in membership.pass_time(now):
                    self._report_event("drain_over", f"{self.services.name(index)}/{backend}")
                    self._ender.end(index, backend, BY_RESET)
                self._settle(index)
            self._forget_removed(index)

    def _forget_removed(self, index: int) -> None:
        membership = self.services[index]
        removed = [standing.member.id for standing, _ in membership.states() if standing.removed]
        if not removed:
            return
        flows = self._engine.backend_flow_counts(index)
        gone = [backend for backend in removed if not flows.get(backend)]
        for backend in gone:
            membership.forget(backend)
        if gone:
            self._settle(index)
            self.on_backends()

    # --- sources -----------------------------------------------------------------------------------

    def _looked_up(self, index: int, members: list[Member]) -> None:
        membership = self.services[index]
        listed = [standing.member for standing, _ in membership.states() if not standing.removed]
        if sorted(members) == sorted(listed) or not self.leads:
            return
        membership.replace(members, now_ns())
        ids = ", ".join(str(member.id) for member in members) or "none"
        self._report_event("source_changed", f"{self.services.name(index)}: {ids}")
        self._backends_changed()
        self._settle(index)

    def _source_failed(self, index: int, reason: str) -> None:
        self._report_event("source_failed", f"{self.services.name(index)}: {reason}")

    def _backends_changed(self) -> None:
        services = [
            service if service.source is None else with_backends(service, self._listed(index))
            for index, service in enumerate(self._settings)
        ]
        self._health.replace(services)
        self._passive.replace(services)
        self.on_backends()

    def _listed(self, index: int) -> list[Member]:
        return [standing.member for standing, _ in self.services[index].states() if not standing.removed]

    # --- tables ------------------------------------------------------------------------------------

    def _settle(self, index: int) -> None:
        publication = self.services.settle(index)
        if publication is not None:
            self._given_up[index] |= publication.given_up
            self._tables.want(publication)

    def _publish(self, publication: Publication, table: BackendTable) -> None:
        index = publication.service
        try:
            self._engine.publish(index, publication.backends, table, now_ns() + GRACE_NS)
        except ValueError as error:
            self._report_event("table_not_published", f"{self.services.name(index)}: {error}")
            return
        self._generations[index] = publication.generation
        self._digests[index] = table.digest
        self._say_generations()
        self._tell(index)
        self._end_given_up(index)

    def _end_given_up(self, index: int) -> None:
        given_up, self._given_up[index] = self._given_up[index], set()
        how = HOW.get(self._settings[index].on_down)
        if how is not None and self.leads:
            for backend in given_up:
                self._ender.end(index, backend, how)

    def _flows_ended(self, index: int, backend: int, count: int) -> None:
        if count:
            self._report_event("backend_flows_ended", f"{self.services.name(index)}/{backend}: {count} flows")

    def _say_generations(self) -> None:
        self._listener.set_ring_generations(tuple(self._generations), self.tables_digest)

    def _tell(self, index: int) -> None:
        membership = self.services[index]
        words = words_of(membership.tell(now_ns()))
        self._listener.tell_members(self.services.name(index), membership.generation, words)
