"""How the end-to-end tests play a drill: small and quiet, in this process or as the command that users type."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions, PairMaker, Result, run_drill
from hasyncd.lab.lock import LabLock
from hasyncd.lab.namespaces import LabError, lab_namespaces
from hasyncd.lab.report import Silent
from hasyncd.lab.scenarios import Scenario

_TURN_S = 0.5
_LOCK_TIMEOUT_S = 240


def play(scenario: Scenario, options: DrillOptions, make_pair: PairMaker | None = None) -> Result:
    """Plays one drill under the machine's lab lock. Raises LabError where no lab can be built."""
    with _lab_lock():
        return asyncio.run(run_drill(scenario, options, Silent(), make_pair))


def small(tcp: int = 40, udp: int = 20, ipv6: int = 20) -> Load:
    """A load that leaves a shared machine air to breathe."""
    return Load(tcp=tcp, udp=udp, ipv6=ipv6, pace_ms=100, open_rate=20)


SMALL = ("--tcp", "40", "--udp", "20", "--open-rate", "20")


def hasyncd(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end; waits while somebody else's lab runs on this machine."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "hasyncd", *words], capture_output=True, text=True, check=False
        )
        if "another lab runs" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(_TURN_S)


def start_hasyncd(*words: str) -> subprocess.Popen[bytes]:
    """Starts the command as a shell would: the leader of a process group that gets the ctrl-C."""
    with _lab_lock():
        pass  # nobody else's lab runs now
    return subprocess.Popen(
        [sys.executable, "-m", "hasyncd", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )


@contextmanager
def _lab_lock() -> Iterator[None]:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        lock = LabLock()
        try:
            lock.__enter__()
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_TURN_S)
        else:
            break
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def leftovers(lab_id: int) -> list[str]:
    """What the lab of process `lab_id` has left on the machine: namespaces, processes, files."""
    mark = f"hs-{lab_id}-lab-"
    found = [name for name in lab_namespaces() if name.startswith(mark)]
    found += [str(path) for path in Path("/run/hasyncd").glob("gw-?.sock")]
    found += [f"/tmp/{name}" for name in os.listdir("/tmp") if name.startswith("hasyncd-lab-run-")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and ("hasyncd.lab.traffic" in words or "/hasyncd-lab-run-" in words):
            found.append(f"process {process.name}: {words[:80]}")
    return found
