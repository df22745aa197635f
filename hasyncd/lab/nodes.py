"""A pair of hasyncd nodes in the lab: their files, their processes, their sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.control import Unreachable, ask
from hasyncd.lab.namespaces import LabError, spawn
from hasyncd.lab.pair import other
from hasyncd.lab.topology import Topology, remove_run_files
from hasyncd.lab.traffic.process import now_ns

READY_TIMEOUT_S = 30.0
HEARTBEAT_MS = 50
"""The program's default."""
_POLL_S = 0.02
_PEER_PORT = 7077
_MISSED = 3
"""Heartbeats that make a death."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a drill may choose about the nodes."""

    engine: str = "packet"
    sync_enabled: bool = True
    insecure: bool = False
    """The peer channel in the plain, as it is read on a wire."""
    commit: str = "ack"
    heartbeat_ms: int = HEARTBEAT_MS
    """A peer that is silent for three of them is dead."""
    starts_old: bool = False
    """Both begin as what is to be upgraded: pinned to version 1 of the protocol, or `old_program`."""
    old_program: Path | None = None
    """The `hasyncd` of another installation."""
    edits: tuple[tuple[str, str], ...] = ()
    """(words, other words) for both configuration files."""

    @property
    def variant(self) -> str | None:
        """What tells two rows apart; None for the program's defaults."""
        words = [] if self.heartbeat_ms == HEARTBEAT_MS else [f"heartbeats {self.heartbeat_ms} ms"]
        words += [] if self.commit == "ack" else [f"commit {self.commit}"]
        words += [] if self.sync_enabled else ["without sync"]
        if self.starts_old:
            words.append(f"from {self.old_program}" if self.old_program else "from protocol 1")
        return ", ".join(words) or None


class Nodes:
    """gw-a and gw-b as processes `hasyncd run` inside their namespaces."""

    system = "hasyncd"

    def __init__(self, topology: Topology, options: NodeOptions, *, outlive: bool = False) -> None:
        self._topology = topology
        self._options = options
        self._outlive = outlive
        self.engine = options.engine
        self.variant: str | None = options.variant
        self.remarks: list[str] = []
        self.environment: dict[str, dict[str, str]] = {}
        """What each node is to have in its environment besides; read at its start."""
        self._cut_off: set[str] = set()
        self._old = {gateway.name for gateway in plan.GATEWAYS} if options.starts_old else set()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self) -> None:
        plan.RUN_DIR.mkdir(mode=0o755, exist_ok=True)
        for gateway in plan.GATEWAYS:
            if await self.status(gateway.name) is not None:
                raise LabError(
                    f"a daemon called {gateway.name} runs on this machine; the lab needs that name"
                )
        if not self._options.insecure:
            await asyncio.to_thread(self._make_keys)
        for gateway in plan.GATEWAYS:
            self._start_node(gateway)
        await self.wait_ready()

    def _make_keys(self) -> None:
        """The keys of this lab's pair, as an operator makes them."""
        names = [word for gateway in plan.GATEWAYS for word in ("--node", gateway.name)]
        command = [sys.executable, "-m", "hasyncd", "keygen", str(self._topology.directory / "keys"), *names]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise LabError(f"no keys could be made: {made.stderr.strip()}")

    def _start_node(self, gateway: plan.Gateway) -> None:
        configuration = self.configuration_file(gateway.name)
        if not configuration.exists():
            state_dir = self._topology.directory / f"state-{gateway.name}"
            state_dir.mkdir(exist_ok=True)
            keys = self._topology.directory / "keys" / gateway.name
            text = node_configuration(gateway, state_dir, keys, self._options)
            if gateway.name in self._old and self._options.old_program is None:
                text = text.replace("[peer]\n", "[peer]\nprotocol = 1\n")
            configuration.write_text(text)
            for words, others in self._options.edits:
                self.edit(gateway.name, words, others)
        command = [*self._program(gateway.name), "run", "-c", str(configuration)]
        self.processes[gateway.name] = spawn(
            self._topology.namespace(gateway.name),
            command,
            log=self.log_file(gateway.name),
            outlives=self._outlive,
            environment=self.environment.get(gateway.name, {}),
        )

    @property
    def dead_after_ns(self) -> int:
        """When a silent peer is dead to these nodes."""
        return _MISSED * self._options.heartbeat_ms * 1_000_000

    def _program(self, name: str) -> list[str]:
        if name in self._old and self._options.old_program is not None:
            # The lab's own path to its modules would have it find this installation's.
            return ["env", "-u", "PYTHONPATH", str(self._options.old_program)]
        return [sys.executable, "-m", "hasyncd"]

    def configuration_file(self, name: str) -> Path:
        """Where a node's TOML lies."""
        return self._topology.directory / f"{name}.toml"

    def edit(self, name: str, words: str, others: str) -> None:
        """Changes a node's file; it is read when the node starts. Raises LabError where the words are not in it."""
        file = self.configuration_file(name)
        text = file.read_text()
        if words not in text:
            raise LabError(f"{file.name}: nothing reads {words!r}")
        file.write_text(text.replace(words, others, 1))

    def forget(self, name: str) -> None:
        """Removes what a node keeps on disk, as a new installation does; for a node that does not run."""
        for kept in (self._topology.directory / f"state-{name}").iterdir():
            kept.unlink()

    def log_file(self, name: str) -> Path:
        """Where a node's messages go."""
        return self._topology.directory / f"{name}.log"

    async def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_ready([await self.status(gateway.name) for gateway in plan.GATEWAYS]):
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise LabError(f"{name} ended with exit code {process.returncode}\n{self.messages()}")
            if time.monotonic() > deadline:
                raise LabError(f"the pair was not ready after {READY_TIMEOUT_S:.0f} s\n{self.messages()}")
            await asyncio.sleep(_POLL_S)

    def _is_ready(self, statuses: list[dict[str, Any] | None]) -> bool:
        present = [status for status in statuses if status is not None]
        if sorted(status["role"] for status in present) != ["backup", "primary"]:
            return False
        primary = next(status for status in present if status["role"] == "primary")
        if not self._options.sync_enabled:
            return bool(primary["peer"]["state"] == "connected")
        return all(status["sync"]["state"] == "ready" for status in present)

    async def primary(self) -> str:
        statuses = {gateway.name: await self.status(gateway.name) for gateway in plan.GATEWAYS}
        primaries = [name for name, status in statuses.items() if status and status["role"] == "primary"]
        if len(primaries) != 1:
            raise LabError(f"expected one primary, found {primaries or 'none'}\n{self.messages()}")
        return primaries[0]

    async def status(self, name: str) -> dict[str, Any] | None:
        try:
            items, code, _ = await ask(plan.RUN_DIR / f"{name}.sock", "status")
        except Unreachable:
            return None
        return items[0] if items and code == 0 else None

    def kill(self, name: str) -> int:
        process = self.processes[name]
        moment = now_ns()
        os.kill(process.pid, signal.SIGKILL)
        return moment

    def cut_off(self, name: str) -> int:
        pid = self.processes[name].pid
        os.kill(
            pid, signal.SIGSTOP
        )  # links go one after the other: it must not see the first go and say so by the next
        moment = self._topology.cut(name)
        self._cut_off.add(name)
        os.kill(pid, signal.SIGKILL)
        return moment

    async def last_word(self, name: str) -> list[dict[str, Any]] | None:
        await asyncio.to_thread(self.processes[name].wait)
        command = [sys.executable, "-m", "hasyncd", "last-word", "--json", "--node", name]
        asked = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        if asked.returncode != 0:
            raise LabError(f"{name} left no last word: {asked.stderr.strip()}")
        return [json.loads(line) for line in asked.stdout.splitlines()]

    async def restart(self, name: str) -> None:
        await asyncio.to_thread(self.processes[name].wait)
        if name in self._cut_off:
            self._cut_off.remove(name)
            self._topology.mend(name)
        self._start_node(plan.gateway_named(name))

    def terminate(self, name: str) -> int:
        moment = now_ns()
        self.processes[name].send_signal(signal.SIGTERM)
        return moment

    async def upgrade(self, name: str) -> int:
        code = await asyncio.to_thread(self.processes[name].wait)
        self._old.discard(name)
        self.configuration_file(name).unlink()  # it is written anew, without what pinned the old one
        return code

    async def switch_over(self) -> int:
        primary = await self.primary()
        moment = now_ns()
        try:
            _, code, message = await ask(plan.RUN_DIR / f"{primary}.sock", "switchover")
        except Unreachable as error:
            raise LabError(f"{primary} did not answer: {error}") from error
        if code != 0:
            raise LabError(f"{primary} refused the switchover: {message}")
        return moment

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        remove_run_files()  # a killed node cannot
        with contextlib.suppress(OSError):
            plan.RUN_DIR.rmdir()

    def messages(self) -> str:
        last = []
        for gateway in plan.GATEWAYS:
            with contextlib.suppress(OSError):
                lines = self.log_file(gateway.name).read_text(errors="replace").splitlines()[-12:]
                last += [f"{gateway.name}: {line}" for line in lines]
        return "\n".join(last) or "(neither node left a message)"


def node_configuration(gateway: plan.Gateway, state_dir: Path, keys: Path, options: NodeOptions) -> str:
    """One node's TOML (DESIGN §8)."""
    trust = "insecure = true" if options.insecure else f'keys = "{keys}"'
    peer = plan.gateway_named(other(gateway.name))
    text = f"""\
[node]
name = "{gateway.name}"
priority = {gateway.priority}
state_dir = "{state_dir}"
engine = "{options.engine}"

[interfaces]
inside = "inside"
outside = "outside"

[[vip]]
address = "{plan.INSIDE_VIP}/{plan.PREFIX_LENGTH}"
interface = "inside"
[[vip]]
address = "{plan.OUTSIDE_VIP}/{plan.PREFIX_LENGTH}"
interface = "outside"
[[vip]]
address = "{plan.INSIDE_VIP6}/{plan.PREFIX_LENGTH6}"
interface = "inside"
[[vip]]
address = "{plan.OUTSIDE_VIP6}/{plan.PREFIX_LENGTH6}"
interface = "outside"

[peer]
listen = "{gateway.sync}:{_PEER_PORT}"
address = "{peer.sync}:{_PEER_PORT}"
heartbeat_ms = {options.heartbeat_ms}
dead_after_ms = {_MISSED * options.heartbeat_ms}
{trust}
{"" if options.insecure else _lan_paths(gateway, peer)}

[sync]
enabled = {"true" if options.sync_enabled else "false"}
commit = "{options.commit}"

[[nat]]
source = ["10.0.1.0/24"]
public = ["{plan.OUTSIDE_VIP}"]

[[pass]]
source = ["{plan.INSIDE_NETWORK6}"]

[control]
socket = "{plan.RUN_DIR / gateway.name}.sock"
"""
    services = (
        ("web", plan.WEB_PORT, "tcp", plan.BACKEND_TCP_PORT),
        ("names", plan.NAME_PORT, "udp", plan.BACKEND_UDP_PORT),
        ("bulk", plan.BULK_SERVICE_PORT, "tcp", plan.BULK_PORT),
    )
    for name, port, protocol, backend_port in services:
        text += _service(name, f"{plan.OUTSIDE_VIP}:{port}", protocol, [
            (host.number, f"{host.addresses[0]}:{backend_port}") for host in plan.BACKENDS
        ])  # fmt: skip
        text += _service(f"{name}6", f"[{plan.OUTSIDE_VIP6}]:{port}", protocol, [
            (host.number, f"[{host.addresses6[0]}]:{backend_port}") for host in plan.BACKENDS
        ])  # fmt: skip
    return text


def _lan_paths(gateway: plan.Gateway, peer: plan.Gateway) -> str:
    """Heartbeats over the service LANs too; they are for pairs with keys."""
    return f"""\
paths = ["sync", "inside", "outside"]
inside = {{ listen = "{gateway.inside}:{_PEER_PORT}", address = "{peer.inside}:{_PEER_PORT}" }}
outside = {{ listen = "{gateway.outside}:{_PEER_PORT}", address = "{peer.outside}:{_PEER_PORT}" }}"""


def _service(name: str, vip: str, protocol: str, backends: list[tuple[int, str]]) -> str:
    lines = "".join(f'  {{ id = {number}, address = "{address}" }},\n' for number, address in backends)
    return f"""
[[service]]
name = "{name}"
vip = "{vip}"
protocol = "{protocol}"
algorithm = "consistent-hash"
backends = [
{lines}]
"""
