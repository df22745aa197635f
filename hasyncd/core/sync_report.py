"""What the last sync was and cost, for `status`; both halves of a stream keep one."""

from __future__ import annotations

from dataclasses import replace

from hasyncd.core.buckets import bucket_count, count_suspects
from hasyncd.core.effects import ReportEvent
from hasyncd.core.types import LastSync


class SyncReport:
    def __init__(self) -> None:
        self.last: LastSync | None = None
        """The last one that was completed."""
        self.full_syncs = 0
        self.least_syncs = 0
        """Begun, of each kind."""
        self._running: LastSync | None = None
        self._began_ns = 0

    def resume(self, now_ns: int) -> None:
        """The stream goes on, and no table is sent."""
        self.last = LastSync("resume")
        self._running = None
        self._began_ns = now_ns

    def begin(self, suspects: bytes, capacity: int, now_ns: int) -> None:
        """SYNC_BEGIN with these suspects, of a table of `capacity` slots."""
        self.full_syncs += not suspects
        self.least_syncs += bool(suspects)
        kind = "least" if suspects else "full"
        self._running = LastSync(kind, bucket_count(capacity), count_suspects(suspects, capacity))
        self._began_ns = now_ns

    def note(self, **fields: int) -> None:
        """Figures of the one that runs, under their names in `LastSync`."""
        if self._running is not None:
            self._running = replace(self._running, **fields)  # type: ignore[arg-type]

    def finish(self, now_ns: int) -> LastSync | None:
        """The tables are proven equal. None: no sync was running."""
        if self._running is None:
            return None
        self.last = replace(self._running, duration_ns=now_ns - self._began_ns)
        self._running = None
        return self.last


def tell_findings(sync: LastSync) -> ReportEvent:
    """What a least sync came to, for the log."""
    if not sync.suspects:
        return ReportEvent("sync_compared", f"none of {sync.buckets:,} buckets differed")
    return ReportEvent(
        "sync_repaired",
        f"{sync.suspects:,} of {sync.buckets:,} buckets differed: {sync.replaced:,} flows replaced, "
        f"{sync.added:,} added, {sync.removed:,} removed",
    )
