"""One client process that opens TCP connections at a rate, whatever becomes of them (an open loop, Poisson arrivals).

Each connection asks once, checks the answer, lingers and is closed in good order; a share of them stays open and asks
again and again. Task: {"seed", "ways": [{"path", "ipv6": true where it is, "sources": [address…], "targets":
[[address, port]…], "weight": n}…], "rate": connections a second, "linger_ms", "keep_percent", "keep_ms", "keep_long":
how many of the first stay to the end, "pace_ms", "first_flow", "records": path without its end}.

Orders, each {"do": …}:
    churn, calm     opening starts, stops
    measure         from now on, until a fault, the delays of handshakes are kept
    fault           "at_ns": from now on a connection is closed only when a request that was sent after this moment has
                    been answered, so that each one that met the fault has to prove itself
    settle          "until_ns": connections opened later have no part in this fault
    tell            "round": writes the records of those that had part to `<records>-<round>.jsonl`, gives up the ones
                    that proved nothing, and forgets the fault

Reports: its counts, five times a second; {"told": round} after a `tell`.
"""

from __future__ import annotations

import errno
import json
import random
import select
import socket
import struct
from collections import deque
from itertools import cycle
from pathlib import Path
from typing import Any

from hasyncd.lab.traffic import process
from hasyncd.lab.traffic.flow import Flow
from hasyncd.lab.traffic.message import Payloads

_TICK_NS = 10_000_000
_REPORT_NS = 200_000_000
_LATE_MAX_NS = 250_000_000
"""Who was starved for longer does not catch up: a burst of arrears is no traffic of this rate."""
_AT_ONCE = 64
_FOREVER = 1 << 62
_TCP_INFO_RTT = struct.Struct("=68xI")
"""linux/tcp.h `struct tcp_info`: `tcpi_rtt` in us. Before any data it is the time from SYN to SYN-ACK."""
_SYN_RETRY_NS = 900_000_000
"""A handshake that took longer had its SYN sent again (the kernel's first timeout is 1 s)."""


class Newcomer(Flow):
    """A connection that also knows its near end, and how long it is meant to stay."""

    __slots__ = ("kept", "near", "stays_ns", "target")

    def __init__(self, index: int, path: str, payloads: Payloads, family: int) -> None:
        super().__init__(index, "tcp", path, "opened", payloads, family)
        self.near: tuple[str, int] = ("", 0)
        self.target: tuple[str, int] = ("", 0)
        self.stays_ns = 0
        """Until when it is not closed."""
        self.kept = False
        """One that asks again and again."""

    def connect(self, source: str, target: tuple[str, int]) -> None:
        self.target = target
        super().connect(source, target)
        if not self.end:
            self.near = self.socket.getsockname()[:2]

    def entry(self, since_ns: int) -> str:
        """Its record, with the exchanges since a moment and the one before them."""
        first_us = (since_ns - self.opened_ns) // 1000
        skipped = max(0, sum(1 for sent in self.sent if sent < first_us) - 1)
        entry = {
            "flow": self.index,
            "protocol": "tcp",
            "path": self.path,
            "group": "kept" if self.kept else "opened",
            "opened_ns": self.opened_ns,
            "connected_ns": self.connected_ns or None,
            "near": self.near,
            "target": self.target,
            "end": self.end,
            "seen": self.seen,
            "wrong_bytes": self.wrong_bytes,
            "sent_us": self.sent.tolist()[skipped:],
            "answered_us": self.answered.tolist()[skipped:],
        }
        return json.dumps(entry, separators=(",", ":"))


class Way:
    """Whence and whither connections go, and how many of them."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.path: str = task["path"]
        self.family = socket.AF_INET6 if task["ipv6"] else socket.AF_INET
        self.sources = cycle(task["sources"])
        self.targets = cycle(map(tuple, task["targets"]))
        self.weight: int = task["weight"]


class Connector:
    """One process's epoll loop. Kept connections sit in a wheel of ticks: one tick asks for those in its slot."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._payloads = Payloads(task["seed"])
        self._chance = random.Random(task["first_flow"] ^ task["seed"])
        self._ways = [Way(way) for way in task["ways"]]
        self._weights = [way.weight for way in self._ways]
        self._wheel: list[list[Newcomer]] = [
            [] for _ in range(max(1, task["pace_ms"] * 1_000_000 // _TICK_NS))
        ]
        self._tick = process.now_ns() // _TICK_NS
        self._flows: dict[int, Newcomer] = {}
        """By file descriptor: the live ones."""
        self._lingering: deque[Newcomer] = deque()
        """Those that ask once, in the order in which they are to be closed."""
        self._ended: list[Newcomer] = []
        """Those that ended since the fault, and every one that ended badly."""
        self._next_flow: int = task["first_flow"]
        self._due_ns = 0
        """When the next connection is to be opened; 0: opening stands still."""
        self._fault_ns = 0
        self._until_ns = 0
        self._told_ns = process.now_ns()
        self._delays_us: list[int] | None = None
        """None: nothing is measured now."""
        self._measured_us: list[int] = []
        self._opened = self._completed = self._arrears = 0
        self._epoll = select.epoll()
        self._epoll.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Runs until standard input closes."""
        orders = process.Orders()
        process.report({"ready": True})
        report_due = 0
        while not orders.closed:
            now = process.now_ns()
            if self._due_ns:
                self._open_due(now)
            while self._tick * _TICK_NS <= now:
                self._on_tick(now)
            while self._lingering and self._lingering[0].stays_ns <= now:
                self._part_with(self._lingering.popleft())
            if now >= report_due:
                report_due = now + _REPORT_NS
                process.report(self._counts())
            wake = min(self._due_ns or report_due, self._tick * _TICK_NS)
            self._poll(max(0, wake - process.now_ns()), orders)

    def _poll(self, timeout_ns: int, orders: process.Orders) -> None:
        for descriptor, events in self._epoll.poll(timeout_ns / 1e9, 1024):
            if descriptor == 0:
                for order in orders.read():
                    self._obey(order)
                continue
            flow = self._flows.get(descriptor)
            if flow is None:
                continue
            if not flow.connected_ns:
                self._settle_connection(flow)
            elif events & ~select.EPOLLOUT and flow.receive() and flow.stays_ns <= process.now_ns():
                self._part_with(flow)
            self._forget_ended(flow)

    def _settle_connection(self, flow: Newcomer) -> None:
        flow.connection_settled()
        if flow.end:
            return
        self._completed += 1
        if self._delays_us is not None and flow.connected_ns - flow.opened_ns < _SYN_RETRY_NS:
            info = flow.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_RTT.size)
            self._delays_us.append(_TCP_INFO_RTT.unpack(info)[0])
        flow.ask()

    def _part_with(self, flow: Newcomer) -> None:
        """Closes what has done its part; lets it ask again where a fault came between. Waits for answers before."""
        if flow.end or flow.waiting or not flow.seen:
            return
        if flow.proven_ns >= self._fault_ns:
            flow.finish("closed")
        else:
            flow.ask()
        self._forget_ended(flow)

    def _open_due(self, now: int) -> None:
        if now - self._due_ns > _LATE_MAX_NS:
            self._arrears += int((now - self._due_ns) / 1e9 * self._task["rate"])
            self._due_ns = now
        for _ in range(_AT_ONCE):
            if self._due_ns > now:
                return
            self._open()
            self._due_ns += 1 + int(self._chance.expovariate(self._task["rate"]) * 1e9)

    def _open(self) -> None:
        (way,) = self._chance.choices(self._ways, self._weights)
        try:
            flow = Newcomer(self._next_flow, way.path, self._payloads, way.family)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._arrears += 1
            return
        self._next_flow += 1
        self._opened += 1
        number = self._next_flow - self._task["first_flow"]
        long = number <= self._task["keep_long"]
        flow.kept = long or self._chance.random() * 100 < self._task["keep_percent"]
        stays_ms = self._task["keep_ms" if flow.kept else "linger_ms"]
        flow.stays_ns = _FOREVER if long else flow.opened_ns + stays_ms * 1_000_000
        self._flows[flow.fd] = flow
        flow.connect(next(way.sources), next(way.targets))
        if flow.end:
            self._forget_ended(flow)
            return
        # Edge-triggered, so that one registration serves the connection and its answers.
        self._epoll.register(flow.fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        if flow.kept:
            self._wheel[flow.index * 7 % len(self._wheel)].append(flow)
        else:
            self._lingering.append(flow)

    def _on_tick(self, now: int) -> None:
        slot = self._wheel[self._tick % len(self._wheel)]
        self._tick += 1
        for flow in slot:
            if flow.stays_ns <= now:
                self._part_with(flow)
            else:
                flow.ask()
                self._forget_ended(flow)
        slot[:] = [flow for flow in slot if not flow.end]

    def _forget_ended(self, flow: Newcomer) -> None:
        # The kernel gives a closed flow's descriptor to the next one: only the holder may be taken out.
        if flow.end and self._flows.get(flow.fd) is flow:
            del self._flows[flow.fd]
            if self._fault_ns or flow.end[1] != "closed":
                self._ended.append(flow)

    def _obey(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "churn":
                self._due_ns = process.now_ns()
            case "calm":
                self._due_ns = 0
            case "measure":
                self._delays_us = self._measured_us
            case "fault":
                self._fault_ns = order["at_ns"]
                self._until_ns = _FOREVER
                self._delays_us = None
            case "settle":
                self._until_ns = order["until_ns"]
            case "tell":
                self._tell(order["round"])

    def _having_part(self) -> list[Newcomer]:
        return [flow for flow in self._flows.values() if flow.opened_ns <= self._until_ns]

    def _counts(self) -> dict[str, Any]:
        since = self._fault_ns
        part = self._having_part() if since else []
        return {
            "opened": self._opened,
            "completed": self._completed,
            "arrears": self._arrears,
            "live": len(self._flows),
            "unproven": sum(1 for flow in part if flow.proven_ns < since),
            "fault_ns": since,
            "until_ns": self._until_ns,
            "at_ns": process.now_ns(),
        }

    def _tell(self, number: int) -> None:
        now = process.now_ns()
        told = [*self._ended, *self._having_part()]
        with Path(f"{self._task['records']}-{number}.jsonl").open("w", encoding="ascii") as records:
            for flow in told:
                records.write(flow.entry(self._told_ns) + "\n")
        for flow in told:
            if not flow.end and flow.proven_ns < self._fault_ns:
                flow.finish("given up")
                self._flows.pop(flow.fd, None)
        report = {"told": number, "ended_ns": now, "delays_us": self._measured_us}
        self._ended, self._measured_us = [], []
        self._fault_ns, self._told_ns = 0, now
        process.report(report | self._counts())


if __name__ == "__main__":
    Connector(process.start()).run()
