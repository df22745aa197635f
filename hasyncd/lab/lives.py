"""The lives of the two nodes: ends, returns, and what has to hold around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.acts import NAMES, Roll, calm_down, nodes_of, strike
from hasyncd.lab.namespaces import LabError, spawn
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.traffic.process import now_ns

_LOOK_S = 0.01
_TURN_S = 0.1
_BURN = "while True: pass"


@dataclass(slots=True)
class Watch:
    """What the nodes said of themselves, asked again and again for the length of a block."""

    roles: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in NAMES})
    """Each node's roles in order, without repetitions."""
    most_at_risk: int = 0
    owners_at_once: bool = False
    """Both nodes owned the addresses in two looks in a row: once may be a change between two answers."""

    def see(self, statuses: dict[str, dict[str, Any] | None]) -> bool:
        """Takes one look at both in; whether both owned the addresses."""
        for name, status in statuses.items():
            if status is None:
                continue
            if self.roles[name][-1:] != [status["role"]]:
                self.roles[name].append(status["role"])
            self.most_at_risk = max(self.most_at_risk, status["sync"].get("at_risk_flows") or 0)
        return all(
            status is not None and any(vip["owned"] for vip in status["vips"]) for status in statuses.values()
        )


@contextlib.asynccontextmanager
async def watched(stage: Stage) -> AsyncIterator[Watch]:
    """Watches both nodes; that they never own the addresses both is required of every drill that does."""
    watch = Watch()

    async def look() -> None:
        before = False
        while True:
            both = watch.see({name: await stage.pair.status(name) for name in NAMES})
            watch.owners_at_once |= both and before
            before = both
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield watch
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        stage.require(not watch.owners_at_once, "both nodes owned the addresses at once")


async def kill_backup(stage: Stage, before: Roll) -> Fault:
    """Kills the node that is not needed now."""
    return await strike(stage, lambda: stage.pair.kill(before.backup), before.backup, "was killed as backup")


async def return_to(stage: Stage, name: str, timeout_s: float = 30) -> float:
    """Starts a dead node again and waits until the pair is ready; the seconds that took, as a requirement."""
    began = now_ns()
    await stage.pair.restart(name)

    async def ready() -> bool:
        statuses = [await stage.pair.status(each) for each in NAMES]
        present = [status for status in statuses if status is not None]
        return sorted(status["role"] for status in present) == ["backup", "primary"] and all(
            status["sync"]["state"] == "ready" and status["sync"]["digest_match"] is not False
            for status in present
        )

    stage.progress.step(f"{name} is back and synchronises")
    await stage.require_soon(ready, f"{name} did not become a ready member of the pair again", timeout_s)
    seconds = (now_ns() - began) / 1e9
    stage.notes.append(f"the pair was ready {seconds:.1f} s after {name} was started again")
    return seconds


async def status_of(stage: Stage, name: str) -> dict[str, Any]:
    """Raises LabError where the node does not answer."""
    status = await stage.pair.status(name)
    if status is None:
        raise LabError(f"{name} does not answer at its control socket\n{stage.pair.messages()}")
    return status


async def prove(stage: Stage, fault: Fault) -> None:
    """Waits until every flow has proven itself; that all have is a requirement, for the next fault is to come."""
    await stage.until_proven(fault)
    live, proven = stage.crew.sum("live"), stage.crew.sum("proven")
    badly, moved = stage.crew.sum("ended_badly"), stage.crew.sum("remapped")
    stage.require(
        proven >= live and not badly and not moved,
        f"after {fault.node} {fault.deed or 'was killed'}, {live - proven:.0f} of {live:.0f} flows were silent, "
        f"{badly:.0f} had ended and {moved:.0f} were remapped",
    )


async def kill_again(stage: Stage) -> Fault:
    """A kill of whoever is primary by now, after whatever came before; proven like every kill."""
    calm_down(stage)
    fault = await stage.kill_primary()
    await stage.until_proven(fault)
    return fault


async def require_complete(stage: Stage, fault: Fault) -> None:
    """The survivor knew that it lacked nothing."""
    certificate = fault.certificate or {}
    stage.require(
        certificate.get("complete") is True,
        f"the survivor of {fault.node} was not complete: {certificate.get('flows_missing')} flows missing "
        f"({certificate.get('flows_missing_is')}), digest {certificate.get('digest')}",
    )


def memory_of(stage: Stage, name: str) -> int:
    """What a node's process holds in memory, in bytes (proc(5), VmRSS)."""
    pid = nodes_of(stage).processes[name].pid
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise LabError(f"{name} has no memory: it has ended\n{stage.pair.messages()}")


@contextlib.contextmanager
def burnt_cores(stage: Stage, count: int) -> Iterator[None]:
    """So many processes that want a core each, for as long as the block lasts."""
    namespace, log = stage.topology.namespace(plan.LAN), stage.topology.directory / "burners.log"
    burners = [spawn(namespace, ["python3", "-c", _BURN], log=log) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
        for burner in burners:
            burner.wait()
