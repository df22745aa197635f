"""Numbered datagrams at a steady rate through the pair, and the far end that says which of them came.

Task of the source: {"role": "source", "source": address, "target": [address, port], "rate": datagrams a second,
"flows": n}; it sends from the beginning and reports {"sent"} five times a second. Task of the sink: {"role": "sink",
"address", "port"}; it reports {"ready": true} and then {"received"}. Both end on the order {"do": "finish"} with a last
report, {"finished": true}: the source's has `marks`, (number, moment in ns) of every thousandth datagram; the sink's
`missing` (ranges of numbers, both ends included), `lost`, `twice`, `late` (came behind a later one), `silences` longer
than 5 ms, `peers` (sources that it saw) and `overflowed`: what its own socket had no room for, nobody else's doing.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Any

from hasyncd.lab.traffic import process

_NUMBER = struct.Struct("!Q")
_PADDING = bytes(10)  # 64-byte frames with the frame check
_CATCH_UP = 400
"""A source that was kept from its core sends no more at once than this: a burst is another test."""
_NAP_S = 0.0002
_NICE = -10
"""As the gateways: bulk TCP beside takes all of the cores that it is left."""
_MARK_EVERY = 1000
_REPORT_NS = 200_000_000
_SILENCE_NS = 5_000_000
_READS_PER_TURN = 1024
_BUFFER = 64 << 20
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55  # asm-generic/socket.h; Python 3.11 does not name them
_MEMINFO_DROPS = 8  # linux/sock_diag.h: SK_MEMINFO_DROPS


def send(task: dict[str, Any]) -> None:
    """The source."""
    sockets = []
    for _ in range(task["flows"]):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind((task["source"], 0))
        one.connect(tuple(task["target"]))
        sockets.append(one)
    orders, period_ns = process.Orders(), 1_000_000_000 // task["rate"]
    sends, flows, pack = [one.send for one in sockets], len(sockets), _NUMBER.pack
    number, marks, finishing = 0, [], False
    due_ns = began_ns = process.now_ns()
    report_ns = 0
    while not orders.closed and not finishing:
        now = process.now_ns()
        due_ns = max(due_ns, now - _CATCH_UP * period_ns)
        if due_ns > now:
            time.sleep(_NAP_S)
        while due_ns <= now:
            if number % _MARK_EVERY == 0:
                marks.append((number, process.now_ns()))
            try:
                sends[number % flows](pack(number) + _PADDING)
            except OSError:  # the stack took nothing: the number goes out the next time
                number -= 1
            number += 1
            due_ns += period_ns
        if now >= report_ns:
            report_ns = now + _REPORT_NS
            finishing = any(order["do"] == "finish" for order in orders.read())
            process.report({"sent": number})
    seconds = (process.now_ns() - began_ns) / 1e9
    process.report({"finished": True, "sent": number, "seconds": seconds, "marks": marks})


class Sink:
    """The far end: a byte for every number that could come."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setblocking(False)
        self._socket.bind((task["address"], task["port"]))
        self._came = bytearray()
        self._peers: set[tuple[str, int]] = set()
        self._twice = self._late = 0
        self._next = 0
        self._heard_ns = 0
        self._silences: list[tuple[int, int]] = []

    def run(self) -> None:
        """Counts until it is told to finish."""
        orders, poll = process.Orders(), select.epoll()
        poll.register(0, select.EPOLLIN)
        poll.register(self._socket, select.EPOLLIN)
        process.report({"ready": True})
        report_ns, finishing = 0, False
        while not orders.closed and not finishing:
            for descriptor, _ in poll.poll():
                if descriptor == 0:
                    finishing = any(order["do"] == "finish" for order in orders.read())
                else:
                    self._receive()
            if process.now_ns() >= report_ns:
                report_ns = process.now_ns() + _REPORT_NS
                process.report({"received": len(self._came)})
        self._receive()
        process.report({"finished": True} | self._summary())

    def _receive(self) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                data, peer = self._socket.recvfrom(64)
            except BlockingIOError:
                return
            self._take(_NUMBER.unpack_from(data)[0], peer)

    def _take(self, number: int, peer: tuple[str, int]) -> None:
        now = process.now_ns()
        if self._heard_ns and now - self._heard_ns > _SILENCE_NS:
            self._silences.append((self._heard_ns, now))
        self._heard_ns = now
        self._peers.add(peer)
        if number >= len(self._came):
            self._came.extend(bytes(number + 1 - len(self._came)))
        self._twice += self._came[number]
        self._came[number] = 1
        self._late += number < self._next
        self._next = max(self._next, number + 1)

    def _summary(self) -> dict[str, Any]:
        missing = []
        at = self._came.find(0)
        while at >= 0:
            end = self._came.find(1, at)
            missing.append((at, end - 1))
            at = self._came.find(0, end)
        memory = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
        return {
            "received": sum(self._came),
            "highest": len(self._came) - 1,
            "lost": sum(last - first + 1 for first, last in missing),
            "missing": missing,
            "twice": self._twice,
            "late": self._late,
            "silences": self._silences,
            "peers": len(self._peers),
            "overflowed": struct.unpack_from("=I", memory, 4 * _MEMINFO_DROPS)[0],
        }


if __name__ == "__main__":
    mine = process.start()
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    if mine["role"] == "source":
        send(mine)
    else:
        Sink(mine).run()
