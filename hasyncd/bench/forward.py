"""`forward.*`: what passes through the gateway, beside the kernel's own nft NAT in the same run.

The client floods from core 0. The kernel forwards on the sender's core; hasyncd's thread uses another one: the rows
say how much CPU both sides used, and packets per CPU-second beside the ratio.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from hasyncd.bench.bed import DISCARD_PORT, SERVER, Bed
from hasyncd.bench.row import Row, middle

ROUNDS = 5
_SECONDS = 2.0
_WARM_S = 0.4
_ECHO_PORT = 7007
_ROUND_TRIPS = 2000
Say = Callable[[str], None]


def _busy_s() -> float:
    """CPU seconds that this machine has spent since it started, all cores, idle and I/O wait left out."""
    figures = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(figures[:8]) - figures[3] - figures[4]) / 100


def _flood(bed: Bed) -> tuple[float, float]:
    """(packets a second at the server, packets a CPU-second)."""
    program = str(Path(__file__).with_name("udp_flood.py"))
    length = str(_SECONDS + 2 * _WARM_S)
    flood = bed.start(bed.client, sys.executable, program, SERVER, str(DISCARD_PORT), length)
    time.sleep(_WARM_S)
    packets, busy, began = bed.received_packets(), _busy_s(), time.monotonic()
    time.sleep(_SECONDS)
    packets, busy = bed.received_packets() - packets, _busy_s() - busy
    seconds = time.monotonic() - began
    flood.wait()
    return packets / seconds, packets / max(busy, 0.01)


def _transfer(bed: Bed, streams: int) -> tuple[float, float]:
    """(bits a second, bytes a CPU-second) of `streams` TCP connections."""
    server = bed.start(bed.server, "iperf3", "-s", "-1")
    time.sleep(0.3)
    busy = _busy_s()
    told = bed.run(bed.client, "iperf3", "-c", SERVER, "-t", str(_SECONDS), "-P", str(streams), "-J")
    busy = _busy_s() - busy
    server.wait()
    received = json.loads(told)["end"]["sum_received"]
    return received["bits_per_second"], received["bytes"] / max(busy, 0.01)


def _compare(
    name: str, unit: str, measure: Callable[[Bed], tuple[float, float]], beds: dict[str, Bed], say: Say
) -> Row:
    """Alternates between the beds; medians of the rounds, and of the ratios' CPU."""
    rates: dict[str, list[float]] = {kind: [] for kind in beds}
    efficiencies: dict[str, list[float]] = {kind: [] for kind in beds}
    for turn in range(ROUNDS):
        for kind, bed in beds.items():
            say(f"{name}: round {turn + 1} of {ROUNDS}, {kind}")
            rate, efficiency = measure(bed)
            rates[kind].append(rate)
            efficiencies[kind].append(efficiency)
    per_cpu = median(efficiencies["packet"]) / median(efficiencies["kernel"])
    spread = ", ".join(f"{kind} {min(seen):.3g}-{max(seen):.3g}" for kind, seen in rates.items())
    return Row(
        name=name,
        variant="nat",
        unit=unit,
        better="higher",
        value=middle(rates["packet"]),
        baseline="kernel nft",
        baseline_value=middle(rates["kernel"]),
        samples=ROUNDS,
        cores="packet thread and sender on a core each; kernel on the sender's",
        notes=f"per CPU-second {per_cpu:.2f}x; {spread}",
    )


def _latency(beds: dict[str, Bed], say: Say) -> Row:
    program = str(Path(__file__).with_name("udp_echo.py"))
    times: dict[str, list[float]] = {kind: [] for kind in beds}
    servers = [
        bed.start(bed.server, sys.executable, program, "serve", SERVER, str(_ECHO_PORT))
        for bed in beds.values()
    ]
    time.sleep(0.5)
    for turn in range(ROUNDS):
        for kind, bed in beds.items():
            say(f"forward.latency: round {turn + 1} of {ROUNDS}, {kind}")
            told = bed.run(
                bed.client, sys.executable, program, "ask", SERVER, str(_ECHO_PORT), str(_ROUND_TRIPS)
            )
            times[kind] += [float(line) for line in told.split()]
    for server in servers:
        server.kill()
        server.wait()
    ordered = {kind: sorted(seen) for kind, seen in times.items()}
    p99 = {kind: seen[int(len(seen) * 0.99)] for kind, seen in ordered.items()}
    return Row(
        name="forward.latency",
        variant="udp round trip",
        unit="us",
        better="lower",
        value=median(ordered["packet"]),
        baseline="kernel nft",
        baseline_value=median(ordered["kernel"]),
        samples=len(times["packet"]),
        p50=median(ordered["packet"]),
        p99=p99["packet"],
        notes=f"kernel p99 {p99['kernel']:.0f} us",
    )


def measure(names: set[str], say: Say) -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    rows = []
    with Bed("packet") as packet, Bed("kernel") as kernel:
        beds = {"packet": packet, "kernel": kernel}
        if "forward.udp64" in names:
            rows.append(_compare("forward.udp64", "packets/s", _flood, beds, say))
        for streams in (1, 4):
            name = f"forward.tcp{streams}"
            if name in names:
                rows.append(
                    _compare(name, "bit/s", lambda bed, n=streams: _transfer(bed, n), beds, say)  # type: ignore[misc]
                )
        if "forward.latency" in names:
            rows.append(_latency(beds, say))
    return rows
