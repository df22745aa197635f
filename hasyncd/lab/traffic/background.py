"""Idle flows that fill the tables: one process that opens them through NAT, and the sink that answers each.

Every pair of a source port and a sink port is a flow, so a few hundred sockets on either side make a hundred thousand.
They are opened as fast as `rate` and then refreshed slowly, each long before it would age out.

Task of the opener: {"role": "open", "source": address, "target": address, "flows": n, "ports": n, "port_first": n,
"rate": datagrams a second}. Reports {"answered": n} five times a second: how many flows have had an answer.
Task of the sink: {"role": "sink", "address": address, "ports": n, "port_first": n}.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from hasyncd.lab.traffic import process

_TICK_NS = 10_000_000
_REPORT_NS = 200_000_000
_REFRESH_S = 60
_DATAGRAM = b"background"
_READS_PER_EVENT = 256


def _socket(address: str, port: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.bind((address, port))
    return made


class Opener:
    """Walks over all flows again and again: fast the first time, slowly from then on."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        sources = -(-task["flows"] // task["ports"])
        self._sockets = {made.fileno(): made for made in (_socket(task["source"]) for _ in range(sources))}
        self._walk = list(self._sockets.values())
        self._answered: set[tuple[int, int]] = set()
        self._next = 0
        self._rate = float(task["rate"])
        self._epoll = select.epoll()
        for descriptor in (0, *self._sockets):
            self._epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Runs until standard input closes."""
        orders = process.Orders()
        tick = process.now_ns() // _TICK_NS
        report_due = 0
        owed = 0.0
        while not orders.closed:
            now = process.now_ns()
            ticks = min(100, now // _TICK_NS - tick)
            tick = max(tick, now // _TICK_NS)
            owed += ticks * self._rate * _TICK_NS / 1e9
            while owed >= 1:
                owed -= 1
                self._send_next()
            if now >= report_due:
                report_due = now + _REPORT_NS
                process.report({"answered": len(self._answered), "cpu_s": process.cpu_seconds()})
            for descriptor, _ in self._epoll.poll(_TICK_NS / 1e9, 1024):
                if descriptor == 0:
                    orders.read()
                else:
                    self._receive(descriptor)

    def _send_next(self) -> None:
        flow, self._next = self._next, (self._next + 1) % self._task["flows"]
        if self._next == 0 and len(self._answered) == self._task["flows"]:
            self._rate = max(1.0, self._task["flows"] / _REFRESH_S)
        place, port = divmod(flow, self._task["ports"])
        with contextlib.suppress(OSError):
            self._walk[place].sendto(_DATAGRAM, (self._task["target"], self._task["port_first"] + port))

    def _receive(self, descriptor: int) -> None:
        for _ in range(_READS_PER_EVENT):
            try:
                _, (_, port) = self._sockets[descriptor].recvfrom(64)
            except OSError:
                return
            self._answered.add((descriptor, port))


def sink(task: dict[str, Any]) -> None:
    """Answers every datagram until standard input closes."""
    orders = process.Orders()
    ports = range(task["port_first"], task["port_first"] + task["ports"])
    sockets = {made.fileno(): made for made in (_socket(task["address"], port) for port in ports)}
    epoll = select.epoll()
    for descriptor in (0, *sockets):
        epoll.register(descriptor, select.EPOLLIN)
    process.report({"ready": True})
    while not orders.closed:
        for descriptor, _ in epoll.poll(-1, 1024):
            if descriptor == 0:
                orders.read()
                continue
            with contextlib.suppress(OSError):
                for _ in range(_READS_PER_EVENT):
                    data, peer = sockets[descriptor].recvfrom(64)
                    sockets[descriptor].sendto(data, peer)


if __name__ == "__main__":
    its_task = process.start()
    if its_task["role"] == "sink":
        sink(its_task)
    else:
        Opener(its_task).run()
