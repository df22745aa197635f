"""What drills of cuts, losses and stops have in common: who is who before and after, and what the nodes said.

A promotion counts the generation up (proto/pair.md, P1). So one that was not noticed at any moment still shows in the
end: two equal generations are a proof that nobody was promoted in between.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hasyncd.lab.judge import WINDOW_NS
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.nodes import Nodes
from hasyncd.lab.pair import other
from hasyncd.lab.spans import Span
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.traffic.process import now_ns

NAMES = ("gw-a", "gw-b")
_BURST = 10
WHOLE_WITHIN_S = 20.0
_TURN_S = 0.02
_UNDER_WAY_NS = 100_000_000
"""What was asked so shortly before a span's end may still be under way when the next thing happens."""
_COUNTS_S = 0.4
"""After an order: until the clients' counts speak of what follows it."""
Statuses = dict[str, dict[str, Any]]


def nodes_of(stage: Stage) -> Nodes:
    """The pair as processes of ours. Raises LabError: what another system says of itself is not known so well."""
    if not isinstance(stage.pair, Nodes):
        raise LabError("this drill is for hasyncd alone")
    return stage.pair


async def ask_both(stage: Stage) -> Statuses:
    """The status of each node. Raises LabError when one does not answer."""
    found = {}
    for name in NAMES:
        status = await stage.pair.status(name)
        if status is None:
            raise LabError(f"{name} does not answer at its control socket\n{stage.pair.messages()}")
        found[name] = status
    return found


class Events:
    """What the nodes have logged since this was made."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._from = {name: self._size(name) for name in NAMES}

    def _size(self, name: str) -> int:
        file = self._nodes.log_file(name)
        return file.stat().st_size if file.exists() else 0

    def of(self, name: str, event: str) -> list[dict[str, Any]]:
        """A node's events of this name, oldest first."""
        with self._nodes.log_file(name).open("rb") as log:
            log.seek(self._from[name])
            lines = log.read().splitlines()
        found = []
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a traceback, or a line that is being written
            if isinstance(said, dict) and said.get("event") == event:
                found.append(said)
        return found

    def details(self, name: str, event: str) -> list[str]:
        """The details of those."""
        return [str(said.get("detail", "")) for said in self.of(name, event)]

    @staticmethod
    def moment_ns(said: dict[str, Any]) -> int:
        """When something was said, in ns of CLOCK_BOOTTIME (a log bears the wall clock's time)."""
        age_ns = time.time_ns() - int(datetime.fromisoformat(said["time"]).timestamp() * 1e9)
        return now_ns() - age_ns

    def promotions(self) -> list[tuple[str, str]]:
        """(node, reason) of every change to primary."""
        return [
            (name, str(said.get("reason")))
            for name in NAMES
            for said in self.of(name, "role_changed")
            if said.get("role") == "primary"
        ]


@dataclass(frozen=True, slots=True)
class Roll:
    """Who was who at a moment."""

    primary: str
    statuses: Statuses
    events: Events

    @property
    def backup(self) -> str:
        return other(self.primary)

    @property
    def generation(self) -> int:
        return int(self.statuses[self.primary]["generation"])


async def call_roll(stage: Stage) -> Roll:
    """Raises LabError when there is not exactly one primary."""
    events = Events(nodes_of(stage))
    return Roll(await stage.pair.primary(), await ask_both(stage), events)


async def require_unmoved(stage: Stage, before: Roll, when: str) -> None:
    """Nobody was promoted, and nobody was for a while: roles and generations are what they were."""
    after = await ask_both(stage)
    for name in NAMES:
        then, now = before.statuses[name], after[name]
        stage.require(
            now["role"] == then["role"] and now["generation"] == then["generation"],
            f"{when}, {name} went from {then['role']} of generation {then['generation']} to "
            f"{now['role']} of {now['generation']}: {now['last_change']}",
        )
    promoted = before.events.promotions()
    stage.require(
        not promoted, f"{when}, {' and '.join(f'{name} promoted ({why})' for name, why in promoted)}"
    )


async def require_whole(stage: Stage, before: Roll, when: str) -> bool:
    """Exactly one primary, the other one ready, both tables alike, every path up."""

    async def whole() -> bool:
        after = await ask_both(stage)
        return sorted(status["role"] for status in after.values()) == ["backup", "primary"] and all(
            status["sync"]["state"] == "ready"
            and status["sync"]["digest_match"] is not False
            and all(path["up"] for path in status["peer"]["paths"])
            for status in after.values()
        )

    otherwise = f"{when}, the pair did not become whole: one primary, one ready backup"
    return await stage.require_soon(whole, otherwise, WHOLE_WITHIN_S)


async def require_owner(stage: Stage, name: str, when: str) -> None:
    """This node is the one primary."""
    statuses = {each: await stage.pair.status(each) for each in NAMES}
    roles = {each: status["role"] if status else "dead" for each, status in statuses.items()}
    stage.require(
        roles[name] == "primary" and roles[other(name)] != "primary",
        f"{when}, {name} should be the one primary; "
        + ", ".join(f"{each} is {role}" for each, role in roles.items()),
    )


def burst(stage: Stage) -> None:
    """Opens connections right before a fault, so that it meets handshakes and first packets half done."""
    if stage.load.open_rate > 0:
        stage.crew.order(do="burst", count=_BURST)


async def strike(stage: Stage, blow: Callable[[], int], who: str, deed: str) -> Fault:
    """Opens connections, makes a fault within a few milliseconds and marks it."""
    burst(stage)
    await asyncio.sleep(stage.chance.uniform(0, 0.008))
    return stage.mark_fault(who, blow(), deed)


def calm_down(stage: Stage) -> None:
    """The fault is over for the clients: short connections are closed again in their time."""
    stage.crew.order(do="fault", at_ns=0)
    stage.crew.order(do="churn")


async def one_after_the_other(stage: Stage, faults: Sequence[Callable[[], Awaitable[Fault]]]) -> None:
    """Flows are opened; each fault is made and mended, calm in between; the flows prove themselves after the last."""
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.0, 2.0))
    fault = await faults[0]()
    for make in faults[1:]:
        calm_down(stage)
        fault = await make()
    await stage.until_proven(fault)


def unharmed(stage: Stage, begin_ns: int, name: str, *, strict: bool = True) -> Span:
    """From then to now no question may have been lost (`strict`), or may; how it was is told in either case."""
    span = Span(begin_ns, now_ns() - _UNDER_WAY_NS, name)
    (stage.spans if strict else stage.told_spans).append(span)
    return span


async def until_alive(stage: Stage, fault: Fault) -> None:
    """Waits until every flow has proven itself after a fault (the judge says whether in time), before the next one.

    A connection that meets an outage again and again waits longer each time; that is its kernel's way, and not ours.
    """
    stage.crew.order(do="calm")
    await asyncio.sleep(_COUNTS_S)
    deadline = fault.at_ns + WINDOW_NS
    while now_ns() < deadline:
        if stage.crew.knows_fault(fault.at_ns) and stage.crew.sum("proven") >= stage.crew.sum("live"):
            return
        await asyncio.sleep(_TURN_S)


async def until_promoted(stage: Stage, fault: Fault, survivor: str, timeout_s: float = 10) -> bool:
    """Waits until a node is primary after a fault, and notes how long that took; a requirement."""
    deadline = fault.at_ns + int(timeout_s * 1e9)
    while now_ns() < deadline:
        status = await stage.pair.status(survivor)
        if status is not None and status["role"] == "primary":
            fault.promoted_ms = round((now_ns() - fault.at_ns) / 1e6, 1)
            fault.certificate = status.get("certificate")
            return stage.require(True, "")
        await asyncio.sleep(_TURN_S / 5)
    return stage.require(
        False, f"{survivor} did not become primary within {timeout_s:.0f} s after {fault.node} {fault.deed}"
    )
