"""`commit.ack_delay`: what the first packet of a flow waits until it may leave.

One way through the gateway, from send(2) at the client to recv(2) at the server, every packet of a flow of its own; one
after the other, so that each waits for its own ADD. Three pairs in turns: a peer without sync, `emit`, `ack`.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from hasyncd.bench.bed import SERVER
from hasyncd.bench.cores import on_ends_core
from hasyncd.bench.pair_bed import PairBed, build_flow_load
from hasyncd.bench.row import Row
from hasyncd.lab.namespaces import inside

ROUNDS = 5
PACKETS = 500
BESIDE_RATE = 10_000
_SOURCE, _PORT, _FIRST_SOURCE_PORT = "10.0.1.7", 7007, 10_000
_PAUSE_S = 0.0005
Say = Callable[[str], None]


@dataclass(slots=True)
class _Delays:
    """Microseconds, of one pair; `beside`: while other flows are opened."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)


class Probe:
    """A client and a server of one bed: how long first packets take."""

    def __init__(self, bed: PairBed) -> None:
        self._bed = bed
        with inside(bed.server):
            self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.bind((SERVER, _PORT))
        self._server.settimeout(5)
        self._next_port = _FIRST_SOURCE_PORT

    def delays_us(self, packets: int) -> list[float]:
        """One way, of so many flows' first packets. Raises TimeoutError."""
        seen = []
        with inside(self._bed.client):
            hosts = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(packets)]
        for host in hosts:
            with host:
                host.bind((_SOURCE, self._next_port))
                host.connect((SERVER, _PORT))
                self._next_port += 1
                time.sleep(_PAUSE_S)
                began = time.perf_counter_ns()
                host.send(b"first")
                self._server.recv(64)
                seen.append((time.perf_counter_ns() - began) / 1000)
        return seen

    def close(self) -> None:
        self._server.close()


def measure(_: set[str], say: Say, *, rounds: int = ROUNDS, packets: int = PACKETS) -> list[Row]:
    """The rows of this file. Raises LabError."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_ends_core())
        program = build_flow_load(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        beds = {commit: stack.enter_context(PairBed(commit, commit)) for commit in ("off", "emit", "ack")}
        seen = {commit: _Delays() for commit in beds}
        probes = {commit: Probe(bed) for commit, bed in beds.items()}
        for probe in probes.values():
            stack.callback(probe.close)
            probe.delays_us(20)  # neighbours are known then
        for turn in range(rounds):
            for commit, probe in probes.items():
                say(f"commit.ack_delay: round {turn + 1} of {rounds}, {commit}")
                seen[commit].alone += probe.delays_us(packets)
                with beds[commit].loading(program, BESIDE_RATE * 10, BESIDE_RATE) as load:
                    try:
                        seen[commit].beside += probe.delays_us(packets // 2)
                    finally:
                        load.kill()
    return [
        _row(commit, where, getattr(seen[commit], key), getattr(seen["off"], key))
        for key, where in (("alone", ""), ("beside", f", beside {BESIDE_RATE:,} new flows/s"))
        for commit in ("off", "emit", "ack")
    ]


def _row(commit: str, where: str, delays: list[float], bare: list[float]) -> Row:
    ordered, least = sorted(delays), sorted(bare)
    p99 = ordered[int(len(ordered) * 0.99)]
    return Row(
        "commit.ack_delay", ("none" if commit == "off" else commit) + where, "us", "lower", median(ordered),
        None if commit == "off" else "no sync", None if commit == "off" else median(least), len(ordered),
        p50=median(ordered), p99=p99, cores="one for the gateway, one for ends and backup",
        notes=f"one way, the first packet of a flow; p50/p99 {median(ordered):.0f}/{p99:.0f}, longest "
        f"{ordered[-1]:.0f}; without sync {median(least):.0f}/{least[int(len(least) * 0.99)]:.0f}",
    )  # fmt: skip
