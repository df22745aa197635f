"""`nat.full99`: what a public port costs where nearly all of them are taken, in one block, towards one destination.

Ours is `hs_nat_allocate` by itself (`nat_full.c`). The kernel's get_unique_tuple cannot be called alone: what is told
of it is how much longer it takes to send the first packet of a flow through nft's source NAT towards the full
destination than towards an empty one, and how many of those flows never arrive.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from hasyncd.bench.bed import SERVER, Bed
from hasyncd.bench.row import Row
from hasyncd.lab.namespaces import LabError, run_ip, write_sysctls
from hasyncd.lab.program import build

ROUNDS = 5
_PERCENTS = (50, 90, 95, 99)
_PORTS, _FIRST_PORT = 64_512, 1024
_EMPTY_SERVER = "203.0.113.51"
_TRIALS = 100  # few: each flow that gets a port takes one away
_NATIVE = Path(__file__).parents[1] / "native"
Say = Callable[[str], None]


def build_allocator(directory: Path) -> Path:
    """The program that allocates ports. Raises LabError."""
    sources = [Path(__file__).with_name("nat_full.c"), *sorted((_NATIVE / "core").glob("*.c"))]
    return build(directory / "nat_full", sources, [_NATIVE])


def allocate(program: Path) -> list[dict[str, Any]]:
    """One run: an element an occupancy, then the last ports. Raises LabError."""
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"nat_full ended with {done.returncode}: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class FullBed(Bed):
    """The kernel's NAT, with two servers: towards one its ports run short, towards the other they do not."""

    def __init__(self) -> None:
        super().__init__("kernel")
        self._taken = self._seed = 0

    def _wire(self) -> None:
        super()._wire()
        run_ip([f"addr add {_EMPTY_SERVER}/24 dev s0"], self.server)
        # Flows of which only one packet was seen stay for as long as this takes.
        write_sysctls(self.middle, {"net/netfilter/nf_conntrack_udp_timeout": 600})

    def _send(self, source: str, destination: str, ports: str) -> tuple[float, int]:
        """(microseconds a packet, packets that have arrived)."""
        program = str(Path(__file__).with_name("udp_ports.py"))
        arrived = self.received()[0]
        told = self.run(self.client, sys.executable, program, source, destination, ports)
        return float(told), self.received()[0] - arrived

    def fill(self, percent: int) -> None:
        """Takes the ports of the public address towards the server from 1024 on. Raises LabError."""
        wanted = _PORTS * percent // 100
        first, last = _FIRST_PORT + self._taken, _FIRST_PORT + wanted - 1
        _, arrived = self._send("10.0.1.8", SERVER, f"{first}-{last}")
        # A port that an attempt has taken already is taken: its flow fails, or gets another one.
        if arrived < (wanted - self._taken) * 0.8:
            raise LabError(
                f"only {arrived} of {wanted - self._taken} flows could be made through the kernel's NAT"
            )
        self._taken = wanted

    def attempt(self) -> tuple[float, float]:
        """(microseconds that a full destination adds to a flow's first packet, share of the flows that failed)."""
        self._seed += 1
        ports, source = f"{_TRIALS}:{self._seed}", f"10.0.1.{9 + self._seed}"
        empty_us, _ = self._send(source, _EMPTY_SERVER, ports)
        full_us, arrived = self._send(source, SERVER, ports)
        return full_us - empty_us, max(0.0, 1 - arrived / _TRIALS)


def measure(names: set[str], say: Say) -> list[Row]:
    """One row an occupancy. Raises LabError."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch, FullBed() as bed:
        say("nat.full99: ours")
        program = build_allocator(Path(scratch))
        runs = [allocate(program) for _ in range(ROUNDS)]
        last = runs[-1][-1]
        for index, percent in enumerate(_PERCENTS):
            say(f"nat.full99: the kernel's, {percent} %")
            bed.fill(percent)
            attempts = [bed.attempt() for _ in range(ROUNDS)]
            seen = [run[index] for run in runs]
            extra_us = median(took for took, _ in attempts)
            failed = sum(share for _, share in attempts) / ROUNDS
            notes = (
                f"{median(one['probes'] for one in seen):.1f} probes, {sum(one['failures'] for one in seen)} of "
                f"{sum(one['trials'] for one in seen)} failed; kernel: {failed:.1%} of {ROUNDS * _TRIALS} flows failed"
            )
            if percent == _PERCENTS[-1]:
                notes += f"; of the last {last['free']} free ports {last['given']} given out before a refusal"
            rows.append(
                Row(
                    name="nat.full99",
                    variant=f"{percent} % taken",
                    unit="us an allocation",
                    better="lower",
                    value=median(one["mean_us"] for one in seen),
                    baseline="kernel nft, more than with free ports",
                    baseline_value=extra_us if extra_us > 0 else None,  # less than the noise
                    samples=sum(one["trials"] for one in seen),
                    p50=median(one["p50_us"] for one in seen),
                    p99=median(one["p99_us"] for one in seen),
                    cores="one each",
                    notes=notes,
                )
            )
    return rows
