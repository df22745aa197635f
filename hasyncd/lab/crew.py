"""The crew: the server and client processes of one drill, their orders and their reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.judge import FlowRecord
from hasyncd.lab.namespaces import LabError, spawn
from hasyncd.lab.program import build
from hasyncd.lab.topology import Topology

PROBES_A_PROCESS = 2
_SINK_PORTS = 1024
"""Of idle flows; each is a destination of its own, so a million flows are a thousand source ports to each."""
_FLOWS_A_PROCESS = 10_000_000
"""Numbers are handed out in blocks, so that no two processes use the same."""


@dataclass(frozen=True, slots=True)
class Load:
    """What traffic a drill makes."""

    tcp: int = 1000
    udp: int = 500
    pace_ms: int = 150
    """Each flow asks once in so many milliseconds."""
    open_rate: float = 50.0
    """New connections a second, for each protocol, while the drill runs."""
    open_life_ms: int = 2000
    """How long such a connection lives, unless a fault came."""
    ipv6: int = 20
    """Percent of the flows over IPv6; of those that ask every 5 ms half, where it is not 0."""
    connect_rate: float = 2000.0
    """New TCP connections a second in `kill-under-load`."""
    background: int = 0
    """Idle UDP flows that fill the tables and are not judged."""


@dataclass(slots=True)
class Member:
    """One process: what it last reported."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    number: int = 0
    """What a server calls itself."""
    report: dict[str, Any] = field(default_factory=dict)
    """Every key it ever reported, with the newest value."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def order(self, **what: Any) -> None:
        """Gives it one order."""
        assert self.process.stdin is not None, "started with pipes"
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()


class Crew:
    """Starts processes in the lab's namespaces and talks to them. `stop` on every way out."""

    def __init__(self, topology: Topology, seed: int, *, outlive: bool = False) -> None:
        """`outlive`: the processes go on after this one has ended (`leave`)."""
        self._topology = topology
        self.seed = seed
        self._outlive = outlive
        self._readers: list[asyncio.Task[None]] = []
        self.servers: list[Member] = []
        self.clients: list[Member] = []
        self.others: list[Member] = []
        self._records: list[Path] = []

    async def start_servers(self) -> None:
        """Starts backends and outside servers and waits until they listen."""
        for host in (*plan.BACKENDS, *plan.SERVERS):
            self.recruit_server(host)
        for server in self.servers:
            await self.wait_for(server, lambda report: bool(report.get("ready")))

    def recruit_server(self, host: plan.Host) -> Member:
        """Starts the server of a host, at its first address of each family."""
        backend = host.side == "inside"
        task = {
            "server": host.number,
            "seed": self.seed,
            "addresses": [host.addresses[0], host.addresses6[0]],
            "tcp": [plan.BACKEND_TCP_PORT] if backend else plan.SERVER_PORTS,
            "udp": plan.BACKEND_UDP_PORT if backend else plan.SERVER_PORT,
            "bulk": plan.BULK_PORT,
            "forever": self._outlive,
        }
        server = self.recruit(host.name, "server", task)
        server.number = host.number
        self.servers.append(server)
        return server

    async def start_clients(self, load: Load) -> None:
        """Starts a client process for each outside client and private host; half of the flows go each way."""
        ways = (
            (plan.CLIENTS, (_through_vip("lb", plan.OUTSIDE_VIP), _through_vip("lb6", plan.OUTSIDE_VIP6))),
            (
                plan.PRIVATE_HOSTS,
                (
                    _to_servers("nat", [host.addresses[0] for host in plan.SERVERS]),
                    _to_servers("pass", [host.addresses6[0] for host in plan.SERVERS]),
                ),
            ),
        )
        tcp_shares, udp_shares = _shares(load.tcp, len(ways)), _shares(load.udp, len(ways))
        for (hosts, (ipv4, ipv6)), way_tcp, way_udp in zip(ways, tcp_shares, udp_shares, strict=True):
            tcps, udps = _shares(way_tcp, len(hosts)), _shares(way_udp, len(hosts))
            for host, tcp, udp in zip(hosts, tcps, udps, strict=True):
                records = self._topology.directory / f"records-{host.name}.jsonl"
                self._records.append(records)
                task = {
                    "seed": self.seed,
                    "ipv4": {**ipv4, "sources": host.addresses},
                    "ipv6": {**ipv6, "sources": host.addresses6},
                    "ipv6_percent": load.ipv6,
                    "tcp": tcp,
                    "udp": udp,
                    "probes": PROBES_A_PROCESS,
                    "first_flow": (len(self.clients) + 1) * _FLOWS_A_PROCESS,
                    "pace_ms": load.pace_ms,
                    "open_rate": load.open_rate / len(ways) / len(hosts),
                    "open_life_ms": load.open_life_ms,
                    "records": str(records),
                }
                self.clients.append(self.recruit(host.name, "client", task))
        for client in self.clients:
            await self.wait_for(client, lambda report: bool(report.get("ready")))

    async def start_background(self, flows: int) -> Member:
        """Starts idle flows and their sink; the opener's report says how many were `answered`. Raises LabError."""
        program = self._topology.directory / "idle_flows"
        if not program.exists():
            await asyncio.to_thread(build, program, [Path(__file__).with_name("traffic") / "idle_flows.c"])
        source, target = plan.PRIVATE_HOSTS[-1], plan.SERVERS[-1]
        ports = [str(plan.SINK_PORT_FIRST), str(min(_SINK_PORTS, flows))]
        sink = self.recruit_program(target.name, [str(program), "sink", target.addresses[0], *ports])
        await self.wait_for(sink, lambda report: bool(report.get("ready")))
        words = [str(program), "open", source.addresses[0], target.addresses[0], *ports, str(flows)]
        return self.recruit_program(source.name, words)

    def recruit(self, host: str, module: str, task: dict[str, Any]) -> Member:
        """Starts `hasyncd.lab.traffic.<module>` on a host."""
        command = [sys.executable, "-m", f"hasyncd.lab.traffic.{module}", json.dumps(task)]
        return self._start(host, module, command)

    def recruit_program(self, host: str, command: list[str]) -> Member:
        """Starts a program that reports and ends as the modules of `traffic` do."""
        return self._start(host, Path(command[0]).name, command)

    def _start(self, host: str, name: str, command: list[str]) -> Member:
        log = self._topology.directory / f"{name}-{host}-{len(self.others)}.log"
        process = spawn(self._topology.namespace(host), command, log=log, pipes=True, outlives=self._outlive)
        member = Member(f"{name} on {host}", process, log)
        self._readers.append(asyncio.create_task(self._read(member)))
        self.others.append(member)
        return member

    async def _read(self, member: Member) -> None:
        assert member.process.stdout is not None, "started with pipes"
        reader = asyncio.StreamReader(limit=1 << 24)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), member.process.stdout
        )
        try:
            while line := await reader.readline():
                member.report |= json.loads(line)
                member.changed.set()
        finally:
            transport.close()
            member.report["ended"] = True
            member.changed.set()

    def order(self, **what: Any) -> None:
        """Gives one order to every client."""
        for client in self.clients:
            client.order(**what)

    async def wait_for(
        self, member: Member, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 30
    ) -> dict[str, Any]:
        """Waits until a report fulfils a condition. Raises LabError when the process or the time ends."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(member.report):
                    if member.report.get("ended"):
                        raise LabError(f"{member.name} ended early: {_tail(member.log)}")
                    member.changed.clear()
                    await member.changed.wait()
        except TimeoutError:
            raise LabError(
                f"{member.name} did not get on in {timeout_s:.0f} s: {_tail(member.log)}"
            ) from None
        return member.report

    def sum(self, key: str) -> float:
        """A number that the clients report, summed over them."""
        return float(sum(client.report.get(key, 0) for client in self.clients))

    def knows_fault(self, at_ns: int) -> bool:
        """Whether every client counts `proven` from this fault on."""
        return all(client.report.get("fault_ns") == at_ns for client in self.clients)

    async def finish(self) -> int:
        """Lets every client write its records and end; the moment when the first one stopped asking, in ns."""
        self.order(do="finish")
        ends: list[int] = []
        for client in self.clients:
            report = await self.wait_for(client, lambda report: bool(report.get("finished")))
            ends.append(report["ended_ns"])
        return min(ends)

    def records(self) -> Iterator[FlowRecord]:
        """What the clients wrote; after `finish`."""
        for path in self._records:
            with path.open(encoding="ascii") as lines:
                yield from map(FlowRecord.from_json, lines)

    def cpu_seconds(self) -> float:
        """What all client and server processes have used, user and kernel, as the kernel counts it."""
        return sum(_cpu_seconds(member.process.pid) for member in self.others)

    async def leave(self) -> None:
        """Lets go of processes that outlive this one."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def stop(self) -> None:
        """Ends every process; never raises."""
        for member in self.others:
            if member.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.process.pid, signal.SIGKILL)
        for member in self.others:
            member.process.wait()
            if member.process.stdin is not None:
                with contextlib.suppress(OSError):
                    member.process.stdin.close()
        await self.leave()


def _through_vip(path: str, vip: str) -> dict[str, Any]:
    return {"path": path, "targets": {"tcp": [(vip, plan.WEB_PORT)], "udp": [(vip, plan.NAME_PORT)]}}


def _to_servers(path: str, addresses: list[str]) -> dict[str, Any]:
    servers = [(address, plan.SERVER_PORT) for address in addresses]
    return {"path": path, "targets": {"tcp": servers, "udp": servers}}


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (1 if part < total % parts else 0) for part in range(parts)]


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").strip()[-600:] or "(no messages)"
    return "(no messages)"


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
