"""A node that died comes back knowing less than its peer: it may never outrank it.

Its peer has taken over meanwhile. First it comes back without what it keeps on disk, as after a new installation. Then
it dies again, and boots where it hears nobody, its links still cut, and finds its peer when they are mended.
"""

from __future__ import annotations

from hasyncd.lab.acts import call_roll, calm_down, nodes_of, require_owner, require_whole, unharmed
from hasyncd.lab.faults import Wires
from hasyncd.lab.lives import prove, require_complete, return_to, watched
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage

_ALONE_S = 2.0
_START_WITHIN_S = 30.0


async def play(stage: Stage) -> None:
    """Dies, returns empty-handed; dies, boots alone, rejoins."""
    nodes = nodes_of(stage)
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    fault = await stage.kill_primary()
    await require_complete(stage, fault)
    await prove(stage, fault)
    calm_down(stage)
    async with watched(stage) as watch:
        nodes.forget(fault.node)
        await return_to(stage, fault.node)
        stage.require(
            "primary" not in watch.roles[fault.node],
            f"{fault.node} became primary although its peer served and it had forgotten everything",
        )
    before = await call_roll(stage)
    calm_down(stage)
    wires = Wires(stage.topology)
    wires.cut_sync()
    for side in ("inside", "outside"):
        wires.cut_lan(fault.node, side)
    again = stage.mark_fault(fault.node, stage.pair.kill(fault.node), "died, its wires dead")
    await nodes.restart(fault.node)

    async def lives() -> bool:
        return await stage.pair.status(fault.node) is not None

    await stage.require_soon(lives, f"{fault.node} did not start where it hears nobody", _START_WITHIN_S)
    await stage.run_for(_ALONE_S)
    alone = await stage.pair.status(fault.node)
    stage.notes.append(
        f"alone, {fault.node} was {(alone or {}).get('role')} of generation {(alone or {}).get('generation')}"
    )
    healed = stage.mark_fault("the pair", wires.heal(), "is whole again")
    await require_whole(stage, before, f"after {fault.node} had booted alone and rejoined")
    await require_owner(stage, before.primary, f"after {fault.node} had booted alone and rejoined")
    await stage.until_proven(healed)
    # Cut off before it died, it was a silent death: the primary paused until its lease was its own (proto/pair.md, P3).
    unharmed(stage, again.at_ns, f"{fault.node} booted alone and rejoined", strict=False)


SCENARIO = Scenario(
    "restart-alone-then-rejoin",
    "the dead node comes back without its disk, then boots where it hears nobody: it must never outrank its peer",
    play,
    ours_only=True,
)
