"""The planned change of roles: nothing may be lost, not even a datagram."""

from __future__ import annotations

from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """One switchover under traffic."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.5, 3.5))
    await stage.until_proven(await stage.switch_over())


SCENARIO = Scenario(
    "switchover",
    "hand over as planned: no flow and no datagram may be lost",
    play,
    datagrams_may_be_lost=False,
    deed="handed over",
)
