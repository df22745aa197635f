"""The stage a scenario plays on: a pair, a crew, a clock, and the acts that scenarios are made of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hasyncd.lab.crew import Crew, Load
from hasyncd.lab.judge import WINDOW_NS
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.pair import Pair, other
from hasyncd.lab.placement import Placement
from hasyncd.lab.spans import Span
from hasyncd.lab.topology import Topology
from hasyncd.lab.traffic.process import now_ns

_WATCH_S = 0.004
_TURN_S = 0.1
_SAMPLE_S = 0.2
_BURST = 10
_BURST_LEAD_S = 0.008
_CHURN_AFTER_FAULT_S = 2.0
_PROOF_SLACK_S = 1.0
_REPLICATED_WITHIN_S = 60.0
_MS = 1_000_000


@dataclass(slots=True)
class Fault:
    """One fault and what the survivor said of it. Milliseconds count from the fault."""

    node: str
    at_ns: int
    at_risk: int | None = None
    """Flows that were not confirmed: its last word says it, else `at_risk_flows` of its last status."""
    last_word: list[dict[str, Any]] | None = None
    detected_ms: float | None = None
    promoted_ms: float | None = None
    certificate: Any = None
    deed: str | None = None
    """What happened to the node, where it is not what the scenario says of all its faults."""
    flows_held: dict[str, int] = field(default_factory=dict)
    """What each gateway held a moment before, where idle flows fill the tables."""


class Progress(Protocol):
    """Where a stage tells people how far it is."""

    def step(self, what: str, done: float = 0, total: float | None = None) -> None:
        """Shows an act; the same `what` again moves its bar. `total` None: no end can be named."""


@dataclass(slots=True)
class Stage:
    """What one run of one scenario has at hand."""

    topology: Topology
    pair: Pair
    crew: Crew
    load: Load
    chance: random.Random
    progress: Progress
    bulk_bytes: int
    commit: str = "ack"
    kills: int = 1
    without_sync: bool = False
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What speaks against us besides lost flows; each is one sentence."""
    spans: list[Span] = field(default_factory=list)
    """In these no question may be lost; in `told_spans` it may, and what was is told."""
    told_spans: list[Span] = field(default_factory=list)
    placement: Placement = field(default_factory=Placement)
    """Which backends died, and which may get no new flows."""
    ring_changes: list[dict[str, Any]] = field(default_factory=list)
    """What changes of backends did to the services, for the report (`backends.RingChange`)."""
    checked: int = 0
    """How many requirements were looked at, so that a drill cannot pass by asking nothing."""
    _last_status: dict[str, dict[str, Any]] = field(default_factory=dict)
    _sampler: asyncio.Task[None] | None = None

    async def open_flows(self) -> None:
        """Opens the first flows, waits until each was answered, then starts the opener."""
        if self.load.background:
            await self._open_background(self.load.background)
        wanted = self.load.tcp + self.load.udp
        await self.crew.start_clients(self.load)
        self.crew.order(do="open")
        deadline = now_ns() + 30_000 * _MS
        while (heard := int(self.crew.sum("heard"))) < wanted and now_ns() < deadline:
            self.progress.step("opening flows", heard, wanted)
            await asyncio.sleep(_TURN_S)
        if heard < wanted:
            self.notes.append(
                f"{wanted - heard} of the first {wanted} flows were never answered before the fault"
            )
        self.progress.step("opening flows", heard, wanted)
        self.crew.order(do="churn")
        self._sampler = asyncio.create_task(self._sample())

    async def _open_background(self, flows: int) -> None:
        """Opens idle flows until each was answered and both nodes say that they hold them. Raises LabError."""
        opener = await self.crew.start_background(flows)
        began, deadline = now_ns(), now_ns() + int((30 + flows / 5000) * 1e9)
        while (answered := int(opener.report.get("answered", 0))) < flows and now_ns() < deadline:
            self.progress.step("opening background flows", answered, flows)
            await asyncio.sleep(_TURN_S)
        if answered < flows:
            raise LabError(f"of {flows:,} idle flows {answered:,} were answered")
        self.progress.step("background flows reach both nodes")

        async def held() -> bool:
            return all(count >= flows for count in (await self.flows_held()).values())

        await self.require_soon(held, f"a node lacks some of {flows:,} idle flows", _REPLICATED_WITHIN_S)
        self.notes.append(
            f"{flows:,} idle flows in the background, opened in {(now_ns() - began) / 1e9:.1f} s"
        )
        statuses = [(await self.pair.status(name)) or {} for name in ("gw-a", "gw-b")]
        cached = [status.get("counters", {}).get("cache_flows", 0) for status in statuses]
        if any(cached):
            self.notes.append(
                f"{cached[0]:,} and {cached[1]:,} flows in the kernel's caches of gw-a and gw-b"
            )

    async def flows_held(self) -> dict[str, int]:
        """What each gateway says that it holds; of a system that does not say, or has no sync, nothing."""
        held: dict[str, int] = {}
        if self.without_sync:
            return held
        for name in ("gw-a", "gw-b"):
            counted = ((await self.pair.status(name)) or {}).get("flows")
            if counted is not None:
                held[name] = int(counted["total"])
        return held

    async def run_for(self, seconds: float) -> None:
        """Lets traffic run."""
        end = now_ns() + int(seconds * 1e9)
        while (left := end - now_ns()) > 0:
            self.progress.step("traffic runs", seconds - left / 1e9, seconds)
            await asyncio.sleep(min(_TURN_S, left / 1e9))

    async def kill_primary(self) -> Fault:
        """Kills the primary and watches its peer promote."""
        return await self._strike(self.pair.kill)

    async def cut_off_primary(self) -> Fault:
        """Cuts all links of the primary at once and watches its peer promote."""
        return await self._strike(self.pair.cut_off)

    async def _strike(self, blow: Callable[[str], int]) -> Fault:
        node = await self.pair.primary()
        held = await self._burst()
        fault = await self._watch(self.mark_fault(node, blow(node), held=held))
        fault.last_word = await self.pair.last_word(node)
        if fault.last_word:
            fault.at_risk = fault.last_word[0]["at_risk"]
        return fault

    async def switch_over(self) -> Fault:
        """Asks for the planned change of roles and watches it."""
        node = await self.pair.primary()
        held = await self._burst()
        return await self._watch(self.mark_fault(node, await self.pair.switch_over(), held=held))

    async def end_primary(self, end: Callable[[str], int], deed: str) -> Fault:
        """Has the primary's program ended in good order and watches the planned change of roles."""
        node = await self.pair.primary()
        held = await self._burst()
        return await self._watch(self.mark_fault(node, end(node), deed, held))

    async def _burst(self) -> dict[str, int]:
        """Opens connections a moment before the fault, so that it meets handshakes and first packets half done.

        What each gateway holds then, where idle flows fill the tables.
        """
        held = await self.flows_held() if self.load.background else {}
        if self.load.open_rate > 0:
            self.crew.order(do="burst", count=_BURST)
        await asyncio.sleep(self.chance.uniform(0, _BURST_LEAD_S))
        return held

    def require(self, condition: bool, otherwise: str) -> bool:
        """What has to hold besides the flows. Where it does not, `otherwise` says what happened: the drill has failed.

        Returns the condition. `otherwise` is a sentence without its full stop; it stands in the verdict.
        """
        self.checked += 1
        if not condition and otherwise not in self.failures:
            self.failures.append(otherwise)
        return condition

    async def require_soon(
        self, condition: Callable[[], Awaitable[bool]], otherwise: str, timeout_s: float = 20
    ) -> bool:
        """Waits, under traffic, until a condition holds; a requirement like any other once time has run out."""
        deadline = now_ns() + int(timeout_s * 1e9)
        holds = await condition()
        while not holds and now_ns() < deadline:
            await asyncio.sleep(_TURN_S / 4)
            holds = await condition()
        return self.require(holds, f"{otherwise} (waited {timeout_s:g} s)")

    def mark_fault(
        self, node: str, at_ns: int | None = None, deed: str | None = None, held: dict[str, int] | None = None
    ) -> Fault:
        """Tells everyone that the fault happened at this moment (now)."""
        at_ns = now_ns() if at_ns is None else at_ns
        fault = Fault(
            node, at_ns, at_risk=_at_risk(self._last_status.get(node)), deed=deed, flows_held=held or {}
        )
        self.faults.append(fault)
        self.crew.order(do="fault", at_ns=at_ns)
        return fault

    async def _watch(self, fault: Fault) -> Fault:
        """Polls the survivor until it is primary, or the window has passed."""
        survivor = other(fault.node)
        while now_ns() < fault.at_ns + WINDOW_NS:
            status = await self.pair.status(survivor)
            elapsed_ms = round((now_ns() - fault.at_ns) / _MS, 1)
            promoted = status is not None and status.get("role") == "primary"
            if fault.detected_ms is None and (promoted or _peer_is_gone(status)):
                fault.detected_ms = elapsed_ms
            if promoted and status is not None:
                fault.promoted_ms = elapsed_ms
                fault.certificate = status.get("certificate")
                return fault
            await asyncio.sleep(_WATCH_S)
        self.failures.append(f"{survivor} did not become primary within {WINDOW_NS // 1_000_000_000} s")
        return fault

    async def until_proven(self, fault: Fault) -> None:
        """Keeps opening flows for a while after the fault, then waits until every live flow has proven itself."""
        calm_ns = fault.at_ns + int(_CHURN_AFTER_FAULT_S * 1e9)
        deadline = calm_ns + WINDOW_NS + int(_PROOF_SLACK_S * 1e9)
        calm = False
        while now_ns() < deadline:
            live, proven = self.crew.sum("live"), self.crew.sum("proven")
            self.progress.step(f"flows proven after the loss of {fault.node}", proven, live)
            if not calm and now_ns() >= calm_ns:
                calm = True
                self.crew.order(do="calm")
                await asyncio.sleep(2 * _SAMPLE_S)  # the counts that follow were taken after the last opening
            elif calm and self.crew.knows_fault(fault.at_ns) and proven >= live:
                return
            await asyncio.sleep(_TURN_S)

    async def recover(self, fault: Fault) -> None:
        """Starts the killed gateway again and waits, under traffic, until it could take over."""
        self.crew.order(do="fault", at_ns=0)
        self.crew.order(do="churn")
        await self.pair.restart(fault.node)
        waiting = asyncio.create_task(self.pair.wait_ready())
        started = now_ns()
        while not waiting.done():
            self.progress.step(f"{fault.node} is back and synchronises", 0, None)
            await asyncio.sleep(_TURN_S)
        await waiting
        self.notes.append(
            f"{fault.node} was ready as backup {(now_ns() - started) / 1e9:.1f} s after its restart"
        )

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Waits for a condition. Raises LabError when time runs out."""
        deadline = now_ns() + int(timeout_s * 1e9)
        while not condition():
            if now_ns() > deadline:
                raise LabError(f"{what}: not within {timeout_s:.0f} s")
            await asyncio.sleep(_TURN_S / 8)

    async def _sample(self) -> None:
        """Keeps the newest status of each gateway, for what can only be known before a fault."""
        while True:
            for name in ("gw-a", "gw-b"):
                status = await self.pair.status(name)
                if status is not None:
                    self._last_status[name] = status
            await asyncio.sleep(_SAMPLE_S)

    async def close(self) -> None:
        """Ends what the stage runs itself."""
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.gather(self._sampler, return_exceptions=True)


def _at_risk(status: dict[str, Any] | None) -> int | None:
    sync = (status or {}).get("sync") or {}
    value = sync.get("at_risk_flows")
    return value if isinstance(value, int) else None


def _peer_is_gone(status: dict[str, Any] | None) -> bool:
    peer = (status or {}).get("peer") or {}
    return peer.get("state") not in (None, "connected")
