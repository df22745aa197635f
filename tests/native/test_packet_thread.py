"""The packet thread: no data race with the shell's calls, and no stall when the interpreter stalls."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.datapath.namespaces import Namespace, join, namespaces
from tests.native.frames import number
from tests.native.sanitized import NATIVE, ROOT, WARNINGS, gcc

pytestmark = pytest.mark.e2e

PRIVATE, SERVER = "10.0.1.7", "203.0.113.50"
STALL_S = 1.0

STALLING_GATEWAY = """
import json, socket, sys, time
from hasyncd._native import Engine
settings = json.loads(sys.stdin.readline())
engine = Engine(capacity=4096, seed=bytes(16))
for side, (name, mac) in enumerate(settings["sides"]):
    engine.open(side, socket.if_nametoindex(name), bytes.fromhex(mac), 1500, True)
engine.set_routes([tuple(route) for route in settings["routes"]])
engine.set_neighbours([(side, address, bytes.fromhex(mac)) for side, address, mac in settings["neighbours"]])
engine.set_nat_rules(settings["nat"])
engine.set_lease(2**63)
engine.arm(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
if settings["commit"] == "emit":
    engine.set_commit("emit", 60 * 10**9, True)
engine.start_thread()
print("ready", flush=True)
for order in sys.stdin:
    if order == "stall\\n":
        began = time.monotonic()
        print("stalled", flush=True)
        while time.monotonic() - began < float(sys.argv[1]):
            sum(range(200_000))  # holds the interpreter as a long turn of the loop would
    else:  # a turn of the loop: what was logged is written
        first, count, _ = engine.drain()
        if count:
            engine.emitted(first + count - 1)
    print(json.dumps(engine.counters()), flush=True)
engine.close()
"""


def mac_of(namespace: Namespace, name: str) -> str:
    found: str = json.loads(namespace.ip("-j", "link", "show", name))[0]["address"]
    return found.replace(":", "")


def wire(private: Namespace, gateway: Namespace, server: Namespace) -> None:
    join(private, "lan", gateway, "inside")
    join(gateway, "outside", server, "lan")
    private.ip("address", "add", f"{PRIVATE}/24", "dev", "lan")
    server.ip("address", "add", f"{SERVER}/24", "dev", "lan")
    private.ip("route", "add", "default", "via", "10.0.1.1")
    # Nobody answers ARP for the gateway's addresses here: the packets, not the addresses, are under test.
    private.ip("neigh", "replace", "10.0.1.1", "lladdr", _colons(mac_of(gateway, "inside")), "dev", "lan")
    server.ip("neigh", "replace", "203.0.113.5", "lladdr", _colons(mac_of(gateway, "outside")), "dev", "lan")


def _colons(mac: str) -> str:
    return ":".join(mac[at : at + 2] for at in range(0, 12, 2))


class Echo:
    """A UDP echo server in a namespace, on a thread of this process."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.entered():
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((SERVER, 7))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                data, address = self.socket.recvfrom(2048)
            except OSError:
                return
            if data == b"end":
                return
            self.socket.sendto(data, address)

    def close(self) -> None:
        self.socket.sendto(b"end", (SERVER, 7))
        self.thread.join(10)
        self.socket.close()


class StallingGateway:
    """The program above; a line of orders, a line of counters."""

    def __init__(self, private: Namespace, gateway: Namespace, server: Namespace, commit: str) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", gateway.name, sys.executable, "-c", STALLING_GATEWAY, str(STALL_S)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        settings = {
            "sides": [("inside", mac_of(gateway, "inside")), ("outside", mac_of(gateway, "outside"))],
            "routes": [(number("10.0.1.0"), 24, 0, 0), (number("203.0.113.0"), 24, 1, 0)],
            "neighbours": [
                (0, number(PRIVATE), mac_of(private, "lan")),
                (1, number(SERVER), mac_of(server, "lan")),
            ],
            "nat": [([(number("10.0.1.0"), 24)], [], [number("203.0.113.5")], 1024, 65535)],
            "commit": commit,
        }
        self.order(json.dumps(settings))
        assert self.line() == "ready"

    def order(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def turn(self) -> None:
        self.order("turn")
        self.line()

    def stall(self) -> None:
        self.order("stall")
        assert self.line() == "stalled"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def stalling(commit: str) -> Iterator[tuple[Namespace, StallingGateway]]:
    with namespaces(3) as (private, middle, server):
        wire(private, middle, server)
        echo = Echo(server)
        gateway = StallingGateway(private, middle, server, commit)
        try:
            yield private, gateway
        finally:
            gateway.close()
            echo.close()


def client_of(private: Namespace) -> socket.socket:
    with private.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((SERVER, 7))
    client.settimeout(5)
    return client


def ask_for(client: socket.socket, seconds: float) -> int:
    """Questions that were answered, one at a time."""
    answered = 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        client.send(b"are you there")
        assert client.recv(64) == b"are you there"
        answered += 1
    return answered


def test_a_stalled_interpreter_stalls_no_flow() -> None:
    """A UDP flow opens, asks and is answered all the while the gateway's interpreter is busy."""
    with stalling("none") as (private, gateway), client_of(private) as client:
        gateway.stall()
        answered = ask_for(client, STALL_S / 2)
        counters = json.loads(gateway.line())
    assert answered > 100
    assert counters["sent_packets"] >= 2 * answered
    assert counters["poll_calls"] == 0


def test_under_emit_a_stall_holds_new_flows_and_no_others() -> None:
    """A first packet waits for the write(2) of its ADD, and that is the interpreter's; it leaves with the next turn."""
    with stalling("emit") as (private, gateway), client_of(private) as old, client_of(private) as new:
        old.send(b"first")
        while json_counter(gateway, "held_packets") == 0:
            pass
        gateway.turn()
        assert old.recv(64) == b"first"
        gateway.stall()
        new.send(b"am I let in")
        answered = ask_for(old, STALL_S / 2)
        new.setblocking(False)
        with pytest.raises(BlockingIOError):
            new.recv(64)
        assert json.loads(gateway.line())["fail_open_released"] == 0
        gateway.turn()
        new.settimeout(5)
        assert new.recv(64) == b"am I let in"
    assert answered > 100


def json_counter(gateway: StallingGateway, name: str) -> int:
    gateway.order("turn")
    found: int = json.loads(gateway.line())[name]
    return found


def test_thread_and_shell_race_for_nothing(tmp_path: Path) -> None:
    """Under ThreadSanitizer: new flows held and released, established ones forwarded, all at once."""
    program = tmp_path / "races"
    sources = [str(path) for folder in ("core", "io") for path in sorted((NATIVE / folder).glob("*.c"))]
    gcc(
        "-std=c11", "-g", "-O1", "-D_GNU_SOURCE", "-pthread", f"-I{NATIVE}", *WARNINGS, "-fsanitize=thread",
        str(Path(__file__).with_name("threads") / "races.c"), *sources, "-o", str(program),
    )  # fmt: skip
    with namespaces(3) as (private, gateway, server):
        wire(private, gateway, server)
        echo = Echo(server)
        macs = [mac_of(private, "lan"), mac_of(server, "lan")]
        # ThreadSanitizer needs the address space as it was before randomization grew.
        command = [
            "ip",
            "netns",
            "exec",
            gateway.name,
            "setarch",
            "-R",
            str(program),
            "inside",
            "outside",
            *macs,
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"TSAN_OPTIONS": "halt_on_error=1"},
        )  # fmt: skip
        with private.entered():
            clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
        while process.poll() is None:
            for client in clients:
                client.sendto(b"x", (SERVER, 7))
            time.sleep(0.002)
        output, _ = process.communicate()
        for client in clients:
            client.close()
        echo.close()
    assert process.returncode == 0, output
