"""A program: how long records of a running primary wait for their acknowledgement, read from its last-word file.

Arguments: file, seconds between two looks. Says `looks`, looks until its standard input ends and prints when the first
record was appended that makes no flow at-risk (a cursor's, over flows that the peer once had; 0: there was none), a
line for each one that does (ADDs and changes of state): when it was appended and its delay. Moments are CLOCK_BOOTTIME,
everything is in nanoseconds. The primary does not notice: the file is its delta log's memory (proto/last_word.md). A
delay is told by the next look, so it is too long by up to the time between two.
"""

from __future__ import annotations

import mmap
import select
import struct
import sys
import time
from pathlib import Path

_HEAD_BYTES = 4096
_SCAN = 4096
"""Records in which a cursor's first one is looked for between two looks."""
_LIMITS = struct.Struct("=5I")  # layout, entry_size, capacity, record_offset, at_risk_offset
_WORD = struct.Struct("=Q")


class Log:
    """The file of a node that lives."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._memory[:8] != b"hasynclg":
            raise SystemExit(f"log_delays: {path} is no last word")
        _, self._entry_size, self._capacity, _, self._risk_offset = _LIMITS.unpack_from(self._memory, 8)

    @property
    def acknowledged(self) -> int:
        return int(_WORD.unpack_from(self._memory, 48)[0])

    @property
    def next(self) -> int:
        return int(_WORD.unpack_from(self._memory, 56)[0])

    def appended_ns(self, first: int, last: int, *, at_risk: bool = True) -> list[int]:
        """When the records `first` … `last` were appended, the at-risk ones or the others; those that the log still
        holds."""
        first = max(first, self.next - self._capacity)
        found: list[int] = []
        while first <= last:
            place = first % self._capacity
            count = min(last + 1 - first, self._capacity - place)
            begin = _HEAD_BYTES + place * self._entry_size
            end = begin + count * self._entry_size
            flags = self._memory[begin + self._risk_offset : end : self._entry_size]
            at = flags.find(at_risk)
            while at >= 0:
                found.append(_WORD.unpack_from(self._memory, begin + at * self._entry_size)[0])
                at = flags.find(at_risk, at + 1)
            first += count
        return found


def main() -> None:
    log, pause_s = Log(Path(sys.argv[1])), float(sys.argv[2])
    seen: list[tuple[int, int]] = []
    before, head, began = log.acknowledged, log.next, 0
    print("looks", flush=True)
    while not select.select([sys.stdin], [], [], pause_s)[0]:
        now, moment_ns = log.acknowledged, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if now > before:
            seen += [(at, moment_ns - at) for at in log.appended_ns(before + 1, now)]
        before = now
        if not began and log.next > head:
            first, head = head, min(log.next, head + _SCAN)
            began = min(log.appended_ns(first, head - 1, at_risk=False), default=0)
    print("\n".join([str(began), *(f"{at} {delay}" for at, delay in seen)]))


if __name__ == "__main__":
    main()
