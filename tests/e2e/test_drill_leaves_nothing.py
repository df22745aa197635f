"""However a drill ends, the machine is as it was: ctrl-C, SIGTERM, and even SIGKILL with the next command's help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.lab import SMALL, hasyncd, leftovers, start_hasyncd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_TIMEOUT_S = 60


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition with a generous limit."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _namespaces_stand(lab_id: int) -> bool:
    return Path(f"/run/netns/hs-{lab_id}-lab-lan").exists()


def _traffic_runs(lab_id: int) -> bool:
    return sum("traffic.client" in thing for thing in leftovers(lab_id)) >= 3


PHASES = {"while the lab is built": _namespaces_stand, "while traffic runs": _traffic_runs}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_interrupted_drill_leaves_nothing(number: signal.Signals, phase: str) -> None:
    drill = start_hasyncd("drill", *SMALL)
    wait_for(lambda: PHASES[phase](drill.pid), phase)
    os.killpg(drill.pid, number)
    time.sleep(0.005)
    if drill.poll() is None:
        os.killpg(drill.pid, number)  # the impatient second ctrl-C
    assert drill.wait(_TIMEOUT_S) == 130
    assert leftovers(drill.pid) == []


def test_killed_drill_ends_its_processes_and_lab_down_removes_the_rest() -> None:
    drill = start_hasyncd("drill", *SMALL)
    wait_for(lambda: _traffic_runs(drill.pid), "traffic")
    drill.kill()
    drill.wait(_TIMEOUT_S)
    wait_for(
        lambda: not any("process" in thing for thing in leftovers(drill.pid)),
        "processes ended with the drill",
    )
    assert _namespaces_stand(drill.pid)
    done = hasyncd("lab", "down")
    assert done.returncode == 0, done.stderr
    assert leftovers(drill.pid) == []


def test_second_lab_is_told_about_the_first() -> None:
    first = start_hasyncd("drill", *SMALL)
    try:
        wait_for(lambda: _namespaces_stand(first.pid), "the first lab stands")
        second = start_second()
        assert second[0] == 2
        assert f"another lab runs on this machine (process {first.pid})" in second[1]
    finally:
        os.killpg(first.pid, signal.SIGINT)
        first.wait(_TIMEOUT_S)
    assert leftovers(first.pid) == []


def start_second() -> tuple[int, str]:
    """Another drill, without the patience of `hasyncd`."""
    done = subprocess.run(
        [sys.executable, "-m", "hasyncd", "drill", *SMALL], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr
