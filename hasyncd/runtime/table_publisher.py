"""Builds backend tables beside the event loop and publishes them, the newest of each service only.

A large table takes tens of milliseconds. While one is built, further changes of its service only replace what is
wanted next: a hundred backends that are deployed one by one cost a handful of tables, not a hundred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hasyncd.balance.services import Publication
from hasyncd.balance.tables import BackendTable, build_table
from hasyncd.task_death import tell_of_death

Publish = Callable[[Publication, BackendTable], None]
"""Puts a table in the data path; called in the event loop."""


class TablePublisher:
    """At most one table of a service is built at a time, and each one published is newer than the last."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._wanted: dict[int, Publication] = {}
        self._building: dict[int, asyncio.Task[None]] = {}

    def want(self, publication: Publication) -> None:
        """Will be published, unless a newer one of its service is wanted before that."""
        self._wanted[publication.service] = publication
        if publication.service not in self._building:
            task = asyncio.create_task(
                self._build(publication.service), name=f"backend table {publication.service}"
            )
            self._building[publication.service] = task
            task.add_done_callback(tell_of_death(f"{task.get_name()} was not published"))

    async def settled(self) -> None:
        """Returns when no table is on its way."""
        while self._building:
            await asyncio.wait(self._building.values())

    async def stop(self) -> None:
        """Publishes nothing more. Idempotent."""
        tasks = list(self._building.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, service: int) -> None:
        try:
            while (publication := self._wanted.pop(service, None)) is not None:
                self._publish(publication, await asyncio.to_thread(build_table, publication))
        finally:
            del self._building[service]
