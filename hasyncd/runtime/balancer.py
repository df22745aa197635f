"""The services of a node: their health checks, and the tables that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hasyncd.balance.health import HealthChecks
from hasyncd.balance.services import Publication, Services
from hasyncd.balance.tables import BackendTable
from hasyncd.config_services import Service
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.table_publisher import TablePublisher

GRACE_NS: Final = 60 * 10**9
"""So long the table before answers for connections under way whose flow is not known."""


class Balancer:
    """Turns verdicts on backends into published tables."""

    def __init__(self, settings: tuple[Service, ...]) -> None:
        self.services = Services(settings)
        self._settings = settings
        self._generations = list(self.services.ring_generations())
        self._health = HealthChecks(settings, self._backend_changed, on_unable=self._cannot_ask)
        self._tables = TablePublisher(self._publish)

    def start(
        self,
        engine: Engine,
        on_generations: Callable[[tuple[int, ...]], None],
        report_event: Callable[[str, str], None],
    ) -> None:
        """Starts the checks in the running loop. `on_generations` hears which tables are in use."""
        self._engine, self._on_generations, self._report_event = engine, on_generations, report_event
        self._health.start()

    async def stop(self) -> None:
        """Nothing is published afterwards."""
        await self._health.stop()
        await self._tables.stop()

    def _backend_changed(self, index: int, backend_id: int, up: bool, reason: str) -> None:
        publication = self.services.set_backend_up(index, backend_id, up)
        if publication is None:
            return
        self._tables.want(publication)
        name = f"{self._settings[index].name}/{backend_id}"
        self._report_event("backend_up" if up else "backend_down", f"{name}: {reason}")

    def _cannot_ask(self, index: int, backend_id: int, reason: str) -> None:
        self._report_event("health_unknown", f"{self._settings[index].name}/{backend_id}: {reason}")

    def _publish(self, publication: Publication, table: BackendTable) -> None:
        self._engine.publish(publication.service, publication.backends, table, now_ns() + GRACE_NS)
        self._generations[publication.service] = publication.generation
        self._on_generations(tuple(self._generations))
