"""The one clock of the shell: CLOCK_BOOTTIME, which the lease in the data path is checked against."""

from __future__ import annotations

import time


def now_ns() -> int:
    """Nanoseconds of CLOCK_BOOTTIME: goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
