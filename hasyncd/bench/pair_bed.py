"""A test bed with a backup: the gateway of `bed.py` and its peer, a link of their own between them.

    client c0 10.0.1.7 ── inside [gateway] outside ── s0 203.0.113.50 server
                               sync 169.254.10.1
                               sync 169.254.10.2
                          [   backup   ]

The backup stands for another machine: it is pinned to the core of the ends, the gateway with all that the kernel does
for it to the other one, so that a core's time is one side's time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hasyncd.bench.connect import ConnectBed
from hasyncd.cli.client import NoDaemon, ask
from hasyncd.lab.namespaces import LabError, run_ip, write_sysctls

ENDS_CORE, GATEWAY_CORE = 0, 1
_READY_S = 60
_PEER = """
[node]
name = "{name}"
priority = {priority}
state_dir = "{directory}/{name}.state"
nice = -20
capacity = {capacity}
packet_thread = true
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
listen = "{own}:7077"
address = "{other}:7077"
keys = "{directory}/keys/{name}"
heartbeat_ms = {heartbeat_ms}
dead_after_ms = {dead_after_ms}
[sync]
enabled = {enabled}
commit = "{commit}"
"""


class PairBed(ConnectBed):
    """A gateway and its backup. `commit` is `ack` or `emit`, or `off`: a backup that gets nothing."""

    heartbeat_ms, dead_after_ms = 50, 150

    def __init__(self, name: str, commit: str, *, capacity: int | None = None) -> None:
        super().__init__("packet", name)
        self.capacity = capacity or self.capacity
        self.commit = commit
        self.backup = f"{self.middle[: -len('gw')]}bak"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __exit__(self, *reason: object) -> None:
        from hasyncd.lab.namespaces import remove

        remove([self.backup])
        super().__exit__(*reason)

    # --- building ---------------------------------------------------------------------------------

    def _wire(self) -> None:
        run_ip([f"netns add {self.backup}"])
        write_sysctls(self.backup, {"net/ipv4/ip_forward": 0, "net/ipv6/conf/all/disable_ipv6": 1})
        super()._wire()
        run_ip(
            [
                f"link add sync netns {self.middle} type veth peer name sync netns {self.backup}",
                f"link add c1 netns {self.client} type veth peer name inside netns {self.backup}",
                f"link add s1 netns {self.server} type veth peer name outside netns {self.backup}",
            ]
        )
        run_ip(["link set c1 up"], self.client)
        run_ip(["link set s1 up"], self.server)
        run_ip(["addr add 169.254.10.1/30 dev sync", "link set sync up"], self.middle)
        run_ip(
            [
                "link set lo up", "link set sync up", "link set inside up", "link set outside up",
                "addr add 169.254.10.2/30 dev sync", "addr add 10.0.1.3/24 dev inside",
                "addr add 203.0.113.3/24 dev outside",
            ],
            self.backup,
        )  # fmt: skip
        self.steer(1 << ENDS_CORE, 1 << GATEWAY_CORE)
        self._receive_on(self.middle, "sync", GATEWAY_CORE)
        self._receive_on(self.backup, "sync", ENDS_CORE)

    def _receive_on(self, namespace: str, device: str, core: int) -> None:
        self.run(namespace, "sh", "-c", f"echo {1 << core:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus")

    def _start_daemon(self) -> None:
        names = ["--node", "bench-a", "--node", "bench-b"]
        command = [sys.executable, "-m", "hasyncd", "keygen", str(self.directory / "keys"), *names]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise LabError(f"no keys could be made: {made.stderr.strip()}")
        self.start_gateway()
        self.await_status("bench-a", lambda status: status["role"] == "primary", "became primary")

    def start_gateway(self) -> None:
        """Starts the primary, on its core."""
        self._start("bench-a", self.middle, GATEWAY_CORE, 200, ("169.254.10.1", "169.254.10.2"))

    def start_backup(self) -> None:
        """Starts the backup, on the ends' core, with an empty table."""
        self._start("bench-b", self.backup, ENDS_CORE, 100, ("169.254.10.2", "169.254.10.1"))

    def _start(
        self, name: str, namespace: str, core: int, priority: int, addresses: tuple[str, str]
    ) -> None:
        file = self.directory / f"{name}.toml"
        common = self.configuration.partition("[[nat]]")
        text = _PEER.format(
            name=name,
            priority=priority,
            directory=self.directory,
            capacity=self.capacity,
            own=addresses[0],
            other=addresses[1],
            heartbeat_ms=self.heartbeat_ms,
            dead_after_ms=self.dead_after_ms,
            enabled="false" if self.commit == "off" else "true",
            commit="ack" if self.commit == "off" else self.commit,
        )
        rules = f"{common[1]}{common[2]}".replace("{directory}/bench.sock", f"{self.directory}/{name}.sock")
        file.write_text(text + rules)
        run = [sys.executable, "-m", "hasyncd", "run", "-c", str(file)]
        self.daemons[name] = self.start(namespace, "taskset", "-c", str(core), *run)

    # --- looking ------------------------------------------------------------------------------------

    def status(self, name: str) -> dict[str, Any] | None:
        """What a daemon says, None while it does not answer."""
        try:
            items, code, _ = ask(self.directory / f"{name}.sock", "status")
        except (NoDaemon, OSError):
            return None
        return items[0] if items and code == 0 else None

    def await_status(self, name: str, wanted: Any, what: str, *, every_s: float = 0.005) -> dict[str, Any]:
        """Waits until the daemon's status is as wanted. Raises LabError."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            status = self.status(name)
            if status is not None and wanted(status):
                return status
            time.sleep(every_s)
        raise LabError(f"{name} never {what}:\n" + (self.directory / "out.log").read_text())

    def gateway_mac(self, device: str = "inside") -> str:
        told = self.run(self.middle, "ip", "-json", "link", "show", device)
        return str(json.loads(told)[0]["address"])

    def pid(self, name: str) -> int:
        """The daemon itself: `ip netns exec` and `taskset` have become it."""
        return self.daemons[name].pid

    def load_flows(self, program: Path, first: int, count: int, rate: float = 0) -> None:
        """UDP flows from inside to many servers, one packet each."""
        words = [self.client, "c0", self.gateway_mac(), "10.1.0.1", "4096", "198.18.0.1", "4096", "9"]
        done = subprocess.run(
            [program, *words, str(first), str(count), str(rate)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(done.stderr.strip())

    def fill(self, program: Path, flows: int) -> None:
        """Makes `flows` flows; what was dropped on the way is sent again. Raises LabError."""
        self.steer(1 << ENDS_CORE, 0)  # the sender does the kernel's part: twice as much gets through
        for _ in range(10):
            self.load_flows(program, 0, flows, 400_000)
            status = self.status("bench-a")
            if status is not None and status["flows"]["total"] >= flows:
                self.steer(1 << ENDS_CORE, 1 << GATEWAY_CORE)
                return
        raise LabError(f"{flows} flows could not be made: {status and status['flows']}")


def process_cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a process have run, exactly."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
    ) / 1e9  # fmt: skip


def core_busy_s(core: int) -> float:
    """CPU seconds that a core was not idle since the machine started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *figures = line.split()
        if name == f"cpu{core}":
            return time.monotonic() - (int(figures[3]) + int(figures[4])) / os.sysconf("SC_CLK_TCK")
    raise LabError(f"there is no core {core}")
