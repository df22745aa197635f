"""Engines without sockets, set up as the gateways of the lab: frames go in by `inject` and come out by `take_sent`.

private 10.0.1.7 …, backends .21 .22 ── 10.0.1.1 [engine] 203.0.113.5 ── clients .100 …, router .254, the world
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native.frames import Seen, number, read

SEED = b"engines-in-tests"
SECOND_NS = 10**9
FOREVER_NS = 2**63
INSIDE_VIP, OUTSIDE_VIP = "10.0.1.1", "203.0.113.5"
PRIVATE, CLIENT, ROUTER = "10.0.1.7", "203.0.113.100", "203.0.113.254"
BACKENDS = {1: "10.0.1.21", 2: "10.0.1.22"}
WEB = 0
ANYONE = [(0, 0)]
PRIVATE_NET = (number("10.0.1.0"), 24)
INSIDE_MAC, OUTSIDE_MAC = b"\xaa" * 6, b"\xbb" * 6


Ends = tuple[int | bytes, int, int | bytes, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """A row of `list_flows`, without what a clock changes."""

    proto: int
    original: Ends
    reply: Ends
    state: int
    service: int
    server_id: int
    rule: int


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def mac_of(address: str) -> bytes:
    """The MAC that a test's neighbour has: its address with two bytes in front."""
    return b"\x02\x00" + number(address).to_bytes(4, "big")


def bare_engine(*, capacity: int = 1024, seed: bytes = SEED, **limits: int) -> Engine:
    """Sides, VIPs, routes and neighbours, but no rule: everything is denied."""
    engine = Engine(capacity=capacity, seed=seed, **limits)
    engine.attach(INSIDE, INSIDE_MAC, 1500)
    engine.attach(OUTSIDE, OUTSIDE_MAC, 1500)
    engine.set_vips([(INSIDE, number(INSIDE_VIP)), (OUTSIDE, number(OUTSIDE_VIP))])
    engine.set_routes(
        [
            (*PRIVATE_NET, INSIDE, 0),
            (number("10.2.0.0"), 24, INSIDE, 0),
            (number("203.0.113.0"), 24, OUTSIDE, 0),
            (0, 0, OUTSIDE, number(ROUTER)),
        ]
    )
    inside = [f"10.0.1.{host}" for host in range(7, 40)] + ["10.2.0.9"]
    outside = [f"203.0.113.{host}" for host in range(100, 120)] + [ROUTER]
    engine.set_neighbours([(INSIDE, number(a), mac_of(a)) for a in inside])
    engine.set_neighbours([(OUTSIDE, number(a), mac_of(a)) for a in outside])
    return engine


def make_engine(
    *, capacity: int = 1024, seed: bytes = SEED, ports: tuple[int, int] = (1024, 65535), armed: bool = True,
    **limits: int,
) -> Engine:  # fmt: skip
    """A gateway with NAT for 10.0.1.0/24 and a service `web` at 203.0.113.5:80 (TCP and UDP)."""
    engine = bare_engine(capacity=capacity, seed=seed, **limits)
    engine.set_nat_rules([([PRIVATE_NET], [], [number(OUTSIDE_VIP)], *ports)])
    backends = [(server_id, number(address), 8080, 1) for server_id, address in BACKENDS.items()]
    for index, protocol in enumerate((6, 17)):
        engine.set_service(index, number(OUTSIDE_VIP), 80, protocol, ANYONE)
        publish_ring(engine, index, backends, 1)
    if armed:
        arm(engine)
    return engine


def publish_ring(
    engine: Engine,
    index: int,
    backends: Sequence[tuple[int, Any, int, int]],
    generation: int,
    vnodes: int = 160,
    draining: Sequence[tuple[int, Any, int, int]] = (),
) -> None:
    """Backends as (server_id, address, port, weight), up and draining, balanced by a consistent hash."""
    members = [(server_id, weight) for server_id, _, _, weight in backends]
    rows = [(*backend, 0) for backend in backends] + [(*backend, 1) for backend in draining]
    engine.publish(index, rows, BackendTable("consistent-hash", members, generation, vnodes))


def arm(engine: Engine, at_ns: int | None = None) -> None:
    engine.arm(now_ns() if at_ns is None else at_ns)
    engine.set_lease(FOREVER_NS)


def send(engine: Engine, side: int, frame: bytes, at_ns: int | None = None) -> list[Seen]:
    """What leaves because of a frame, read back with every checksum verified."""
    engine.inject(side, frame, now_ns() if at_ns is None else at_ns)
    return take(engine)


def take(engine: Engine) -> list[Seen]:
    return [read(frame) for _, frame in engine.take_sent()]


def flows(engine: Engine, *, page: int = 1000) -> list[Flow]:
    found, cursor, at_ns = [], 0, now_ns()
    while cursor >= 0:
        cursor, rows = engine.list_flows(cursor, page, at_ns)
        for row in rows:
            proto, state, _timeout_s, service, server_id, rule = (row[0], *row[9:14])
            found.append(Flow(proto, row[1:5], row[5:9], state, service, server_id, rule))  # type: ignore[arg-type]
    return found


def record_kinds(records: bytes) -> list[int]:
    """The kinds of packed records, in order."""
    sizes, kinds, at = {1: 32, 2: 12, 3: 12, 4: 36, 5: 40, 6: 68}, [], 0
    while at < len(records):
        kinds.append(records[at])
        at += sizes[records[at]]
    return kinds


def at_risk(engine: Engine) -> set[tuple[int, Ends]]:
    """Protocol and original tuple of each flow that the engine calls at risk."""
    _, rows = engine.list_flows(0, 1 << 20, now_ns())
    return {(int(str(row[0])), tuple(row[1:5])) for row in rows if row[14]}  # type: ignore[misc]


def moved(counters: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in counters.items() if value != before[name]}


def drops(engine: Engine) -> dict[str, int]:
    return {name: count for name, count in engine.counters().items() if name.startswith("drop_") and count}
