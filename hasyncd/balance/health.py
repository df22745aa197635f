"""Health checks: may a TCP connection be opened to the backend?

Each backend has a task of its own that checks every `interval`, the first time after a random part of it so
that the checks of many backends do not fall together. `rise` successes in a row bring a backend up, `fall`
failures in a row take it down; either result starts the other count anew. What is this machine's own shortage
(no descriptors, no memory, no free port) says nothing about the backend and counts for neither.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hasyncd.config import Service

Connect = Callable[[str, int], Awaitable[None]]
"""Opens and closes a connection to (address, port); raises OSError where there is none to be had."""

OnChange = Callable[[int, int, bool, str], None]
"""(service index, backend id, up, reason): a backend's state changed."""

_LOCAL_SHORTAGES: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_TIMEOUT_MAX_S: Final = 5.0


class Streak:
    """Counts results in a row; starts up. Pure."""

    def __init__(self, rise: int, fall: int) -> None:
        self.up = True
        self._rise, self._fall = rise, fall
        self._against = 0
        """Results in a row that contradict the present state."""

    def record(self, success: bool) -> bool:
        """Notes a result; True when the state changed by it."""
        if success == self.up:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self._fall if self.up else self._rise):
            return False
        self.up = success
        self._against = 0
        return True


class HealthChecks:
    """Runs the checks of all services that have any; `on_change` is called in the event loop."""

    def __init__(
        self,
        services: Sequence[Service],
        on_change: OnChange,
        *,
        jitter: Callable[[], float] = random.random,
        connect: Connect | None = None,
    ) -> None:
        """`jitter` gives the part (0 … 1) of the interval before a backend's first check."""
        self._services = services
        self._on_change = on_change
        self._jitter = jitter
        self._connect = connect or connect_once
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the checks in the running loop."""
        assert not self._tasks, "started once"
        for index, service in enumerate(self._services):
            if service.health is None:
                continue
            for backend in service.backends:
                check = self._check(
                    (index, backend.id),
                    (str(backend.address.address), backend.address.port),
                    service.health.interval_ms / 1000,
                    Streak(service.health.rise, service.health.fall),
                )
                name = f"health {service.name}/{backend.id}"
                task = asyncio.create_task(check, name=name)
                task.add_done_callback(_complain)
                self._tasks.append(task)

    async def stop(self) -> None:
        """Ends the checks; `on_change` is not called afterwards. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(
        self, backend: tuple[int, int], address: tuple[str, int], interval_s: float, streak: Streak
    ) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._jitter() * interval_s)
        while True:
            began = loop.time()
            success, reason = await self._judge(address, min(interval_s, _TIMEOUT_MAX_S))
            if success is not None and streak.record(success):
                self._on_change(*backend, streak.up, reason)
            await asyncio.sleep(max(0.0, began + interval_s - loop.time()))

    async def _judge(self, address: tuple[str, int], timeout_s: float) -> tuple[bool | None, str]:
        """(success, reason); None when this machine could not even try."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(*address)
        except TimeoutError:
            return False, f"no answer within {timeout_s:g} s"
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            return (None if error.errno in _LOCAL_SHORTAGES else False), reason
        return True, "connection accepted"


def _complain(task: asyncio.Task[None]) -> None:
    """A check ends only when cancelled; one that died of a bug leaves its backend as it was, and is told."""
    if not task.cancelled() and (error := task.exception()) is not None:
        message = f"the {task.get_name()} check died"
        task.get_loop().call_exception_handler({"message": message, "exception": error, "task": task})


async def connect_once(address: str, port: int) -> None:
    """Opens a TCP connection and resets it: no TIME_WAIT is left behind on either side."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
