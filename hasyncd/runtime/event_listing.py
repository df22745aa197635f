"""What `events` answers: what happens from now on, behind what is kept of the past where that is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from hasyncd.runtime.control_server import EXIT_USAGE, Conclusion
from hasyncd.runtime.event_names import EVENTS
from hasyncd.runtime.journal import Journal

TYPES_MAX: Final = 64
SINCE_MAX_S: Final = 366 * 86_400

Event = dict[str, Any]


async def events(journal: Journal, request: Mapping[str, Any]) -> AsyncIterator[Event]:
    """`types`: names, `*` standing for anything; `since_s`: first what is kept of so many seconds; `follow` false:
    nothing comes after it. Raises Conclusion where the request is no good."""
    wanted = _wanted(request)
    since_s = request.get("since_s")
    if since_s is not None:
        if type(since_s) not in (int, float) or not 0 <= since_s <= SINCE_MAX_S:
            raise Conclusion(f"since_s: seconds, at most {SINCE_MAX_S:,}", EXIT_USAGE)
        # Wall-clock time, as the events have it: for readers only.
        earliest = (datetime.now(UTC) - timedelta(seconds=since_s)).isoformat(timespec="milliseconds")
        is_of_type = wanted

        def wanted(event: Event) -> bool:
            return event["time"] >= earliest and is_of_type(event)

    if request.get("follow") is False:
        for event in list(journal.recent):
            if wanted(event):
                yield event
        return
    async for event in journal.follow(wanted, kept=since_s is not None):
        yield event


def _wanted(request: Mapping[str, Any]) -> Callable[[Event], bool]:
    types = request.get("types", [])
    if not isinstance(types, list) or len(types) > TYPES_MAX or not all(isinstance(t, str) for t in types):
        raise Conclusion(f"types: a list of {TYPES_MAX} names at most", EXIT_USAGE)
    names = {name for name in EVENTS for pattern in types if fnmatchcase(name, pattern)}
    for pattern in types:
        if not any(fnmatchcase(name, pattern) for name in EVENTS):
            raise Conclusion(f"types: no event is called {pattern!r:.80} (deploy/events.md)", EXIT_USAGE)
    return (lambda event: event["event"] in names) if types else (lambda event: True)
