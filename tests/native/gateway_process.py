"""An engine on two real interfaces, in a process of its own: what the daemon's loop is, reduced to packets.

Run as a program in the gateway's namespace with a JSON description on the first line of standard input:
{"sides": [[name, mac, mtu], …], "vips", "routes", "neighbours", "nat", "services": [[vip, port, protocol, backends]],
"thread": whether packets move in the packet thread, and not by `poll`; "ring": whether they come by rings}.
Every further line is a command; each is answered by one line of JSON.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from hasyncd._native import Engine
from tests.native.engines import publish_ring

HOUR_NS = 3600 * 10**9


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def make(settings: dict[str, Any]) -> tuple[Engine, list[int]]:
    engine = Engine(capacity=65536, seed=b"packet-io-tests!")
    descriptors = [
        engine.open(side, socket.if_nametoindex(name), bytes.fromhex(mac), mtu, settings["ring"])
        for side, (name, mac, mtu) in enumerate(settings["sides"])
    ]
    engine.set_vips([tuple(vip) for vip in settings["vips"]])
    engine.set_routes([tuple(route) for route in settings["routes"]])
    engine.set_neighbours(
        [(side, address, bytes.fromhex(mac)) for side, address, mac in settings["neighbours"]]
    )
    engine.set_nat_rules(settings["nat"])
    for index, (vip, port, protocol, backends) in enumerate(settings["services"]):
        engine.set_service(index, vip, port, protocol, [(0, 0)])
        publish_ring(engine, index, [tuple(backend) for backend in backends], 1)
    engine.set_lease(now_ns() + HOUR_NS)
    engine.arm(now_ns())
    if settings["thread"]:
        return engine, [engine.start_thread()]
    return engine, descriptors


def set_lease(engine: Engine, seconds: float) -> dict[str, int]:
    engine.set_lease(now_ns() + int(seconds * 10**9) if seconds else 0)
    return {}


COMMANDS: dict[str, Callable[..., dict[str, int]]] = {
    "counters": lambda engine: engine.counters(),
    "lease": set_lease,
    "announce": lambda engine: {"frames": engine.announce()},
}


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    engine, descriptors = make(settings)
    print("{}", flush=True)
    waiting = [*descriptors, sys.stdin.fileno()]
    ticked = now_ns()
    while True:
        readable, _, _ = select.select(waiting, [], [], 0.01)
        if sys.stdin.fileno() in readable:
            line = sys.stdin.readline()
            if not line:
                return
            name, *arguments = json.loads(line)
            print(json.dumps(COMMANDS[name](engine, *arguments)), flush=True)
        if set(descriptors) & set(readable):
            if settings["thread"]:
                os.eventfd_read(descriptors[0])
            else:
                engine.poll()
        if now_ns() - ticked > 10**7:
            ticked = now_ns()
            engine.tick(ticked)


if __name__ == "__main__":
    main()
