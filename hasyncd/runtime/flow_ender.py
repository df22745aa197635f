"""Ends the flows of backends that are given up, a bite at a time, so that packets never wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hasyncd.task_death import tell_of_death

BY_RESET, RESELECTED = 1, 2
"""How, as `Engine.end_backend_flows` takes it."""
HOW: Final = {"reset": BY_RESET, "reselect": RESELECTED}
"""By the words of `on_down`; `keep` ends nothing."""
_SLOTS_PER_BITE: Final = 16_384

EndFlows = Callable[[int, int, int, int, int], tuple[int, int]]
"""`Engine.end_backend_flows`: (service, backend, how, slot, count) -> (next slot or -1, how many ended)."""


class FlowEnder:
    """One walk over the table for each backend; another order for the same one begins it anew."""

    def __init__(self, end_flows: EndFlows, on_ended: Callable[[int, int, int], None]) -> None:
        """`on_ended` hears (service, backend, flows ended) at the end of a walk."""
        self._end_flows, self._on_ended = end_flows, on_ended
        self._walks: dict[tuple[int, int], asyncio.Task[None]] = {}

    def end(self, service: int, backend: int, how: int) -> None:
        """Begins to end the flows of a backend that is not up: one that comes up meanwhile keeps the rest."""
        if (walk := self._walks.pop((service, backend), None)) is not None:
            walk.cancel()
        task = asyncio.create_task(self._walk(service, backend, how), name=f"flows of {service}/{backend}")
        self._walks[service, backend] = task
        task.add_done_callback(tell_of_death(f"the {task.get_name()} were not all ended"))

    async def stop(self) -> None:
        """Ends nothing more. Idempotent."""
        walks = list(self._walks.values())
        for walk in walks:
            walk.cancel()
        await asyncio.gather(*walks, return_exceptions=True)

    async def _walk(self, service: int, backend: int, how: int) -> None:
        slot, ended = 0, 0
        while slot >= 0:
            slot, some = self._end_flows(service, backend, how, slot, _SLOTS_PER_BITE)
            ended += some
            await asyncio.sleep(0)
        self._on_ended(service, backend, ended)
        if self._walks.get((service, backend)) is asyncio.current_task():
            del self._walks[service, backend]
