"""What happened, said once: a log line for people, an event for whoever follows, the last ones kept."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from hasyncd.core.effects import ReportRole

_KEPT: Final = 64
_FOLLOWER_BACKLOG: Final = 1024
_LEVELS: Final = {"promoted_incomplete": logging.ERROR, "commit_suspended": logging.WARNING}
"""What an operator should be woken for, or hear of soon."""

_log = structlog.get_logger("hasyncd")


class _Follower:
    """One reader of the events: what waits for it, and how much did not fit."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_FOLLOWER_BACKLOG)
        self.lost = 0


class Journal:
    """Events of one daemon. Followers that read too slowly lose events and are told how many."""

    def __init__(self) -> None:
        self.on_role: Callable[[ReportRole], None] | None = None
        """Hears of each role change, too."""
        self.recent: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._followers: set[_Follower] = set()

    def report_role(self, effect: ReportRole) -> None:
        """One line for each role change that says why."""
        if self.on_role is not None:
            self.on_role(effect)
        certificate = dataclasses.asdict(effect.certificate) if effect.certificate else None
        self._say(
            "role_changed",
            previous=effect.previous.value,
            role=effect.role.value,
            generation=effect.generation,
            reason=effect.reason,
            **({"certificate": certificate} if certificate else {}),
        )

    def report_event(self, name: str, detail: str = "") -> None:
        self._say(name, **({"detail": detail} if detail else {}))

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Every event from now on."""
        follower = _Follower()
        self._followers.add(follower)
        try:
            while True:
                yield await follower.queue.get()
                if follower.lost and follower.queue.empty():
                    lost, follower.lost = follower.lost, 0
                    yield _event("events_lost", count=lost)
        finally:
            self._followers.discard(follower)

    def _say(self, name: str, **fields: Any) -> None:
        _log.log(_LEVELS.get(name, logging.INFO), name, **fields)
        event = _event(name, **fields)
        self.recent.append(event)
        for follower in self._followers:
            try:
                follower.queue.put_nowait(event)
            except asyncio.QueueFull:
                follower.lost += 1


def _event(name: str, **fields: Any) -> dict[str, Any]:
    # Wall-clock time is for readers only; no decision ever sees it.
    return {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **fields}
