"""A test bed: client, gateway and server in a row, the gateway being hasyncd or the kernel's own nft NAT.

    client c0 10.0.1.7 ── inside [gateway] outside ── s0 203.0.113.50 server

Two beds stand side by side, so that measurements can alternate between them: the machine's mood of a minute
then moves both sides of a ratio.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from hasyncd.cli.client import NoDaemon, ask
from hasyncd.lab.namespaces import LabError, inside, remove, run_ip, spawn, write_sysctls

SERVER = "203.0.113.50"
DISCARD_PORT = 9
_READY_S = 15
_NAT = (
    "table ip bench { chain post { type nat hook postrouting priority 100; "
    "ip saddr 10.0.1.0/24 snat to 203.0.113.5; }; }"
)
# Classic BPF behind the tap: UDP to the discard port is dropped, everything else goes on (0xffffffff).
_DISCARD = f"6,48 0 0 23,21 0 3 17,40 0 0 36,21 0 1 {DISCARD_PORT},6 0 0 2,6 0 0 4294967295"
SIDES = """\
[interfaces]
inside = "inside"
outside = "outside"
[[vip]]
address = "10.0.1.1/24"
interface = "inside"
[[vip]]
address = "203.0.113.5/24"
interface = "outside"
"""
"""Interfaces and VIPs of every gateway of a bed, in TOML."""
_CONFIGURATION = """
[node]
name = "bench"
state_dir = "{directory}/state"
nice = -20
engine = "{engine}"
capacity = {capacity}
{sides}[peer]
listen = "127.0.0.1:7077"
address = "127.0.0.2:7077"
insecure = true
[[nat]]
source = ["10.0.1.0/24"]
public = ["203.0.113.5"]
[control]
socket = "{directory}/bench.sock"
"""


class Bed:
    """One client, one gateway, one server. A context manager; nothing is left behind."""

    rules = _NAT
    """What nft is told where the kernel is the gateway."""
    configuration = _CONFIGURATION
    capacity = 1 << 20
    """Flows that hasyncd has room for."""

    def __init__(self, gateway: str, name: str = "") -> None:
        """`gateway` is `packet` or `tc` (hasyncd's engines, solo) or `kernel` (nft source NAT); `name`
        tells beds of one kind apart."""
        self.gateway = gateway
        prefix = f"hs-{os.getpid()}-lab-{name or gateway}"
        self.client, self.middle, self.server = (f"{prefix}-{part}" for part in ("cli", "gw", "srv"))
        self._scratch = tempfile.TemporaryDirectory(prefix="hasyncd-bench-")
        self.directory = Path(self._scratch.name)
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._wire()
            if self.gateway == "kernel":
                self._start_kernel()
            else:
                self._start_daemon()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        remove([self.client, self.middle, self.server])
        for process in self._started:
            process.wait()
        self._scratch.cleanup()

    def run(self, namespace: str, *command: str, timeout_s: float = 60) -> str:
        """Runs a command in one of the namespaces to its end; what it printed. Raises LabError."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self, namespace: str, *command: str) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the bed at the latest; its output goes to `out.log`."""
        process = spawn(namespace, list(command), log=self.directory / "out.log")
        self._started.append(process)
        return process

    def received(self) -> tuple[int, int]:
        """(frames, bytes) that have arrived at the server's interface."""
        with inside(self.server):
            for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
                name, _, figures = line.partition(":")
                if name.strip() == "s0":
                    octets, frames = figures.split()[:2]
                    return int(frames), int(octets)
        raise LabError("the server's interface is gone")

    def counters(self) -> dict[str, int]:
        """hasyncd's. Raises LabError."""
        try:
            items, code, _ = ask(self.directory / "bench.sock", "status")
        except (NoDaemon, OSError) as error:
            raise LabError(f"the gateway does not answer: {error}") from error
        if code:
            raise LabError("the gateway has no status")
        counters: dict[str, int] = items[0]["counters"]
        return counters

    def congestion_control(self) -> str:
        """How the client's TCP judges what the path can carry: a ratio under BBR, which paces, is another than under
        CUBIC."""
        with inside(self.client):
            return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()

    def _wire(self) -> None:
        run_ip([f"netns add {name}" for name in (self.client, self.middle, self.server)])
        run_ip(
            [
                f"link add c0 netns {self.client} type veth peer name inside netns {self.middle}",
                f"link add s0 netns {self.server} type veth peer name outside netns {self.middle}",
            ]
        )
        for name in (self.client, self.middle, self.server):
            write_sysctls(name, {"net/ipv4/ip_forward": 0, "net/ipv6/conf/all/disable_ipv6": 1})
        run_ip(["link set lo up", "link set c0 up", "addr add 10.0.1.7/24 dev c0"], self.client)
        run_ip(["link set lo up", "link set s0 up", f"addr add {SERVER}/24 dev s0"], self.server)
        run_ip(
            [
                "link set lo up",
                "link set inside up",
                "link set outside up",
                "addr add 10.0.1.2/24 dev inside",
                "addr add 203.0.113.2/24 dev outside",
            ],
            self.middle,
        )
        run_ip(["route add default via 10.0.1.1"], self.client)
        # A burst of datagrams is cut at its source: veth would carry it whole, and sixteen packets count as one.
        self.run(self.client, "ethtool", "-K", "c0", "tx-udp-segmentation", "off")
        self.run(self.server, "tc", "qdisc", "add", "dev", "s0", "clsact")
        self.run(
            self.server, "tc", "filter", "add", "dev", "s0", "ingress", "protocol", "ip", "bpf", "da",
            "bytecode", _DISCARD,
        )  # fmt: skip

    def _start_kernel(self) -> None:
        run_ip(["addr add 10.0.1.1/24 dev inside", "addr add 203.0.113.5/24 dev outside"], self.middle)
        write_sysctls(self.middle, {"net/ipv4/ip_forward": 1})
        self.run(self.middle, "nft", self.rules)

    def _start_daemon(self) -> None:
        configuration = self.directory / "bench.toml"
        configuration.write_text(
            self.configuration.format(
                directory=self.directory, engine=self.gateway, capacity=self.capacity, sides=SIDES
            )
        )
        self.start(self.middle, sys.executable, "-m", "hasyncd", "run", "-c", str(configuration))
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            try:
                items, code, _ = ask(self.directory / "bench.sock", "status")
            except (NoDaemon, OSError):
                items, code = [], 1
            if code == 0 and items and items[0]["role"] == "primary":
                return
            time.sleep(0.05)
        raise LabError("the gateway did not become primary:\n" + (self.directory / "out.log").read_text())
