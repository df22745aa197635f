"""Both nodes are upgraded, one after the other, as an operator does it: SIGTERM, the new program, start.

First the backup, whose absence nobody may notice, then the primary, which hands over. In between the pair speaks the
older version of the protocol, at the end the newer one.
"""

from __future__ import annotations

from hasyncd.lab.namespaces import LabError
from hasyncd.lab.pair import Upgradable, other
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage

_OLD, _NEW = 1, 3


async def play(stage: Stage) -> None:
    """Two upgrades under traffic; every flow has to live through both and after them."""
    pair = stage.pair
    if not isinstance(pair, Upgradable):
        raise LabError("there are no versions of this system in the lab")
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    primary = await pair.primary()
    backup = other(primary)
    await _require_version(stage, _OLD, (primary, backup), "before the upgrade")

    stopped = stage.mark_fault(backup, pair.terminate(backup), "(the backup) was upgraded")
    await _bring_back(stage, pair, stopped)
    await _require_version(stage, _OLD, (backup, primary), f"with {backup} upgraded")
    stage.require(await pair.primary() == primary, f"the upgrade of {backup}, a backup, moved the addresses")
    await stage.run_for(stage.chance.uniform(0.5, 1.5))

    handed = await stage.end_primary(pair.terminate, "handed over and was upgraded")
    complete = (handed.certificate or {}).get("complete")
    stage.require(complete is True, f"{backup} took over without all flows: {handed.certificate}")
    await _bring_back(stage, pair, handed)
    await _require_version(stage, _NEW, (backup, primary), "after the upgrade")
    await stage.until_proven(stage.mark_fault(primary, deed="was ready as the new backup"))


async def _bring_back(stage: Stage, pair: Upgradable, fault: Fault) -> None:
    """Waits, under traffic, for the end of the old program, and until the new one could take over."""
    code = await pair.upgrade(fault.node)
    stage.require(code == 0, f"{fault.node} ended with exit code {code} when it was told to stop")
    await stage.until_proven(fault)
    await stage.recover(fault)


async def _require_version(stage: Stage, version: int, nodes: tuple[str, str], when: str) -> None:
    """What each says of the stream and, where its program knows of that, of the pair."""
    for node in nodes:
        status = await stage.pair.status(node) or {}
        sync, peer = status.get("sync") or {}, status.get("peer") or {}
        spoken = [sync.get("protocol"), *([peer["protocol"]] if "protocol" in peer else [])]
        stage.require(set(spoken) == {version}, f"{node} speaks {spoken}, not version {version}, {when}")
        released = sync.get("fail_open_released")
        stage.require(not released, f"{node} released {released} first packets unconfirmed {when}")


SCENARIO = Scenario(
    "rolling-upgrade",
    "upgrade both nodes in their turn, old and new protocol in one pair (--old-program): nothing may be lost",
    play,
    datagrams_may_be_lost=False,
    deed="was upgraded",
    starts_old=True,
    ours_only=True,
)
