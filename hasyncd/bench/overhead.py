"""`sync.overhead` and the live rows of `sync.replicate`: what a gateway pays for its backup, live.

The same load through gateways that differ only in their sync, in turns: hasyncd with sync off, under `emit` and under
`ack`; the kernel's nft NAT alone and with conntrackd, where that is installed.

- packets a second of established flows: the flood of `forward.udp64`. The sender's core does what the kernel does for
  the client and, where the kernel is the gateway, forwards; hasyncd, and both conntrackds, use the other core.
- new connections a second: the load of `connect.nat`, the gateway with all of its daemons on one core, ends and backup
  on the other (cores.py). Four packets a connection; the peer is told that it is new and when its state changes.
  Short turns, many of them: a machine's mood lasts seconds and moves more than sync does.
- new flows at a rate that everybody can follow: what one costs of CPU and wire.

What limits: without sync the gateway's core is never idle and the ends' core a third of the time, so that a rate is
the gateway's cost of a connection. Under `ack` the gateway's core is idle for 6 to 9 % of the time too: all 512
connections that the load has under way wait for the other core, which the backup shares with the ends, and both nodes'
tables share one last-level cache. A backup on a machine of its own takes neither; both count against sync here,
conntrackd's like ours. The row of the gateway's CPU a connection is free of the first of them, the rate of none.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hasyncd.bench import conntrackd, forward
from hasyncd.bench.connect import build_load, conntrack_room
from hasyncd.bench.conntrackd import KernelPairBed
from hasyncd.bench.cores import ENDS_CORE, GATEWAY_CORE, Spent
from hasyncd.bench.pair_bed import PairBed, SyncLinkBed, build_flow_load
from hasyncd.bench.row import Row, middle
from hasyncd.lab.namespaces import LabError

ROUNDS = 3
_SECONDS = 1.0
_CONNECT_TURNS = 4
"""Of half as long, in each round."""
_CAPACITY = 4 << 20  # what was opened and reset stays for four minutes: no round may find the table full
_SETTLE_S = 0.3
LIVE_RATE = 10_000
_DEAD_AFTER_MS = 3_000
"""A neighbour on the same core, conntrackd catching up, keeps a gateway waiting for a second: that is no death."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Load:
    """One round of new connections; CPU is of whole cores, in microseconds a connection."""

    rate: float
    gateway_us: float
    ends_us: float
    wire_bytes: float
    """On the link between the gateways, both directions, a connection."""
    replicated: float
    """The share of the new flows that have reached the backup soon after."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two gateways that are compared: with sync, without; what the rows call them."""

    variant: str
    with_sync: str
    without: str
    baseline: str


_OURS = [_Pair("ack", "ack", "off", "without sync"), _Pair("emit", "emit", "off", "without sync")]
_THEIRS = _Pair("conntrackd", "conntrackd", "kernel", "kernel nft without it")


def connect(bed: SyncLinkBed, program: Path, seconds: float) -> Load:
    """New connections through a gateway, as many as it takes. Raises LabError."""

    def run() -> tuple[float, int]:
        load = bed.connect(program, "nat", seconds)
        if load.wrong:
            raise LabError(f"{load.wrong} packets were forwarded that belong to no connection")
        return load.rate, load.total_established

    return _measure_load(bed, run)


def trickle(bed: SyncLinkBed, program: Path, seconds: float) -> Load:
    """New UDP flows through a gateway, a packet each, LIVE_RATE a second. Raises LabError."""

    def run() -> tuple[float, int]:
        count = int(LIVE_RATE * seconds)
        bed.load_flows(program, count, LIVE_RATE)
        return LIVE_RATE, count

    return _measure_load(bed, run)


def _measure_load(bed: SyncLinkBed, run: Callable[[], tuple[float, int]]) -> Load:
    before, wire, spent = bed.replicated(), bed.on_wire(), Spent.now()
    rate, made = run()
    time.sleep(_SETTLE_S)  # what the daemons have still to tell each other is part of the cost
    spent, wire_now = spent.since(), bed.on_wire()
    made = max(made, 1)
    octets = wire_now[1] - wire[1] + wire_now[3] - wire[3]
    share = (bed.replicated() - before) / made
    return Load(rate, spent.gateway_s / made * 1e6, spent.ends_s / made * 1e6, octets / made, share)


def flood(bed: SyncLinkBed) -> float:
    """Packets a second of established flows. Raises LabError."""
    bed.steer(0, 0)
    if isinstance(bed, KernelPairBed):
        bed.pin_backup(GATEWAY_CORE)  # the other core is the gateway's here
    try:
        return forward.flood(bed).rate
    finally:
        if isinstance(bed, KernelPairBed):
            bed.pin_backup(ENDS_CORE)
        bed.steer(1 << ENDS_CORE, 1 << GATEWAY_CORE)


def make_beds() -> dict[str, SyncLinkBed]:
    """By name; the incumbent's only where it is installed."""
    beds: dict[str, SyncLinkBed] = {
        commit: PairBed(commit, commit, capacity=_CAPACITY, dead_after_ms=_DEAD_AFTER_MS)
        for commit in ("off", "emit", "ack")
    }
    if conntrackd.program():
        beds["kernel"] = KernelPairBed("kernel", synced=False)
        beds["conntrackd"] = KernelPairBed("conntrackd", synced=True)
    return beds


def measure(
    names: set[str], directory: Path, say: Say, *, rounds: int = ROUNDS, seconds: float = _SECONDS
) -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    many, few = build_load(directory), build_flow_load(directory)
    packets: dict[str, list[float]] = {}
    loads: dict[str, list[Load]] = {}
    trickles: dict[str, list[Load]] = {}
    with contextlib.ExitStack() as stack:
        beds = {name: stack.enter_context(bed) for name, bed in make_beds().items()}
        stack.enter_context(conntrack_room())
        for turn in range(-1, rounds):  # one to warm up
            for name, bed in beds.items():
                say(
                    f"packets, flows, then connections through {name}: "
                    + (f"{turn + 1} of {rounds}" if turn >= 0 else "warm")
                )
                rate = flood(bed)
                if not rate:
                    raise LabError(f"no packet passed {name}:\n{bed.messages()}")
                flows = trickle(bed, few, seconds)
                if turn >= 0:
                    packets.setdefault(name, []).append(rate)
                    trickles.setdefault(name, []).append(flows)
            for _ in range(_CONNECT_TURNS if turn >= 0 else 1):
                for name, bed in beds.items():
                    load = connect(bed, many, seconds / 2)
                    if turn >= 0:
                        loads.setdefault(name, []).append(load)
    rows: list[Row] = []
    if "sync.overhead" in names:
        rows += overhead_rows(packets, loads)
    if "sync.replicate" in names:
        rows += live_rows(loads, trickles)
    return rows


# --- rows -----------------------------------------------------------------------------------------------


def _spread(values: list[float]) -> str:
    return f"{min(values):.3g}-{max(values):.3g}"


def overhead_rows(packets: dict[str, list[float]], loads: dict[str, list[Load]]) -> list[Row]:
    """With sync beside without, ours and the incumbent's."""
    rates = {name: [one.rate for one in seen] for name, seen in loads.items()}
    costs = {name: [one.gateway_us for one in seen] for name, seen in loads.items()}
    rows = []
    for pair in [*_OURS, _THEIRS]:
        rows += [
            _overhead_row(pair, "packets/s", "packets/s", "higher", packets),
            _overhead_row(pair, "connections/s", "connections/s", "higher", rates),
            _overhead_row(pair, "gateway's CPU a connection", "us", "lower", costs),
        ]
    return rows


def _overhead_row(pair: _Pair, what: str, unit: str, better: str, seen: dict[str, list[float]]) -> Row:
    ours, bare = seen.get(pair.with_sync, []), seen.get(pair.without, [])
    if ours:
        by_round = median(one / other for one, other in zip(ours, bare, strict=True))
        notes = f"round by round {by_round:.3f}; with {_spread(ours)}, without {_spread(bare)}"
    else:
        notes = "conntrackd is not installed"
    return Row(
        "sync.overhead", f"{what}, {pair.variant}", unit, better, middle(ours), pair.baseline, middle(bare), len(ours),
        cores="one for the gateway, one for ends and backup", notes=notes,
    )  # fmt: skip


def live_rows(loads: dict[str, list[Load]], trickles: dict[str, list[Load]]) -> list[Row]:
    """What is replicated live, beside the incumbent: how fast, and what sync alone costs of CPU and wire."""
    fresh = {name: [one.rate * one.replicated for one in seen] for name, seen in loads.items()}
    theirs = fresh.get("conntrackd", [])
    absent = "" if theirs else "conntrackd is not installed; "
    shares = {name: median(one.replicated for one in seen) for name, seen in loads.items()}
    notes = f"{absent}new connections of which the backup has heard, one core for all the gateway does; of those made "
    notes += ", ".join(f"{name} {shares[name]:.1%}" for name in ("ack", "conntrackd") if name in shares)
    rows = [
        Row(
            "sync.replicate", "live", "connections/s", "higher", middle(fresh["ack"]), "conntrackd", middle(theirs),
            len(fresh["ack"]), cores="one for the gateway, one for ends and backup",
            notes=f"{notes}; {_spread(fresh['ack'])}" + (f", conntrackd {_spread(theirs)}" if theirs else ""),
        )
    ]  # fmt: skip
    at = f"live at {LIVE_RATE:,}/s"
    for what, unit, pick in (
        ("gateway's CPU", "us a flow", lambda one: one.gateway_us),
        ("backup's CPU", "us a flow", lambda one: one.ends_us),
        ("on the wire", "bytes a flow", lambda one: one.wire_bytes),
    ):
        rows.append(_live_row(f"{at}, {what}", unit, trickles, pick, absent))
    return rows


def _live_row(
    variant: str, unit: str, seen: dict[str, list[Load]], pick: Callable[[Load], float], absent: str
) -> Row:
    def added(with_sync: str, without: str) -> list[float]:
        both = zip(seen.get(with_sync, []), seen.get(without, []), strict=True)
        return [pick(one) - pick(other) for one, other in both]

    ours, theirs = added("ack", "off"), added("conntrackd", "kernel")
    notes = f"{absent}UDP, a packet each; with sync less without, round by round {_spread(ours)}"
    if theirs:
        notes += f", conntrackd {_spread(theirs)}"
    return Row(
        "sync.replicate", variant, unit, "lower", middle(ours), "conntrackd", middle(theirs), len(ours),
        cores="whole cores, the kernel's part included", notes=notes,
    )  # fmt: skip
