"""How the end-to-end tests play a drill: small, quiet, in the same process."""

from __future__ import annotations

import asyncio

from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions, PairMaker, Result, run_drill
from hasyncd.lab.lock import LabLock
from hasyncd.lab.report import Silent
from hasyncd.lab.scenarios import Scenario


def play(scenario: Scenario, options: DrillOptions, make_pair: PairMaker | None = None) -> Result:
    """Plays one drill under the machine's lab lock. Raises LabError where no lab can be built."""
    with LabLock():
        return asyncio.run(run_drill(scenario, options, Silent(), make_pair))


def small(tcp: int = 40, udp: int = 20) -> Load:
    """A load that leaves a shared machine air to breathe."""
    return Load(tcp=tcp, udp=udp, pace_ms=100, open_rate=20)
