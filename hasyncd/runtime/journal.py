"""What happened, said once: a log line for people, an event for whoever follows, the last ones kept."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from hasyncd.core.effects import ReportRole
from hasyncd.runtime.event_names import EVENTS
from hasyncd.runtime.role_reasons import reason_word

_KEPT: Final = 512
_FOLLOWER_BACKLOG: Final = 1024

_log = structlog.get_logger("hasyncd")


class _Follower:
    """One reader of the events: what waits for it, and how much did not fit."""

    def __init__(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        self.wanted = wanted
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_FOLLOWER_BACKLOG)
        self.lost = 0


class Journal:
    """Events of one daemon. Followers that read too slowly lose events and are told how many."""

    def __init__(self) -> None:
        self.on_role: Callable[[ReportRole], None] | None = None
        """Hears of each role change, too."""
        self.recent: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.counts: Counter[str] = Counter()
        """Events by name, since the start."""
        self.role_changes: Counter[tuple[str, str]] = Counter()
        """By the role taken and the word for its reason."""
        self.role_changed_s: float | None = None
        """When the last one was, in Unix time."""
        self._followers: set[_Follower] = set()

    def report_role(self, effect: ReportRole) -> None:
        """One line for each role change that says why."""
        if self.on_role is not None:
            self.on_role(effect)
        self.role_changes[effect.role.value, reason_word(effect.reason)] += 1
        self.role_changed_s = datetime.now(UTC).timestamp()
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

    async def follow(
        self, wanted: Callable[[dict[str, Any]], bool] = lambda event: True, *, kept: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """Every wanted event from now on, behind those that are `kept`. What a follower has lost it is always told."""
        follower = _Follower(wanted)
        self._followers.add(follower)
        try:
            # Nothing happens between the subscription and this copy: each event comes once.
            for event in list(self.recent) if kept else ():
                if wanted(event):
                    yield event
            while True:
                yield await follower.queue.get()
                if follower.lost and follower.queue.empty():
                    lost, follower.lost = follower.lost, 0
                    yield _event("events_lost", count=lost)
        finally:
            self._followers.discard(follower)

    def _say(self, name: str, **fields: Any) -> None:
        self.counts[name] += 1
        known = EVENTS.get(name)
        _log.log(known.level if known else logging.INFO, name, **fields)
        event = _event(name, **fields)
        self.recent.append(event)
        for follower in self._followers:
            if not follower.wanted(event):
                continue
            try:
                follower.queue.put_nowait(event)
            except asyncio.QueueFull:
                follower.lost += 1


def _event(name: str, **fields: Any) -> dict[str, Any]:
    # Wall-clock time is for readers only; no decision ever sees it.
    return {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **fields}
