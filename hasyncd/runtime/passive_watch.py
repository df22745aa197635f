"""Looks once a second at what the packet engine has counted for each backend, and acts on what follows.

Only a primary looks: nobody else has traffic to judge by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hasyncd.balance.health import OnChange
from hasyncd.balance.passive import Counts, Deed, Finding, PassiveJudge
from hasyncd.config_services import Service
from hasyncd.task_death import tell_of_death

CountBackends = Callable[[int], Sequence[tuple[int, ...]]]
"""`Engine.backend_counters`."""


class PassiveWatch:
    """The services that have `passive`; what it calls is called in the event loop."""

    def __init__(
        self,
        services: Sequence[Service],
        on_change: OnChange,
        check_now: Callable[[int, int], bool],
        report_event: Callable[[str, str], None],
    ) -> None:
        """`on_change` hears of backends without health checks, `check_now` of those that have some."""
        self._on_change, self._check_now, self._report_event = on_change, check_now, report_event
        self._services = services
        self._judges: dict[int, PassiveJudge] = {}
        self._second = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, count: CountBackends, leads: Callable[[], bool], interval_s: float = 1.0) -> None:
        """Starts looking in the running loop, where there is anything to look at."""
        self.replace(self._services)
        self._task = asyncio.create_task(self._run(count, leads, interval_s), name="passive health")
        self._task.add_done_callback(tell_of_death("the passive health watch died"))

    async def stop(self) -> None:
        """Nothing is called afterwards. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def replace(self, services: Sequence[Service]) -> None:
        """Goes on with other services, as if nothing had been seen."""
        self._services = services
        self.forget()

    def forget(self) -> None:
        """What was seen so far counts no more."""
        self._judges = {
            index: PassiveJudge(service.passive, checked=service.health is not None)
            for index, service in enumerate(self._services)
            if service.passive is not None
        }

    def assume_down(self, index: int, backend_id: int) -> None:
        """The primary before us had it down: where it has no checks, it is tried in its time."""
        if (judge := self._judges.get(index)) is not None:
            judge.assume_down(backend_id, self._second)

    async def _run(self, count: CountBackends, leads: Callable[[], bool], interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self._second += 1
            if leads():
                for index, judge in self._judges.items():
                    counted = {
                        row[0]: Counts(row[3], row[6], row[8], row[7]) for row in count(index) if row[0]
                    }
                    for finding in judge.note(self._second, counted):
                        self._act(index, finding)

    def _act(self, index: int, finding: Finding) -> None:
        match finding.deed:
            case Deed.SUSPECT:
                self._report_event(
                    "backend_suspect", f"{self._services[index].name}/{finding.backend}: {finding.reason}"
                )
                self._check_now(index, finding.backend)
            case Deed.DOWN | Deed.TRY:
                self._on_change(index, finding.backend, finding.deed is Deed.TRY, finding.reason)
