"""A small world for one or two daemons: LANs in a namespace of their own, a private host, a server outside.

Made of namespaces with unique names, so it needs no lab and no lock. Addresses as in the lab.

    host 10.0.1.7 ── br-in ── gw-a .2, gw-b .3 ── br-out ── server 203.0.113.50
                         a: 169.254.10.1 ══ sync ══ b: 169.254.10.2
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.datapath.namespaces import Namespace, join, namespaces

ROOT = Path(__file__).parents[2]
PORT = 7077
PATIENCE_S = 60.0
HOST, SERVER, INSIDE_VIP, OUTSIDE_VIP = "10.0.1.7", "203.0.113.50", "10.0.1.1", "203.0.113.5"
SYNC = {"gw-a": "169.254.10.1", "gw-b": "169.254.10.2"}
_NUMBERS = {"gw-a": 2, "gw-b": 3}

CONFIGURATION = """
[node]
name = "{name}"
priority = {priority}
state_dir = "{directory}/{name}"
capacity = 4096
[interfaces]
inside = "inside"
outside = "outside"
[[vip]]
address = "10.0.1.1/24"
interface = "inside"
[[vip]]
address = "203.0.113.5/24"
interface = "outside"
[peer]
listen = "{listen}:7077"
address = "{peer}:7077"
insecure = true
[[nat]]
source = ["10.0.1.0/24"]
public = ["203.0.113.5"]
[control]
socket = "{directory}/{name}.sock"
"""


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition, with much patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


class Gateway:
    """A namespace that a daemon lives in, and the daemon once it was started."""

    def __init__(self, name: str, namespace: Namespace, directory: Path) -> None:
        self.name, self.namespace, self.directory = name, namespace, directory
        self.process: subprocess.Popen[str] | None = None
        self.socket = directory / f"{name}.sock"
        peer = next(other for other in SYNC if other != name)
        self.configuration = CONFIGURATION.format(
            name=name, priority=200 if name == "gw-a" else 100, directory=directory,
            listen=SYNC[name], peer=SYNC[peer],
        )  # fmt: skip

    def start(
        self, old: str = "", new: str = "", *, confined: tuple[str, ...] = (), **environment: str
    ) -> None:
        """Starts the daemon with its configuration, one text in it exchanged, by a program that confines it, and with
        more in its environment."""
        assert old in self.configuration
        file = self.directory / f"{self.name}.toml"
        file.write_text(self.configuration.replace(old, new, 1) if old else self.configuration)
        command = [
            "ip",
            "netns",
            "exec",
            self.namespace.name,
            *confined,
            sys.executable,
            "-m",
            "hasyncd",
            "run",
            "-c",
            file,
        ]
        with (self.directory / f"{self.name}.log").open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | environment, stderr=log, text=True
            )

    @property
    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text()

    def end(self) -> int:
        """Waits for the daemon's own end; its exit code."""
        assert self.process
        return self.process.wait(PATIENCE_S)

    def signal(self, number: int) -> None:
        assert self.process
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(PATIENCE_S)

    def ask(self, verb: str) -> dict[str, Any] | None:
        """The first object of the answer; None where no daemon answers (now)."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.settimeout(5)
                control.connect(str(self.socket))
                control.sendall(json.dumps({"verb": verb}).encode() + b"\n")
                answer = control.makefile().readline()
        except OSError:
            return None
        return dict(json.loads(answer)) if answer else None

    @property
    def status(self) -> dict[str, Any]:
        return self.ask("status") or {"role": None, "counters": {}, "sync": {"state": None}}

    def wait_role(self, role: str) -> None:
        def has_role() -> bool:
            assert self.process
            assert self.process.poll() is None, self.log
            return bool(self.status["role"] == role)

        until(has_role, f"{self.name} is {role}")

    def wait_counter(self, name: str, at_least: int = 1) -> int:
        found = 0

        def grown() -> bool:
            nonlocal found
            found = self.status["counters"].get(name, 0)
            return found >= at_least

        until(grown, f"{self.name} counts {name}")
        return found

    @property
    def memory_kib(self) -> int:
        """Resident memory of the daemon."""
        assert self.process
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def filters(self) -> str:
        """The ingress filters on the data path's interfaces."""
        sides = ("inside", "outside")
        return "".join(
            self.namespace.run("tc", "filter", "show", "dev", side, "ingress") for side in sides
        ).strip()


class World:
    def __init__(self, lan: Namespace, host: Namespace, server: Namespace, gateways: list[Gateway]) -> None:
        self.lan, self.host, self.server = lan, host, server
        self.a, self.b = gateways
        self.public_port = 0
        """Which port of the VIP the server saw last."""
        with host.entered():
            self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server.entered():
            self._answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._answering.bind((SERVER, 7000))
        self._asking.connect((SERVER, 7000))
        self._answering.settimeout(0.2)
        self._asking.settimeout(0.2)

    def close(self) -> None:
        for gateway in (self.a, self.b):
            gateway.kill()
        self._asking.close()
        self._answering.close()

    def talk(self) -> bool:
        """One question through NAT and its answer; whether they came through. The flow is always the same."""
        try:
            self._asking.send(b"question")
            _, source = self._answering.recvfrom(64)
            self.public_port = source[1]
            self._answering.sendto(b"answer", source)
            return self._asking.recv(64) == b"answer" and source[0] == OUTSIDE_VIP
        except TimeoutError:
            return False
        except OSError:
            return False  # an ICMP error of an outage: the next question tells

    def blast(self, count: int) -> None:
        """Sends questions of the same flow without waiting for an answer; what comes of them is not read."""
        for _ in range(count):
            self._asking.send(b"question")

    def wait_traffic(self) -> None:
        until(self.talk, "packets flow")


@contextmanager
def world() -> Iterator[World]:
    """Both gateways' machines, no daemon yet."""
    with namespaces(5) as (lan, host, server, a, b), tempfile.TemporaryDirectory(prefix="hs-world-") as base:
        for bridge in ("br-in", "br-out"):
            lan.ip("link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            lan.ip("link", "set", bridge, "up")
        plugs = [("host", host, "eth0", "br-in"), ("server", server, "eth0", "br-out")]
        for letter, gateway in (("a", a), ("b", b)):
            plugs += [
                (f"{letter}-in", gateway, "inside", "br-in"),
                (f"{letter}-out", gateway, "outside", "br-out"),
            ]
        for port, namespace, name, bridge in plugs:
            join(lan, port, namespace, name)
            lan.ip("link", "set", port, "master", bridge)
        join(a, "sync", b, "sync")
        for name, gateway in (("gw-a", a), ("gw-b", b)):
            gateway.ip("address", "add", f"10.0.1.{_NUMBERS[name]}/24", "dev", "inside")
            gateway.ip("address", "add", f"203.0.113.{_NUMBERS[name]}/24", "dev", "outside")
            gateway.ip("address", "add", f"{SYNC[name]}/24", "dev", "sync")
        host.ip("address", "add", f"{HOST}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", INSIDE_VIP)
        server.ip("address", "add", f"{SERVER}/24", "dev", "eth0")
        made = World(lan, host, server, [Gateway("gw-a", a, Path(base)), Gateway("gw-b", b, Path(base))])
        try:
            yield made
        finally:
            made.close()
