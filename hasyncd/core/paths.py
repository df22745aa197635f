"""By which ways the peer is heard, and hears us: proto/pair.md §5b.

1. Nothing here decides over roles: the first copy of a heartbeat does, whatever path it came by (P7, `liveness.py`).
   What is known here is told to the operator, to the peer (`hears`) and to the stream, which has the path `sync` alone.
2. A path is up when it works both ways: heard within dead_after, and the peer's newest heartbeat says the same of us.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hasyncd.core.messages import Heartbeat
from hasyncd.core.types import MILLISECOND_NS, PairSettings

SYNC = "sync"
NAMES = (SYNC, "inside", "outside")
"""In the order of their bits."""


def bit_of(name: str) -> int:
    """The path's bit in `Heartbeat.hears`."""
    return 1 << NAMES.index(name)


@dataclass(slots=True)
class Path:
    name: str
    heard_ns: int | None = None
    """When a heartbeat last came by it, a first copy or a later one."""
    counter: int = 0
    """The highest that came by it: its replay window."""
    is_heard: bool = False
    """Of the peer, at this end; `hears_us`: of us, at the peer's, as its newest heartbeat says."""
    hears_us: bool = False
    up: bool | None = None
    """None: not judged yet."""


@dataclass(frozen=True, slots=True)
class PathChange:
    name: str
    up: bool
    why: str


class Paths:
    """All paths that are configured, of the one process of the peer's that is heard."""

    def __init__(self, settings: PairSettings, now_ns: int) -> None:
        self._dead_after_ns = settings.dead_after_ns
        self._paths = {name: Path(name) for name in NAMES if name in settings.paths}
        self._boot_id: int | None = None
        self._judge_from_ns = now_ns

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths.values())

    def is_later_copy(self, name: str, beat: Heartbeat, newest: Heartbeat | None) -> bool:
        """Whether another path was faster with this very heartbeat, or with one that was sent after it."""
        path = self._paths.get(name)
        return (
            path is not None and newest is not None and beat.boot_id == newest.boot_id
            and path.counter < beat.counter <= newest.counter
        )  # fmt: skip

    def hear(self, name: str, beat: Heartbeat, now_ns: int) -> None:
        """A heartbeat that was accepted, or a later copy of one, has come by this path."""
        if beat.boot_id != self._boot_id:
            # Another process: it hears us on no path yet, and is given the time to.
            self._paths = {known: Path(known) for known in self._paths}
            self._boot_id, self._judge_from_ns = beat.boot_id, now_ns
        path = self._paths.get(name)
        if path is not None:
            path.heard_ns, path.counter, path.is_heard = now_ns, max(path.counter, beat.counter), True

    def learn(self, beat: Heartbeat) -> None:
        """What the newest heartbeat says of the other direction."""
        for path in self._paths.values():
            path.hears_us = bool(beat.hears & bit_of(path.name))

    def listen_from(self, now_ns: int) -> None:
        """Silence counts from here: we have slept."""
        self._judge_from_ns = now_ns

    def judge(self, now_ns: int) -> list[PathChange]:
        """What has changed; call it after every heartbeat and when `next_deadline_ns` has come."""
        if self._boot_id is None:
            return []
        changes = []
        for path in self._paths.values():
            if path.is_heard and now_ns >= self._silent_at_ns(path):
                path.is_heard = False
            up = path.is_heard and path.hears_us
            in_time = path.up is None and now_ns < self._judge_from_ns + self._dead_after_ns
            if up is path.up or (not up and in_time):
                continue
            path.up = up
            changes.append(PathChange(path.name, up, "" if up else self._what_is_missing(path, now_ns)))
        return changes

    def _silent_at_ns(self, path: Path) -> int:
        return max(path.heard_ns or 0, self._judge_from_ns) + self._dead_after_ns

    def _what_is_missing(self, path: Path, now_ns: int) -> str:
        if path.heard_ns is None:
            return "the peer was never heard there"
        if not path.is_heard:
            return f"the peer was not heard there for {(now_ns - path.heard_ns) // MILLISECOND_NS} ms"
        return "the peer does not hear us there"

    def is_down(self, name: str) -> bool:
        """Judged, and found down."""
        path = self._paths.get(name)
        return path is not None and path.up is False

    def hears(self) -> int:
        """The bits that our heartbeats carry."""
        return sum(bit_of(path.name) for path in self._paths.values() if path.is_heard)

    def next_deadline_ns(self) -> int | None:
        """When `judge` may find a silence that it has not told yet."""
        if self._boot_id is None:
            return None
        earliest = None
        for path in self._paths.values():
            if path.is_heard:
                deadline = self._silent_at_ns(path)
            elif path.up is None:
                deadline = self._judge_from_ns + self._dead_after_ns
            else:
                continue
            if earliest is None or deadline < earliest:
                earliest = deadline
        return earliest
