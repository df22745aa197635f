"""A planned move and a kill upon it: at once when the pair is ready again, and once more before it is.

Ready, the survivor lacks nothing. Before that it may lack what its certificate says, and no flow more.
"""

from __future__ import annotations

from hasyncd.lab.acts import calm_down
from hasyncd.lab.lives import prove, require_complete, return_to
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage


async def play(stage: Stage) -> None:
    """Move, ready, kill; the dead node returns; move, kill."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    await stage.switch_over()
    await stage.pair.wait_ready()
    fault = await stage.kill_primary()
    await require_complete(stage, fault)
    await prove(stage, fault)
    calm_down(stage)
    await return_to(stage, fault.node)
    await stage.run_for(stage.chance.uniform(0.5, 1.5))
    await stage.switch_over()
    await stage.until_proven(await stage.kill_primary())


SCENARIO = Scenario(
    "switchover-then-kill",
    "hand over and kill the new primary: as soon as the pair is ready, and once more before it is",
    play,
    losses_within_certificate=True,
    ours_only=True,
)
