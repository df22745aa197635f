"""What every traffic process does alike: its task in, its orders in, its reports out.

The task is one JSON object, the last argument. Orders come as JSON lines on standard input, reports leave as
JSON lines on standard output. A closed standard input means that the lab is gone: the process ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import sys
import time
from typing import Any


def start() -> dict[str, Any]:
    """Raises the limit of open files as far as it goes and returns the task."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    task: dict[str, Any] = json.loads(sys.argv[-1])
    return task


def now_ns() -> int:
    """CLOCK_BOOTTIME, which every process of the machine shares."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def cpu_seconds() -> float:
    """What this process has used so far, kernel part included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def report(what: dict[str, Any]) -> None:
    """One line to the lab."""
    sys.stdout.write(json.dumps(what, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Orders:
    """Standard input as lines, without blocking."""

    def __init__(self) -> None:
        self._rest = b""
        self.closed = False
        flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_NONBLOCK)

    def read(self) -> list[dict[str, Any]]:
        """The orders that have arrived; sets `closed` at the end."""
        try:
            data = os.read(0, 65_536)
        except BlockingIOError:
            return []
        if not data:
            self.closed = True
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line]
