"""One client process: many flows, opened, paced and recorded.

Task: {"seed", "ipv4": way, "ipv6": way, "ipv6_percent": n, "tcp": n, "udp": n, "probes": n, "first_flow": n, "pace_ms",
"open_rate": new connections a second and protocol, "open_life_ms", "records": path}, a way being
{"path", "sources": [address…], "targets": {"tcp": [[address, port]…], "udp": […]}}. `probes` of the UDP flows ask every
5 ms: they see the outage sharply.

Orders, each {"do": …}:
    open            opens the first flows
    churn, calm     the opener starts, stops
    burst           "count" more of each protocol at once
    fault           "at_ns": from now on nothing is closed, and a flow counts as proven when a request that was
                    sent after this moment has been answered; 0 takes it back
    finish          writes the records and ends

Reports: its counts, five times a second.
"""

from __future__ import annotations

import select
import socket
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

from hasyncd.lab.traffic import process
from hasyncd.lab.traffic.flow import Flow
from hasyncd.lab.traffic.half_closed import ClientClosed, ServerClosed
from hasyncd.lab.traffic.message import Payloads

_TICK_NS = 5_000_000
_REPORT_NS = 200_000_000
_OPEN_PER_TICK = 4
"""Connections that the first opening starts a tick: 800 a second."""
_KINDS_EVERY, _KINDS = 19, {4: ClientClosed, 12: ServerClosed}
_LAST_WORDS_NS = 500_000_000
"""How long answers are waited for after the last request."""


class Way:
    """Whence and whither flows of one family go."""

    def __init__(self, task: dict[str, Any], family: int) -> None:
        self.path: str = task["path"]
        self.family = family
        self.sources = cycle(task["sources"])
        self.targets = {protocol: cycle(map(tuple, each)) for protocol, each in task["targets"].items()}


class Client:
    """One process's epoll loop. Flows sit in a wheel of ticks: one tick asks for those in its slot."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._payloads = Payloads(task["seed"])
        self._ways = (Way(task["ipv4"], socket.AF_INET), Way(task["ipv6"], socket.AF_INET6))
        self._connections = 0
        self._opened: Counter[tuple[str, str]] = Counter()
        slots = max(1, task["pace_ms"] * 1_000_000 // _TICK_NS)
        self._wheel: list[list[Flow]] = [[] for _ in range(slots)]
        self._probes: list[Flow] = []
        self._talkers: list[ServerClosed] = []
        self._flows: dict[int, Flow] = {}
        """By file descriptor: the live ones."""
        self._closed: list[Flow] = []
        self._next_flow: int = task["first_flow"]
        self._to_open: list[tuple[str, str]] = []
        self._churning = False
        self._churn_due = 0.0
        self._fault_ns = 0
        self._finishing = False
        self._ended_ns = 0
        self._epoll = select.epoll()
        self._epoll.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Runs until it is told to finish, or standard input closes."""
        orders = process.Orders()
        process.report({"ready": True})
        tick = process.now_ns() // _TICK_NS
        report_due = 0
        while not orders.closed and not self._finishing:
            now = process.now_ns()
            # A process that was starved for long starts over instead of asking everything at once.
            tick = max(tick, now // _TICK_NS - len(self._wheel))
            while tick * _TICK_NS <= now:
                self._on_tick(tick)
                tick += 1
            if now >= report_due:
                report_due = now + _REPORT_NS
                process.report(self._counts())
            self._poll(max(0, tick * _TICK_NS - process.now_ns()), orders)
        if self._finishing:
            self._ended_ns = process.now_ns()  # silence after the last question is no outage
            deadline = self._ended_ns + _LAST_WORDS_NS
            while (left := deadline - process.now_ns()) > 0 and any(
                flow.waiting for flow in self._flows.values()
            ):
                self._poll(left, orders)
            self._write_records()

    def _poll(self, timeout_ns: int, orders: process.Orders) -> None:
        for descriptor, _ in self._epoll.poll(timeout_ns / 1e9, 1024):
            if descriptor == 0:
                for order in orders.read():
                    self._obey(order)
                continue
            flow = self._flows.get(descriptor)
            if flow is None:
                continue
            if not flow.connected_ns:
                flow.connection_settled()
                if flow.end is None:
                    self._epoll.modify(descriptor, select.EPOLLIN)
                    flow.ask()
            else:
                flow.receive()
                if flow.half_closed_ns and flow.by == "server" and not flow.end:
                    self._epoll.modify(
                        descriptor, 0
                    )  # its FIN would be told again and again; a reset is still
            if flow.end:
                self._forget(flow)

    def _obey(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "open":
                self._to_open = self._openings()
            case "churn":
                self._churning = True
            case "burst":
                for _ in range(order["count"]):
                    self._open("tcp", "opened")
                    self._open("udp", "opened")
            case "calm":
                self._churning = False
            case "fault":
                self._fault_ns = order["at_ns"]
            case "finish":
                self._finishing = True

    def _openings(self) -> list[tuple[str, str]]:
        """The first flows in reverse order of opening: TCP and UDP mixed, probes last."""
        tcp, udp, probes = self._task["tcp"], self._task["udp"], min(self._task["probes"], self._task["udp"])
        wanted = [("udp", "probe")] * probes + [("udp", "base")] * (udp - probes)
        step = max(1, round(tcp / max(1, udp)))
        for place in range(tcp):
            wanted.insert(min(len(wanted), place + place // step), ("tcp", "base"))
        return wanted

    def _on_tick(self, tick: int) -> None:
        for _ in range(min(_OPEN_PER_TICK, len(self._to_open))):
            self._open(*self._to_open.pop())
        if self._churning:
            self._churn_due += self._task["open_rate"] * _TICK_NS / 1e9
            while self._churn_due >= 1:
                self._churn_due -= 1
                self._open("tcp", "opened")
                self._open("udp", "opened")
        for probe in self._probes:
            probe.ask()
        for talker in self._talkers:
            talker.settle()
        if any(talker.end for talker in self._talkers):
            self._talkers = [talker for talker in self._talkers if not talker.end]
        slot = self._wheel[tick % len(self._wheel)]
        ended = False
        now = process.now_ns()
        for flow in slot:
            if (
                flow.closes_ns
                and now >= flow.closes_ns
                and not self._fault_ns
                and not flow.waiting
                and flow.seen
            ):
                flow.finish("closed")
                self._forget(flow)
            flow.ask()
            if flow.end:
                ended = True
                self._forget(flow)
        if ended:
            slot[:] = [flow for flow in slot if not flow.end]

    def _open(self, protocol: str, group: str) -> None:
        way = self._choose_way(protocol, group)
        kind = self._choose_kind(protocol)
        flow = kind(self._next_flow, protocol, way.path, group, self._payloads, way.family)
        self._next_flow += 1
        if group == "opened":
            flow.closes_ns = flow.opened_ns + self._task["open_life_ms"] * 1_000_000
        self._flows[flow.fd] = flow
        events = select.EPOLLIN | (select.EPOLLOUT if protocol == "tcp" else 0)
        flow.connect(next(way.sources), next(way.targets[protocol]))
        if flow.end:
            self._forget(flow)
            return
        self._epoll.register(flow.fd, events)
        if isinstance(flow, ServerClosed):
            self._talkers.append(flow)
        if group == "probe":
            self._probes.append(flow)
        else:
            self._wheel[flow.index * 7 % len(self._wheel)].append(flow)
        flow.ask()

    def _choose_kind(self, protocol: str) -> type[Flow]:
        """Of nineteen connections one is half-closed by its client and one by its server; nineteen, so that both
        families have such."""
        if protocol == "udp":
            return Flow
        self._connections += 1
        return _KINDS.get(self._connections % _KINDS_EVERY, Flow)

    def _choose_way(self, protocol: str, group: str) -> Way:
        """IPv6 for its percentage of each kind of flow, evenly spread."""
        percent = self._task["ipv6_percent"]
        if group == "probe" and percent:
            percent = 50
        before = self._opened[protocol, group]
        self._opened[protocol, group] += 1
        return self._ways[(before + 1) * percent // 100 - before * percent // 100]

    def _forget(self, flow: Flow) -> None:
        # The kernel gives a closed flow's descriptor to the next one: only the holder may be taken out.
        if self._flows.get(flow.fd) is flow:
            del self._flows[flow.fd]
            self._closed.append(flow)

    def _counts(self) -> dict[str, Any]:
        flows = self._flows.values()
        since = self._fault_ns
        lost = sum(1 for flow in self._closed if flow.end and flow.end[1] != "closed")
        return {
            "to_open": len(self._to_open),
            "live": len(flows),
            "heard": sum(1 for flow in flows if flow.seen),
            "proven": sum(1 for flow in flows if since and flow.proven_ns >= since),
            "ended_badly": lost,
            "remapped": sum(1 for flow in flows if len(flow.seen) > 1),
            "fault_ns": since,
            "cpu_s": round(process.cpu_seconds(), 3),
        }

    def _write_records(self) -> None:
        with Path(self._task["records"]).open("w", encoding="ascii") as records:
            for flow in (*self._closed, *self._flows.values()):
                records.write(flow.record() + "\n")
        process.report({"finished": True, "ended_ns": self._ended_ns, "cpu_s": process.cpu_seconds()})


if __name__ == "__main__":
    Client(process.start()).run()
