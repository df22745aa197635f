"""Health checks: when each backend is asked, and from how many answers in a row follows that it is up or down.

Every backend has a task of its own. The first checks of a service's n backends lie in the n parts of an interval, one
in each, so they never come together, and `jitter` keeps the two nodes and the services from falling into step. `rise`
successes in a row bring a backend up, `fall` failures in a row take it down; either result starts the other count
anew. What is missing on this machine (descriptors, memory, a free port) says nothing about the backend and counts for
neither.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from hasyncd.balance.probes import CannotAsk, Probe, Target, Unwell, reason_of
from hasyncd.balance.probes_choice import probe_for
from hasyncd.task_death import tell_of_death

if TYPE_CHECKING:
    from hasyncd.config_health import Health
    from hasyncd.config_services import Service

OnChange = Callable[[int, int, bool, str], None]
"""(service index, backend id, up, reason): a backend's state changed."""

OnUnable = Callable[[int, int, str], None]
"""(service index, backend id, reason): it cannot be asked from here. Said once for each reason in a row."""

_HURRY: Final = 0.1
"""Under suspicion, checks come after so much of the interval until it is confirmed or refuted."""


class Streak:
    """Counts results in a row; starts up. Pure."""

    def __init__(self, rise: int, fall: int) -> None:
        self.up = True
        self._rise, self._fall = rise, fall
        self._against = 0
        """Results in a row that contradict the present state."""

    @property
    def contested(self) -> bool:
        """Whether the last result contradicts the present state."""
        return self._against > 0

    def record(self, success: bool) -> bool:
        """Notes a result; True when the state changed by it."""
        if success == self.up:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self._fall if self.up else self._rise):
            return False
        self.assume(success)
        return True

    def assume(self, up: bool) -> None:
        """Takes over somebody else's verdict: it holds until results in a row of one's own speak against it."""
        self.up = up
        self._against = 0


class LastCheck(NamedTuple):
    """What the newest check showed."""

    good: bool | None
    """None: it could not be made."""
    reason: str


def phases(count: int, jitter: Callable[[], float]) -> Iterator[float]:
    """When each of `count` backends is first asked, in parts of the interval: a random point of a part of its own."""
    return ((place + jitter()) / count for place in range(count))


class _Check:
    """The checks of one backend, for as long as its task runs."""

    def __init__(self, index: int, target: Target, health: Health, probe: Probe) -> None:
        self.index = index
        self.target = target
        self.health = health
        self.probe = probe
        self.streak = Streak(health.rise, health.fall)
        self.last = LastCheck(None, "not yet checked")
        self.hurry = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def ask(self) -> LastCheck:
        """Asks once, for no longer than the target's timeout."""
        try:
            return await self._ask()
        except CannotAsk as shortage:
            return LastCheck(None, str(shortage))

    async def _ask(self) -> LastCheck:
        try:
            async with asyncio.timeout(self.target.timeout_s) as limit:
                return LastCheck(True, await self.probe.ask(self.target))
        except Unwell as unwell:
            return LastCheck(False, str(unwell))
        except OSError as error:
            if not limit.expired():
                return LastCheck(False, reason_of(error))
        if self.probe.silence is not None:
            return LastCheck(True, self.probe.silence)
        return LastCheck(False, f"no answer within {self.target.timeout_s:g} s")

    def same_as(self, target: Target, health: Health) -> bool:
        """Whether what would be asked is what is asked already."""
        return self.target == target and self.health == health


class HealthChecks:
    """Runs the checks of all services that have any; what it calls is called in the event loop."""

    def __init__(
        self,
        services: Sequence[Service],
        on_change: OnChange,
        *,
        on_unable: OnUnable = lambda *_: None,
        jitter: Callable[[], float] = random.random,
        probes: Callable[[Service, Health], Probe] = probe_for,
    ) -> None:
        """`jitter` gives numbers from 0 to 1; `probes` how a service's backends are asked."""
        self._services = services
        self._on_change, self._on_unable = on_change, on_unable
        self._jitter = jitter
        self._probes = probes
        self._checks: dict[tuple[str, int], _Check] = {}
        """By service name and backend id: both outlive a reload that changes their places."""
        self._running = False

    def start(self) -> None:
        """Starts the checks in the running loop."""
        assert not self._running, "started once"
        self._running = True
        self.replace(self._services)

    def replace(self, services: Sequence[Service]) -> None:
        """Goes on with other services: what is asked as before keeps its counts, what is not there any more ends.

        A backend that is asked otherwise keeps its state; one at another address is somebody new, and up.
        """
        self._services = services
        if not self._running:
            return
        before, self._checks = self._checks, {}
        for index, service in enumerate(services):
            if service.health is not None:
                self._take_up(index, service, service.health, before)
        for key, check in before.items():
            if self._checks.get(key) is not check and check.task is not None:
                check.task.cancel()

    def _take_up(
        self, index: int, service: Service, health: Health, before: dict[tuple[str, int], _Check]
    ) -> None:
        probe = self._probes(service, health)
        parts = phases(len(service.backends), self._jitter)
        for backend, phase in zip(service.backends, parts, strict=True):
            target = Target(
                service.name,
                backend.id,
                str(backend.address.address),
                health.port or backend.address.port,
                health.timeout_s(backend.health_timeout_ms),
            )
            key = service.name, backend.id
            known = before.get(key)
            if known is not None and known.same_as(target, health):
                self._checks[key] = known
                known.index = index
                continue
            check = self._checks[key] = _Check(index, target, health, probe)
            if known is not None and known.target.address == target.address:
                check.streak.assume(known.streak.up)
            name = f"health {service.name}/{backend.id}"
            check.task = asyncio.create_task(self._run(check, phase), name=name)
            check.task.add_done_callback(tell_of_death(f"the {name} check died"))

    async def stop(self) -> None:
        """Ends the checks; nothing is called afterwards. Idempotent."""
        self._running = False
        checks, self._checks = self._checks, {}
        tasks = [check.task for check in checks.values() if check.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check_now(self, index: int, backend_id: int) -> bool:
        """Something else speaks against a backend: it is asked at once, and then quickly until that is settled.

        False where it has no checks.
        """
        check = self._find(index, backend_id)
        if check is not None:
            check.hurry.set()
        return check is not None

    def assume(self, index: int, backend_id: int, up: bool) -> None:
        """Takes over a verdict that was made elsewhere: only results of our own from now on change it again."""
        if (check := self._find(index, backend_id)) is not None:
            check.streak.assume(up)

    def last(self, index: int, backend_id: int) -> LastCheck | None:
        """What the newest check showed; None where a backend has none."""
        check = self._find(index, backend_id)
        return None if check is None else check.last

    def _find(self, index: int, backend_id: int) -> _Check | None:
        return self._checks.get((self._services[index].name, backend_id))

    async def _run(self, check: _Check, phase: float) -> None:
        loop = asyncio.get_running_loop()
        interval_s = check.health.interval_ms / 1000
        suspected = await _pause(check, phase * interval_s)
        while True:
            began = loop.time()
            self._note(check, await check.ask())
            suspected = suspected and check.streak.contested
            spread = check.health.jitter * (2 * self._jitter() - 1)
            due = began + interval_s * (_HURRY if suspected else 1 + spread)
            suspected = await _pause(check, max(0.0, due - loop.time())) or suspected

    def _note(self, check: _Check, result: LastCheck) -> None:
        before, check.last = check.last, result
        if result.good is None:
            if before != result:
                self._on_unable(check.index, check.target.backend, result.reason)
        elif check.streak.record(result.good):
            self._on_change(check.index, check.target.backend, check.streak.up, result.reason)


async def _pause(check: _Check, seconds: float) -> bool:
    """Whether it was cut short by a suspicion."""
    try:
        async with asyncio.timeout(seconds):
            await check.hurry.wait()
    except TimeoutError:
        return False
    check.hurry.clear()
    return True
