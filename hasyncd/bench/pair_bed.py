"""A test bed with a backup: the gateway of `bed.py` and its peer, a link of their own between them.

    client c0 10.0.1.7 ── inside [gateway] outside ── s0 203.0.113.50 server
                               sync 169.254.10.1
                               sync 169.254.10.2
                           [ backup ]

The backup stands for another machine: it runs on the core of the ends, the gateway with all that the kernel does for
it on the other one (cores.py), so that a core's time is one side's time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from hasyncd.bench.bed import SIDES
from hasyncd.bench.connect import ConnectBed
from hasyncd.bench.cores import ENDS_CORE, GATEWAY_CORE
from hasyncd.cli.client import NoDaemon, ask
from hasyncd.lab.namespaces import LabError, inside, remove, run_ip, write_sysctls
from hasyncd.lab.program import build

GATEWAY_ADDRESS, BACKUP_ADDRESS = "169.254.10.1", "169.254.10.2"
FLOW_PORT = 9
"""Where the flows of `load_flows` go: the server's interface drops what comes."""
_READY_S = 60
_FILL_RATE = 400_000
_FILL_TURNS = 10
_PEER = """
[node]
name = "{name}"
priority = {priority}
state_dir = "{directory}/{name}.state"
nice = 0
capacity = {capacity}
packet_thread = true
{sides}[peer]
listen = "{own}:7077"
address = "{other}:7077"
keys = "{directory}/keys/{name}"
dead_after_ms = {dead_after_ms}
[sync]
enabled = {enabled}
commit = "{commit}"
{options}
"""
Status = dict[str, Any]


def build_flow_load(directory: Path) -> Path:
    """The program that makes flows. Raises LabError."""
    here = Path(__file__).parent
    return build(directory / "flow_load", [here / "flow_load.c", here / "packet_load.c"])


class SyncLinkBed(ConnectBed):
    """Gateway, backup and the wire between them; who runs on both is the business of those who inherit."""

    def __init__(self, gateway: str, name: str) -> None:
        super().__init__(gateway, name)
        self.backup = f"{self.middle.removesuffix('gw')}bak"
        self.taken = 0
        """Flows that were loaded so far: no later one has the tuple of an earlier."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.steer(1 << ENDS_CORE, 1 << GATEWAY_CORE)
        return self

    def __exit__(self, *_: object) -> None:
        remove([self.backup])
        super().__exit__()

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
        run_ip([f"addr add {GATEWAY_ADDRESS}/30 dev sync", "link set sync up"], self.middle)
        run_ip(
            [
                *(f"link set {device} up" for device in ("lo", "sync", "inside", "outside")),
                f"addr add {BACKUP_ADDRESS}/30 dev sync",
                "addr add 10.0.1.3/24 dev inside",
                "addr add 203.0.113.3/24 dev outside",
            ],
            self.backup,
        )
        for namespace, core in ((self.middle, GATEWAY_CORE), (self.backup, ENDS_CORE)):
            path = "/sys/class/net/sync/queues/rx-0/rps_cpus"
            self.run(namespace, "sh", "-c", f"echo {1 << core:x} > {path}")

    def cut_at_sender(self) -> None:
        """From now on the stream crosses the link in segments, as on a wire, and not in the offloads' large ones."""
        for namespace in (self.middle, self.backup):
            off = ["tso", "off", "gso", "off", "gro", "off"]
            self.run(namespace, "ethtool", "-K", "sync", *off)

    def on_wire(self) -> tuple[int, int, int, int]:
        """(frames, bytes, frames, bytes) that the gateway and the backup have put on the link, Ethernet included."""
        with inside(self.middle):
            for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
                name, _, figures = line.partition(":")
                if name.strip() == "sync":
                    words = [int(word) for word in figures.split()]
                    return words[9], words[8], words[1], words[0]
        raise LabError("the link between the gateways is gone")

    def replicated(self) -> int:
        """Flows that have reached the backup so far."""
        raise NotImplementedError

    def messages(self) -> str:
        """The last that the programs of this bed have said."""
        lines = (self.directory / "out.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    # --- flows ------------------------------------------------------------------------------------

    def flow_words(self, first: int, count: int, rate: float) -> list[str]:
        """What `flow_load` is told: UDP flows from many sources inside to many servers."""
        told = self.run(self.middle, "ip", "-json", "link", "show", "inside")
        mac = str(json.loads(told)[0]["address"])
        words = [self.client, "c0", mac, "10.1.0.1", "4096", "198.18.0.1", "4096", str(FLOW_PORT)]
        return [*words, str(first), str(count), str(rate)]

    def load_flows(self, program: Path, count: int, rate: float) -> None:
        """One packet of each of `count` new flows, `rate` a second. Raises LabError."""
        with self.loading(program, count, rate) as load:
            if load.wait():
                raise LabError(f"{program.name} ended with {load.returncode}")

    def loading(self, program: Path, count: int, rate: float) -> subprocess.Popen[bytes]:
        """The same beside other things."""
        words = self.flow_words(self.taken, count, rate)
        self.taken += count
        return subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)

    def fill(self, program: Path, flows: int, count: Callable[[], int]) -> None:
        """Makes `flows` flows of which `count` tells how many are there; what was dropped is sent again. Raises
        LabError."""
        self.steer(1 << ENDS_CORE, 0)  # the sender's core does the kernel's part, so that more gets through
        first, wanted = self.taken, count() + flows
        for _ in range(_FILL_TURNS):
            self.taken = first
            self.load_flows(program, flows, _FILL_RATE)
            time.sleep(0.1)
            if count() >= wanted:
                self.steer(1 << ENDS_CORE, 1 << GATEWAY_CORE)
                return
        raise LabError(f"of {wanted} flows only {count()} could be made")


class PairBed(SyncLinkBed):
    """Two nodes of hasyncd. `commit` is `ack`, `emit` or `off` (a peer, but no sync)."""

    def __init__(
        self,
        name: str,
        commit: str,
        *,
        capacity: int = 1 << 20,
        with_backup: bool = True,
        dead_after_ms: int = 150,
        options: str = "",
    ) -> None:
        """`with_backup`: it runs and is in step from the beginning. `options`: more lines of the `[sync]` section."""
        super().__init__("packet", name)
        self.capacity = capacity
        self._with_backup = with_backup
        self._commit, self._dead_after_ms, self._options = commit, dead_after_ms, options
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def _start_daemon(self) -> None:
        names = ["--node", "bench-a", "--node", "bench-b"]
        command = [sys.executable, "-m", "hasyncd", "keygen", str(self.directory / "keys"), *names]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise LabError(f"no keys could be made: {made.stderr.strip()}")
        self._start_node("bench-a", self.middle, GATEWAY_CORE, (GATEWAY_ADDRESS, BACKUP_ADDRESS))
        self.await_status("bench-a", lambda _: True, "answered")  # it must not meet a primary
        if self._with_backup:
            self.start_backup()
        self.await_status("bench-a", lambda status: status["role"] == "primary", "became primary")
        if self._with_backup and self._commit != "off":
            self.await_status("bench-a", is_ready, "was in step with its backup")

    def start_backup(self) -> None:
        """Starts the backup, with an empty table."""
        self._start_node("bench-b", self.backup, ENDS_CORE, (BACKUP_ADDRESS, GATEWAY_ADDRESS))

    def kill_backup(self) -> None:
        """The backup is gone, and the gateway knows. Raises LabError."""
        self._nodes["bench-b"].kill()
        self._nodes["bench-b"].wait()
        self.await_status("bench-a", lambda status: not is_ready(status), "missed its peer")

    def _start_node(self, name: str, namespace: str, core: int, addresses: tuple[str, str]) -> None:
        file = self.directory / f"{name}.toml"
        _, rules_begin, rules = self.configuration.partition("[[nat]]")
        head = _PEER.format(
            name=name,
            sides=SIDES,
            priority=200 if core == GATEWAY_CORE else 100,
            directory=self.directory,
            capacity=self.capacity,
            own=addresses[0],
            other=addresses[1],
            dead_after_ms=self._dead_after_ms,
            enabled="false" if self._commit == "off" else "true",
            commit="ack" if self._commit == "off" else self._commit,
            options=self._options,
        )
        file.write_text(
            head + rules_begin + rules.replace("{directory}/bench.sock", f"{self.directory}/{name}.sock")
        )
        command = [sys.executable, "-m", "hasyncd", "run", "-c", str(file)]
        self._nodes[name] = self.start(namespace, "taskset", "-c", str(core), *command)

    # --- looking ------------------------------------------------------------------------------------

    def socket(self, name: str) -> Path:
        """A node's control socket."""
        return self.directory / f"{name}.sock"

    def pid(self, name: str) -> int:
        """The daemon itself: `ip netns exec` and `taskset` have become it."""
        return self._nodes[name].pid

    def status(self, name: str) -> Status | None:
        """What a node says; None while it does not answer."""
        try:
            items, code, _ = ask(self.socket(name), "status")
        except (NoDaemon, OSError):
            return None
        return items[0] if items and code == 0 else None

    def flows(self, name: str = "bench-a") -> int:
        """Flows that a node holds."""
        status = self.status(name)
        if status is None:
            raise LabError(f"{name} does not answer:\n{self.messages()}")
        return int(status["flows"]["total"])

    def replicated(self) -> int:
        return self.flows("bench-b")

    def await_status(
        self, name: str, wanted: Callable[[Status], bool], what: str, *, every_s: float = 0.01
    ) -> Status:
        """Waits until a node's status is as wanted. Raises LabError."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            status = self.status(name)
            if status is not None and wanted(status):
                return status
            time.sleep(every_s)
        raise LabError(f"{name} never {what}:\n{self.messages()}")


def is_ready(status: Status) -> bool:
    """The peer holds all that this node holds, or this node all of the peer's."""
    return bool(status["sync"]["state"] == "ready")
