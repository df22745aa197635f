"""`takeover.kill`: how long traffic waits when the primary is killed, as the traffic itself sees it.

The lab's pair, clients and servers (hasyncd/lab). Six UDP flows ask every 5 ms; after each kill the figure is the time
until the first of their questions that was asked after it is answered: it went through the backup. The killed node
returns, and when the pair is ready again, the other one is killed.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hasyncd.bench.pair_bed import build_flow_load
from hasyncd.bench.row import Row, middle
from hasyncd.lab.crew import Crew, Load
from hasyncd.lab.judge import FlowRecord
from hasyncd.lab.namespaces import LabError, inside, run_ip
from hasyncd.lab.nodes import NodeOptions, Nodes
from hasyncd.lab.report import Silent
from hasyncd.lab.stage import Stage
from hasyncd.lab.topology import Topology

KILLS = 20
FLOWS = 1_000_000
GOAL_MS = 20.0
_SETTLE_S = 1.0
_WINDOW_NS = 2_000_000_000
_SOURCE, _TARGET, _ADDRESSES, _PORT = "10.0.1.128", "203.0.113.160", 64, 9
_FILL_RATE = 150_000
_FILL_TURNS = 20
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outage:
    """One kill as the probing flows lived through it."""

    first_ms: float
    """From the kill to the first answer to a question that was asked after it."""
    silence_ms: float
    """The longest time between two answers, of any of them; the pace of the questions is in it twice."""
    promoted_ms: float
    flows: int


class IdleFlows:
    """Many flows in the tables that carry nothing."""

    def __init__(self, program: Path, topology: Topology, nodes: Nodes, flows: int) -> None:
        self._program, self._topology, self._nodes, self._flows = program, topology, nodes, flows
        if not flows:
            return
        host, server = (topology.namespace(name) for name in ("host-8", "server-50"))
        self._host, first = host, int(_TARGET.rpartition(".")[2])
        run_ip((f"addr add 203.0.113.{first + place}/24 dev eth0" for place in range(_ADDRESSES)), server)
        with inside(server):  # who reads nothing answers nothing, and a closed port would
            self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(("", _PORT))

    async def refresh(self) -> int:
        """Makes those that are missing, and young those that are there; how many flows the primary holds."""
        for _ in range(_FILL_TURNS):
            primary = await self._nodes.primary()
            status = await self._nodes.status(primary) or {}
            held = int((status.get("flows") or {}).get("total", 0))
            if not self._flows:
                return held
            await asyncio.to_thread(self._send, primary)
            status = await self._nodes.status(primary) or {}
            held = int((status.get("flows") or {}).get("total", 0))
            if held >= self._flows:
                return held
        raise LabError(f"of {self._flows:,} flows only {held:,} could be made")

    def _send(self, primary: str) -> None:
        gateway = self._topology.namespace(primary)
        told = subprocess.run(
            ["ip", "-n", gateway, "-json", "link", "show", "inside"], capture_output=True, check=True
        )
        address = str(json.loads(told.stdout)[0]["address"])
        words = [self._host, "eth0", address, _SOURCE, str(_ADDRESSES), _TARGET, str(_ADDRESSES), str(_PORT)]
        subprocess.run(
            [self._program, *words, "0", str(self._flows), str(_FILL_RATE)],
            stdout=subprocess.DEVNULL,
            check=True,
        )


async def kill_again_and_again(program: Path, flows: int, kills: int, say: Say) -> list[Outage]:
    """`kills` kills of one pair. Raises LabError."""
    with Topology() as topology:
        nodes, crew = Nodes(topology, NodeOptions()), Crew(topology, random.randrange(1 << 31))
        load = Load(tcp=20, udp=20, pace_ms=150, open_rate=0)
        stage = Stage(topology, nodes, crew, load, random.Random(), Silent(), 0)
        try:
            await crew.start_servers()
            await nodes.start()
            idle = IdleFlows(program, topology, nodes, flows)
            await stage.open_flows()
            held = []
            for turn in range(kills):
                held.append(await idle.refresh())
                await nodes.wait_ready()
                await stage.run_for(stage.chance.uniform(0.3, 0.6))
                say(f"takeover.kill, {held[-1]:,} flows, kill {turn + 1} of {kills}")
                fault = await stage.kill_primary()
                await stage.run_for(_SETTLE_S)
                if turn < kills - 1:
                    await stage.recover(fault)
            if stage.failures:
                raise LabError("; ".join(stage.failures))
            await crew.finish()
            records = [record for record in crew.records() if record.group == "probe"]
            return [
                Outage(*_silence(records, fault.at_ns), fault.promoted_ms or 0.0, count)
                for fault, count in zip(stage.faults, held, strict=True)
            ]
        finally:
            await stage.close()
            await crew.stop()
            await nodes.stop()


def _silence(records: Iterable[FlowRecord], fault_ns: int) -> tuple[float, float]:
    """(ms to the first answer after the fault, ms of the longest silence there). Raises LabError: nothing came."""
    firsts, silences = [], []
    for record in records:
        answered = sorted(
            (each.answered_ns, each.sent_ns) for each in record.exchanges if each.answered_ns is not None
        )
        firsts += [at for at, sent in answered if sent >= fault_ns][:1]
        silences += [
            later - earlier
            for (earlier, _), (later, _) in pairwise(answered)
            if later >= fault_ns and earlier <= fault_ns + _WINDOW_NS
        ]
    if not firsts:
        raise LabError("no flow was answered after the kill")
    return (min(firsts) - fault_ns) / 1e6, max(silences) / 1e6


def takeover_row(variant: str, outages: list[Outage]) -> Row:
    """Median of the first answers, beside the goal."""
    firsts, silences = sorted(each.first_ms for each in outages), sorted(each.silence_ms for each in outages)
    promoted = [each.promoted_ms for each in outages]
    return Row(
        "takeover.kill", variant, "ms", "lower", middle(firsts), "goal", GOAL_MS, len(outages),
        p50=middle(firsts), p99=firsts[int(len(firsts) * 0.99)],
        notes=f"SIGKILL to the first answer through the backup, {firsts[0]:.1f}-{firsts[-1]:.1f}; a flow that asks "
        f"every 5 ms is silent for {middle(silences):.1f} (median), {silences[-1]:.1f} (longest of all); promoted, as "
        f"its status says, after {middle(promoted):.1f}; {outages[0].flows:,} flows",
    )  # fmt: skip


def measure(names: set[str], say: Say, *, kills: int = KILLS, flows: int = FLOWS) -> list[Row]:
    """The wanted rows. Raises LabError."""
    if "takeover.kill" not in names:
        return []
    with tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch:
        program = build_flow_load(Path(scratch))
        few = asyncio.run(kill_again_and_again(program, 0, kills, say))
        many = asyncio.run(kill_again_and_again(program, flows, kills, say))
    return [
        takeover_row("few flows", few),
        takeover_row(f"{flows:,} idle flows", many),
    ]
