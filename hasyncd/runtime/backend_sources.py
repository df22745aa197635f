"""Asks the sources of backends, on the primary only: the backup is told what came of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from hasyncd.balance.membership import Member
from hasyncd.balance.sources import BadList, members_at, read_list
from hasyncd.config_services import Service, Source
from hasyncd.task_death import tell_of_death

FILE_INTERVAL_S: Final = 1.0
_FILE_BYTES_MAX: Final = 1 << 20
_DNS_TIMEOUT_S: Final = 5.0
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

OnMembers = Callable[[int, list[Member]], None]
"""(service index, backends): the source has answered."""


class BackendSources:
    """One task a service that has a source; what it calls is called in the event loop."""

    def __init__(self, on_members: OnMembers, on_failure: Callable[[int, str], None]) -> None:
        """`on_failure` hears (service index, reason), once for each reason in a row."""
        self._on_members, self._on_failure = on_members, on_failure
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, services: Sequence[Service], leads: Callable[[], bool]) -> None:
        """Asks these services' sources from now on, and no others any more; nobody while `leads` is false."""
        self._cancel()
        for index, service in enumerate(services):
            if service.source is not None:
                name = f"source of {service.name}"
                task = asyncio.create_task(self._run(index, service, service.source, leads), name=name)
                task.add_done_callback(tell_of_death(f"the {name} died"))
                self._tasks.append(task)

    async def stop(self) -> None:
        """Calls nothing afterwards. Idempotent."""
        tasks = self._cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cancel(self) -> list[asyncio.Task[None]]:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    async def _run(self, index: int, service: Service, source: Source, leads: Callable[[], bool]) -> None:
        interval_s = FILE_INTERVAL_S if source.dns is None else source.interval_s
        told = ""
        while True:
            if leads():
                try:
                    members, told = await look_up(service, source), ""
                except (BadList, OSError, TimeoutError) as error:
                    if (reason := _reason(error)) != told:
                        self._on_failure(index, reason)
                    told = reason
                else:
                    self._on_members(index, members)
            await asyncio.sleep(interval_s if leads() else min(interval_s, FILE_INTERVAL_S))


async def look_up(service: Service, source: Source) -> list[Member]:
    """What the source says now. Raises BadList, OSError, TimeoutError."""
    version = service.vip.address.version
    if source.file is not None:
        return read_list(_text(source.file), version)
    assert source.dns is not None, "either of both (config_services.py)"
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_DNS_TIMEOUT_S):
        found = await loop.getaddrinfo(source.dns, None, family=_FAMILIES[version], type=socket.SOCK_STREAM)
    return members_at((ip_address(row[4][0]) for row in found), source.port or service.vip.port)


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise BadList(f"{file} is larger than {_FILE_BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadList(f"{file} is not UTF-8 text") from None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_DNS_TIMEOUT_S:g} s"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
