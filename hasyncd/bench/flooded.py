"""`forward.flooded`: what an established TCP stream carries while SYNs flood the gateway.

Beside it the same SYNs go to a MAC that is nobody's: they cost their sender the same, and the gateway's interface
throws them away. So the ratio is what the gateway's dealing with them takes from whoever is established.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from hasyncd.bench.bed import SERVER, Bed
from hasyncd.bench.row import Row, middle

RATE = 10_000
_NOBODY = "02:00:00:00:00:99"
_LASTS_S = 4.0


def measure(bed: Bed, rounds: int, carry: Callable[[], float], say: Callable[[str], None]) -> Row:
    """Alternates between a flood of the gateway and one of nobody; `carry`: what a stream carries. Raises LabError."""
    mac = bed.run(bed.middle, "cat", "/sys/class/net/inside/address").strip()
    rates: dict[str, list[float]] = {"flooded": [], "nobody": []}
    before = bed.counters()["flows_created"]
    for turn in range(rounds):
        for kind, target in (("flooded", mac), ("nobody", _NOBODY)):
            say(f"forward.flooded: round {turn + 1} of {rounds}, {kind}")
            program = str(Path(__file__).with_name("syn_flood.py"))
            flood = bed.start(bed.client, sys.executable, program, target, SERVER, str(RATE), str(_LASTS_S))
            rates[kind].append(carry())
            flood.wait()
    made = bed.counters()["flows_created"] - before
    ratio = median(ours / theirs for ours, theirs in zip(rates["flooded"], rates["nobody"], strict=True))
    return Row(
        name="forward.flooded",
        variant=bed.gateway,
        unit="bit/s",
        better="higher",
        value=middle(rates["flooded"]),
        baseline="flood at nobody",
        baseline_value=middle(rates["nobody"]),
        samples=rounds,
        notes=f"{RATE:,} SYNs/s; {made:,} flows made of them; ratio round by round {ratio:.2f}; "
        f"congestion control {bed.congestion_control()}",
    )
