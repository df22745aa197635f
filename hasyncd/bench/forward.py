"""`forward.*`: what passes through the gateway, beside the kernel's own nft NAT in the same run.

The client floods from core 0. The kernel forwards on the sender's core; hasyncd's thread uses another one: every row
says how many cores were busy on both sides, and what was moved in a CPU-second beside the ratio.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hasyncd.bench import flooded
from hasyncd.bench.bed import DISCARD_PORT, SERVER, Bed
from hasyncd.bench.row import Row, middle
from hasyncd.lab.namespaces import LabError

ROUNDS = 5
_SECONDS = 2.0
_WARM_S = 0.4
_ECHO_PORT = 7007
_ROUND_TRIPS = 2000
_FRAME_MAX = 64
_DISTURBED_CORES = 0.25
_VARIANTS = {"packet": "nat", "tc": "redirect_neigh"}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Measured:
    """One round: `rate` a second; `moved` (packets, bytes) with `busy_s` of CPU in `seconds`."""

    rate: float
    moved: float
    busy_s: float
    seconds: float


def _busy_s() -> float:
    """CPU seconds that this machine has spent since it started, all cores, idle and I/O wait left out."""
    figures = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(figures[:8]) - figures[3] - figures[4]) / 100


def flood(bed: Bed) -> _Measured:
    """Packets at the server, those that were lost left out."""
    program = str(Path(__file__).with_name("udp_flood.py"))
    length = str(_SECONDS + 2 * _WARM_S)
    flood = bed.start(bed.client, sys.executable, program, SERVER, str(DISCARD_PORT), length)
    time.sleep(_WARM_S)
    (frames, octets), busy, began = bed.received(), _busy_s(), time.monotonic()
    time.sleep(_SECONDS)
    busy, seconds = _busy_s() - busy, time.monotonic() - began
    frames_now, octets_now = bed.received()
    flood.wait()
    frames, octets = frames_now - frames, octets_now - octets
    if octets > frames * _FRAME_MAX:
        raise LabError(
            f"frames of {octets / frames:.0f} bytes arrived: this machine does not cut them at the sender"
        )
    return _Measured(frames / seconds, frames, busy, seconds)


def _transfer(bed: Bed, streams: int) -> _Measured:
    """What `streams` TCP connections carry, in bits a second and bytes."""
    server = bed.start(bed.server, "iperf3", "-s", "-1")
    time.sleep(0.3)
    busy, began = _busy_s(), time.monotonic()
    told = bed.run(bed.client, "iperf3", "-c", SERVER, "-t", str(_SECONDS), "-P", str(streams), "-J")
    busy, seconds = _busy_s() - busy, time.monotonic() - began
    server.wait()
    received = json.loads(told)["end"]["sum_received"]
    return _Measured(received["bits_per_second"], received["bytes"], busy, seconds)


def _is_disturbed() -> bool:
    """Whether somebody else computes on this machine."""
    time.sleep(0.2)  # what the last round leaves behind is ours
    busy = _busy_s()
    time.sleep(0.3)
    return (_busy_s() - busy) / 0.3 > _DISTURBED_CORES


def _compare(
    name: str,
    unit: str,
    measure: Callable[[Bed], _Measured],
    beds: dict[str, Bed],
    say: Say,
    remark: str = "",
) -> Row:
    """Alternates between the beds; medians of the rounds, of their ratios, of their cores."""
    rounds: list[dict[str, _Measured]] = []
    disturbed = 0
    before = _hits(next(iter(beds.values())))
    for turn in range(ROUNDS):
        disturbed += _is_disturbed()
        rounds.append({})
        for kind, bed in beds.items():
            say(f"{name}: round {turn + 1} of {ROUNDS}, {kind}")
            rounds[-1][kind] = measure(bed)
    ours = next(iter(beds))
    rates = {kind: [one[kind].rate for one in rounds] for kind in beds}
    cores = {kind: median(one[kind].busy_s / one[kind].seconds for one in rounds) for kind in beds}
    moved = {kind: [one[kind].moved / max(one[kind].busy_s, 0.01) for one in rounds] for kind in beds}
    notes = [
        f"per CPU-second {_middle_ratio(moved):.2f}x",
        f"ratio round by round {_middle_ratio(rates):.2f}",
        *(f"{kind} {min(seen):.3g}-{max(seen):.3g}" for kind, seen in rates.items()),
    ]
    if remark:
        notes.append(remark)
    if ours == "tc":
        notes.append(f"hits {100 * _hit_share(beds[ours], before):.2f} %")
    if disturbed:
        notes.append(f"others computed before {disturbed} of {ROUNDS} rounds")
    return Row(
        name=name,
        variant=_VARIANTS[ours],
        unit=unit,
        better="higher",
        value=middle(rates[ours]),
        baseline="kernel nft",
        baseline_value=middle(rates["kernel"]),
        samples=ROUNDS,
        cores=f"{cores[ours]:.2f}, kernel {cores['kernel']:.2f}",
        notes="; ".join(notes),
    )


def _hits(bed: Bed) -> tuple[int, int]:
    """(forwarded by the kernel's cache, received at all) so far."""
    counters = bed.counters()
    return counters["cache_hits"], counters["received_packets"]


def _hit_share(bed: Bed, before: tuple[int, int]) -> float:
    hits, received = _hits(bed)
    return (hits - before[0]) / max(1, received - before[1])


def _middle_ratio(figures: dict[str, list[float]]) -> float:
    """The median of the rounds' ratios, ours to the kernel's."""
    mine = next(iter(figures.values()))
    return median(ours / theirs for ours, theirs in zip(mine, figures["kernel"], strict=True))


def _latency(beds: dict[str, Bed], say: Say) -> Row:
    program = str(Path(__file__).with_name("udp_echo.py"))
    times: dict[str, list[float]] = {kind: [] for kind in beds}
    spent, lasted = dict.fromkeys(beds, 0.0), dict.fromkeys(beds, 0.0)
    servers = [
        bed.start(bed.server, sys.executable, program, "serve", SERVER, str(_ECHO_PORT))
        for bed in beds.values()
    ]
    time.sleep(0.5)
    for turn in range(ROUNDS):
        for kind, bed in beds.items():
            say(f"forward.latency: round {turn + 1} of {ROUNDS}, {kind}")
            busy, began = _busy_s(), time.monotonic()
            told = bed.run(
                bed.client, sys.executable, program, "ask", SERVER, str(_ECHO_PORT), str(_ROUND_TRIPS)
            )
            spent[kind] += _busy_s() - busy
            lasted[kind] += time.monotonic() - began
            times[kind] += [float(line) for line in told.split()]
    for server in servers:
        server.kill()
        server.wait()
    ours = next(iter(beds))
    ordered = {kind: sorted(seen) for kind, seen in times.items()}
    cores = {kind: spent[kind] / lasted[kind] for kind in beds}
    p99 = {kind: seen[int(len(seen) * 0.99)] for kind, seen in ordered.items()}
    return Row(
        name="forward.latency",
        variant="udp round trip" if ours == "packet" else f"udp round trip, {ours}",
        unit="us",
        better="lower",
        value=median(ordered[ours]),
        baseline="kernel nft",
        baseline_value=median(ordered["kernel"]),
        samples=len(times[ours]),
        p50=median(ordered[ours]),
        p99=p99[ours],
        cores=f"{cores[ours]:.2f}, kernel {cores['kernel']:.2f}",
        notes=f"p50/p99 {median(ordered[ours]):.0f}/{p99[ours]:.0f}, "
        f"kernel {median(ordered['kernel']):.0f}/{p99['kernel']:.0f}; "
        f"round trips per CPU-second {spent['kernel'] / spent[ours]:.2f}x",
    )


def measure(names: set[str], say: Say, engine: str = "packet") -> list[Row]:
    """The wanted rows of this file, of one of hasyncd's engines. Raises LabError."""
    rows = []
    with Bed(engine) as ours, Bed("kernel") as kernel:
        beds = {engine: ours, "kernel": kernel}
        if "forward.udp64" in names:
            rows.append(_compare("forward.udp64", "packets/s", flood, beds, say))
        control = f"congestion control {ours.congestion_control()}"
        for streams in (1, 4):
            name = f"forward.tcp{streams}"
            if name in names:
                rows.append(
                    _compare(name, "bit/s", lambda bed, n=streams: _transfer(bed, n), beds, say, control)  # type: ignore[misc]
                )
        if "forward.latency" in names:
            rows.append(_latency(beds, say))
        if "forward.flooded" in names:
            rows.append(flooded.measure(ours, ROUNDS, lambda: _transfer(ours, 1).rate, say))
    return rows
