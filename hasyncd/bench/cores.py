"""What a side costs: a process by the scheduler's own account, a whole core by what it was not idle."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hasyncd.lab.namespaces import LabError

ENDS_CORE, GATEWAY_CORE = 0, 1
"""The gateway and all that the kernel does for it have a core; clients, servers and the backup share the other."""

_ALLOWED = os.sched_getaffinity(0)


@contextlib.contextmanager
def on_ends_core() -> Iterator[None]:
    """This process, and what it starts, leaves the gateway's core alone. Raises LabError."""
    if not {ENDS_CORE, GATEWAY_CORE} <= _ALLOWED:
        raise LabError(
            f"a gateway and its backup need cores {ENDS_CORE} and {GATEWAY_CORE}; there are {_ALLOWED}"
        )
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {ENDS_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a process have run; what the kernel did for others meanwhile is in it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def core_busy_s(core: int) -> float:
    """CPU seconds that a core was not idle, since some moment long ago."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *figures = line.split()
        if name == f"cpu{core}":
            return time.monotonic() - (int(figures[3]) + int(figures[4])) / os.sysconf("SC_CLK_TCK")
    raise LabError(f"there is no core {core}")


def resident_bytes(pid: int) -> int:
    """The memory that a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LabError(f"process {pid} is gone")


@dataclass(frozen=True, slots=True)
class Spent:
    """A moment, or the difference of two: wall time and what both cores were busy, in seconds."""

    wall_s: float
    gateway_s: float
    ends_s: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.monotonic(), core_busy_s(GATEWAY_CORE), core_busy_s(ENDS_CORE))

    def since(self) -> Spent:
        now = Spent.now()
        return Spent(
            now.wall_s - self.wall_s, now.gateway_s - self.gateway_s, now.ends_s - self.ends_s
        )  # fmt: skip
