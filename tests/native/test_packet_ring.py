"""Rings and queues under pressure: what is too much is counted, what is large keeps its place, a downed link is quiet,
a flood leaves the interpreter its turns."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hasyncd.bench
from tests.datapath.namespaces import Namespace, namespaces
from tests.native.frames import number
from tests.native.sanitized import ROOT
from tests.native.test_packet_io import Gateway
from tests.native.test_packet_thread import PRIVATE, SERVER, mac_of, wire

pytestmark = pytest.mark.e2e

SLOTS = 8192  # hasyncd/native/io/packet_ring.c
JUMBO = 9000
FLOOD = Path(hasyncd.bench.__file__).with_name("udp_flood.py")

ASYNCIO_GATEWAY = """
import asyncio, json, os, sys, time
from tests.native.gateway_process import make, now_ns
settings = json.loads(sys.stdin.readline())
os.setpriority(os.PRIO_PROCESS, 0, -10)  # node.nice's default
if settings["cores"] == 1:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
engine, descriptors = make(settings)
async def run():
    loop = asyncio.get_running_loop()
    for descriptor in descriptors:
        loop.add_reader(descriptor, (lambda d=descriptor: os.eventfd_read(d)) if settings["thread"] else engine.poll)
    while True:
        turns, latest = 0, 0.0
        if not await loop.run_in_executor(None, sys.stdin.readline):
            return
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            asked = time.monotonic()
            await asyncio.sleep(0.005)
            engine.tick(now_ns())
            turns, latest = turns + 1, max(latest, time.monotonic() - asked)
        print(json.dumps({"turns": turns, "latest_ms": latest * 1000, **engine.counters()}), flush=True)
print("{}", flush=True)
asyncio.run(run())
"""


def describe(private: Namespace, gateway: Namespace, server: Namespace, mtu: int = 1500) -> dict[str, Any]:
    return {
        "sides": [("inside", mac_of(gateway, "inside"), mtu), ("outside", mac_of(gateway, "outside"), mtu)],
        "vips": [],
        "routes": [(number("10.0.1.0"), 24, 0, 0), (number("203.0.113.0"), 24, 1, 0)],
        "neighbours": [
            (0, number(PRIVATE), mac_of(private, "lan")),
            (1, number(SERVER), mac_of(server, "lan")),
        ],
        "nat": [([(number("10.0.1.0"), 24)], [], [number("203.0.113.5")], 1024, 65535)],
        "services": [],
        "thread": True,
        "ring": True,
    }


@contextmanager
def wired(ring: bool) -> Iterator[tuple[Namespace, Namespace, Namespace, Gateway]]:
    """A gateway between links with room for jumbo frames."""
    with namespaces(3) as (private, middle, server):
        wire(private, middle, server)
        for namespace, names in ((private, ["lan"]), (middle, ["inside", "outside"]), (server, ["lan"])):
            for name in names:
                namespace.ip("link", "set", name, "mtu", str(JUMBO))
        gateway = Gateway(middle, describe(private, middle, server, JUMBO) | {"ring": ring})
        try:
            yield private, middle, server, gateway
        finally:
            gateway.close()


@contextmanager
def ends(private: Namespace, server: Namespace) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP flow from inside to a server with much room, its first packet gone through."""
    with private.entered():
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server.entered():
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with near, there:
        there.settimeout(20)
        there.setsockopt(socket.SOL_SOCKET, 33, 128 << 20)  # SO_RCVBUFFORCE
        there.bind((SERVER, 7))
        near.connect((SERVER, 7))
        near.send(b"first")
        assert there.recv(100) == b"first"
        yield near, there


@contextmanager
def stopped(gateway: Gateway) -> Iterator[None]:
    os.kill(gateway.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(gateway.process.pid, signal.SIGCONT)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not become true"
        time.sleep(0.02)


def test_what_finds_the_ring_full_is_counted_and_the_rest_arrives_in_order() -> None:
    count = SLOTS + 1000
    with wired(ring=True) as (private, _, server, gateway), ends(private, server) as (near, there):
        before = gateway.counters()

        def grown(name: str) -> int:
            return gateway.counters()[name] - before[name]

        with stopped(gateway):
            for index in range(count):
                near.send(index.to_bytes(4, "big"))
        wait_until(lambda: grown("received_packets") + grown("receive_dropped") == count)
        received = grown("received_packets")
        assert SLOTS - 1 <= received < count
        assert [int.from_bytes(there.recv(100), "big") for _ in range(received)] == list(range(received))
        near.send(b"again")
        assert there.recv(100) == b"again"


@pytest.mark.parametrize("ring", [True, False])
def test_large_packets_keep_their_place_among_small_ones(ring: bool) -> None:
    """Those that no slot holds come another way, through the socket's queue."""
    chance = random.Random(7)
    sizes = [chance.choice((4, 60, 1400, 1925, 1926, 1927, 1928, 1940, 2100, 8900)) for _ in range(3000)]
    sent = [index.to_bytes(4, "big") + chance.randbytes(size) for index, size in enumerate(sizes)]
    with wired(ring) as (private, _, server, gateway), ends(private, server) as (near, there):
        with stopped(gateway):  # or batches were of one packet each
            for message in sent:
                near.send(message)
        for message in sent:
            assert there.recv(65535) == message
        assert gateway.counters()["receive_dropped"] == 0


def cpu_s(pid: int) -> float:
    figures = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("ring", [True, False])
def test_a_downed_interface_costs_nothing_and_carries_again_when_it_is_up(ring: bool) -> None:
    with wired(ring) as (private, middle, server, gateway), ends(private, server) as (near, there):
        middle.ip("link", "set", "inside", "down")
        began, spent = time.monotonic(), cpu_s(gateway.process.pid)
        time.sleep(1)
        assert cpu_s(gateway.process.pid) - spent < (time.monotonic() - began) / 2
        middle.ip("link", "set", "inside", "up")

        def passes() -> bool:
            there.settimeout(0.1)
            near.send(b"back")
            try:
                return there.recv(100) == b"back"
            except TimeoutError:
                return False

        wait_until(passes)


@pytest.mark.parametrize(("cores", "thread"), [(2, True), (1, True), (1, False)])
def test_a_flood_leaves_the_interpreter_its_turns(cores: int, thread: bool) -> None:
    """The loop ticks every 5 ms while more packets come than can go; a heartbeat is due every 50 ms."""
    with namespaces(3) as (private, middle, server):
        wire(private, middle, server)
        process = subprocess.Popen(
            ["ip", "netns", "exec", middle.name, sys.executable, "-c", ASYNCIO_GATEWAY],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        flood = None
        try:
            assert process.stdin
            assert process.stdout
            settings = describe(private, middle, server) | {"cores": cores, "thread": thread}
            process.stdin.write(json.dumps(settings) + "\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "{}"
            private.run(
                "ethtool", "-K", "lan", "tx-udp-segmentation", "off"
            )  # sixteen packets, and not one of them
            command = ["ip", "netns", "exec", private.name, sys.executable, str(FLOOD), SERVER, "9", "60"]
            flood = subprocess.Popen(command)
            process.stdin.write("\n")
            process.stdin.flush()
            seen = json.loads(process.stdout.readline())
        finally:
            for each in filter(None, (process, flood)):
                each.kill()
                each.communicate()
    assert seen["received_packets"] > 10_000, seen
    # A loop alone has 290 turns in this time; a quarter is late by less than half a heartbeat's interval on average.
    assert seen["turns"] > 70, seen
