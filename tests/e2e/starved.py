"""Both cores burnt by other processes: a node that is late must not take its peer for dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.world import World, until

_BURN = "while True: pass"


@contextmanager
def burnt_cores(per_core: int = 2) -> Iterator[None]:
    """More runnable processes than cores, for as long as it lasts."""
    burners = [
        subprocess.Popen([sys.executable, "-c", _BURN]) for _ in range(per_core * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
        for burner in burners:
            burner.wait()


def live_through(pair: World, seconds: float) -> None:
    """A ready pair with traffic, and no core for it but what it takes: nobody changes his role."""
    with burnt_cores():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pair.talk()
            time.sleep(0.05)
    for gateway, role in ((pair.a, "primary"), (pair.b, "backup")):
        assert '"vip_conflict"' not in gateway.log
        status = gateway.status
        assert (status["role"], status["generation"]) == (role, 1), gateway.log
    until(lambda: pair.a.status["sync"]["state"] == "ready", "the pair is whole")
    pair.wait_traffic()
