"""What the engine counts is looked at, on a primary, and acted upon."""

from __future__ import annotations

import asyncio
from typing import Any

from hasyncd.config_services import Service
from hasyncd.runtime.passive_watch import PassiveWatch

PASSIVE = {"window_s": 5, "min_flows": 10, "down_s": 3}


def service(name: str, **more: Any) -> Service:
    return Service.model_validate(
        {
            "name": name,
            "vip": "203.0.113.5:80",
            "protocol": "tcp",
            "backends": [{"id": 7, "address": "10.0.1.21:80"}],
            **more,
        }
    )


def row(new: int, refused: int, server_id: int = 7) -> tuple[int, ...]:
    """As `Engine.backend_counters` gives it."""
    return server_id, 0, 0, new, 0, 0, 0, refused, refused


class Heard:
    """Everything a watch has done, in order."""

    def __init__(self, *services: Service) -> None:
        self.deeds: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.looks: asyncio.Queue[int] = asyncio.Queue()
        self.leads = True
        self.rows: dict[int, list[tuple[int, ...]]] = {}
        self.watch = PassiveWatch(
            services,
            lambda *what: self.deeds.put_nowait(("change", *what)),
            lambda *what: self.deeds.put_nowait(("check", *what)) or True,
            lambda *what: self.deeds.put_nowait(("event", *what)),
        )

    def count(self, index: int) -> list[tuple[int, ...]]:
        self.looks.put_nowait(index)
        return self.rows.get(index, [])

    async def look(self, times: int = 1) -> None:
        """Waits until each service has been looked at so many times more."""
        while not self.looks.empty():
            self.looks.get_nowait()
        for _ in range(times):
            await self.looks.get()


async def test_a_service_with_checks_is_checked_and_one_without_goes_down_and_is_tried() -> None:
    heard = Heard(
        service("plain"),
        service("checked", passive=PASSIVE, health={}),
        service("unchecked", passive=PASSIVE),
    )
    heard.rows = {1: [row(0, 0)], 2: [row(0, 0), row(500, 500, server_id=0)]}
    heard.watch.start(heard.count, lambda: heard.leads, interval_s=0.01)
    async with asyncio.timeout(30):
        await heard.look(2)
        heard.rows = {1: [row(10, 10)], 2: [row(10, 10)]}
        reason = "10 connections refused, 10 opened within 5 s"
        assert await heard.deeds.get() == ("event", "backend_suspect", f"checked/7: {reason}")
        assert await heard.deeds.get() == ("check", 1, 7)
        assert await heard.deeds.get() == ("change", 2, 7, False, reason)
        assert await heard.deeds.get() == ("change", 2, 7, True, "tried again after 3 s")
    await heard.watch.stop()
    assert heard.deeds.empty()


async def test_only_a_primary_looks_and_a_new_one_tries_what_was_down() -> None:
    heard = Heard(service("unchecked", passive=PASSIVE))
    heard.rows, heard.leads = {0: [row(50, 50)]}, False
    heard.watch.start(heard.count, lambda: heard.leads, interval_s=0.01)
    async with asyncio.timeout(30):
        await asyncio.sleep(0.05)
        assert heard.looks.empty()
        heard.watch.assume_down(0, 7)
        heard.leads = True
        assert await heard.deeds.get() == ("change", 0, 7, True, "tried again after 3 s")
    await heard.watch.stop()
    await heard.watch.stop()
