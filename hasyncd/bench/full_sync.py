"""`sync.replicate` and `sync.full`: a whole table to an empty backup, and what it costs both sides.

Two daemons as in production: engine, log, pump, TLS 1.3 with both certificates, installation, acknowledgement. What is
prepared is only that the flows exist when the clock starts: they were made from packets through the engine before.

- *from the table*: a backup starts empty, and the cursor packs and sends every flow.
- *from the log*: the backup is stopped (SIGSTOP) while the flows are made; their ADDs wait in the log as those of live
  flows do, and the clock starts when it goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from hasyncd.bench import conntrackd
from hasyncd.bench.connect import conntrack_room
from hasyncd.bench.conntrackd import KernelPairBed
from hasyncd.bench.cores import GATEWAY_CORE, Spent, resident_bytes
from hasyncd.bench.pair_bed import PairBed, is_ready
from hasyncd.bench.row import Row, middle

FLOWS = 1 << 20
ROUNDS = 5
COMPARED_FLOWS = 100_000
"""What the incumbent is asked for, too."""
LIVE_RATE = 10_000
_LIVE_S = 6.0
"""The live flows' load lasts longer than a backup takes to start and to be synced."""
_LOOK_S = 0.001
_DEAD_AFTER_MS = 12_000
"""So long the backup may be stopped while flows are made."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Round:
    """One full sync: `flows` were sent, `spent` from its begin until the backup was ready."""

    flows: int
    spent: Spent
    grown_bytes: int
    delays_ms: list[float] = field(default_factory=list)
    """Of live ADDs that were appended meanwhile: until their acknowledgement."""

    @property
    def rate(self) -> float:
        return self.flows / self.spent.wall_s

    @property
    def gateway_us(self) -> float:
        """CPU a flow, the kernel's part included."""
        return self.spent.gateway_s / self.flows * 1e6

    @property
    def backup_us(self) -> float:
        return self.spent.ends_s / self.flows * 1e6


class LogWatch:
    """`log_delays.py` beside a run."""

    def __init__(self, bed: PairBed) -> None:
        program = str(Path(__file__).with_name("log_delays.py"))
        last_word = bed.socket("bench-a").with_suffix(".lastword")
        self._process = subprocess.Popen(
            ["taskset", "-c", str(GATEWAY_CORE), sys.executable, program, str(last_word), str(_LOOK_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # on the core that has time to spare
        assert self._process.stdout
        self._process.stdout.readline()  # it looks

    def stop(self) -> tuple[int, list[float]]:
        """(when the cursor appended its first record, milliseconds that live records waited which came later)."""
        told, _ = self._process.communicate()
        began, *lines = told.splitlines()
        pairs = (line.split() for line in lines)
        return int(began), [int(delay) / 1e6 for at, delay in pairs if int(at) >= int(began)]


def _ready_ns(bed: PairBed) -> int:
    """When the backup last said that it is ready, on CLOCK_BOOTTIME."""
    lines = (bed.directory / "out.log").read_text().splitlines()
    told = next(line for line in reversed(lines) if '"sync_ready"' in line)
    at = datetime.datetime.fromisoformat(json.loads(told)["time"])
    ago_s = time.time() - at.timestamp()
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(ago_s * 1e9)


def sync_empty_backup(bed: PairBed) -> Round:
    """A new backup process, from SYNC_BEGIN until it is ready; it is gone afterwards. Raises LabError."""
    gateway, watch = bed.pid("bench-a"), LogWatch(bed)
    before_bytes = resident_bytes(gateway)
    bed.start_backup()
    bed.await_status(
        "bench-a", lambda status: status["sync"]["state"] == "syncing", "began a sync", every_s=0.002
    )
    spent = Spent.now()
    ready = bed.await_status("bench-b", is_ready, "was ready")
    spent = spent.since()
    grown = resident_bytes(gateway) - before_bytes
    bed.await_status("bench-a", is_ready, "heard of it")
    began_ns, delays = watch.stop()
    seconds = (_ready_ns(bed) - began_ns) / 1e9
    bed.kill_backup()
    return Round(int(ready["flows"]["total"]), dataclasses.replace(spent, wall_s=seconds), grown, delays)


@contextlib.contextmanager
def filled_bed(program: Path, flows: int) -> Iterator[PairBed]:
    """A gateway with so many flows and room for live ones, all confirmed by a backup that is gone. Raises LabError."""
    with PairBed("full", "ack", capacity=flows + (1 << 18)) as bed:
        bed.fill(program, flows, bed.flows)
        bed.await_status("bench-a", lambda status: status["sync"]["at_risk_flows"] == 0, "had all confirmed")
        bed.kill_backup()
        yield bed


def backlog_round(bed: PairBed, program: Path, flows: int) -> Round:
    """ADDs of new flows that waited in the log, from the first that leaves until the last is acknowledged."""
    before_bytes = resident_bytes(bed.pid("bench-a"))
    os.kill(bed.pid("bench-b"), signal.SIGSTOP)
    try:
        bed.fill(program, flows, bed.flows)
        head, acked = _sync_number(bed, "head"), _sync_number(bed, "acked")
    finally:
        spent = Spent.now()
        os.kill(bed.pid("bench-b"), signal.SIGCONT)
    bed.await_status(
        "bench-a",
        lambda status: status["sync"]["acked"] >= head,
        "heard the last acknowledgement",
        every_s=0.005,
    )
    return Round(head - acked, spent.since(), resident_bytes(bed.pid("bench-a")) - before_bytes)


def _sync_number(bed: PairBed, key: str) -> int:
    status = bed.status("bench-a")
    return int(status["sync"][key]) if status else 0


# --- rows -----------------------------------------------------------------------------------------------


def _spread(values: list[float]) -> str:
    return f"{min(values):.3g}-{max(values):.3g}"


def replicate_rows(variant: str, rounds: list[Round], how: str) -> list[Row]:
    """Flows a second, and CPU a flow of both sides, beside what they are to be."""
    rates = [one.rate for one in rounds]
    rows = [
        Row(
            "sync.replicate", variant, "flows/s", "higher", middle(rates), "goal", 1e6, len(rounds),
            cores="one a side", notes=f"{rounds[0].flows:,} flows, {_spread(rates)}; {how}",
        )
    ]  # fmt: skip
    for side, costs in (
        ("gateway's CPU", [one.gateway_us for one in rounds]),
        ("backup's CPU", [one.backup_us for one in rounds]),
    ):
        rows.append(
            Row(
                "sync.replicate", f"{variant}, {side}", "us a flow", "lower", middle(costs), "goal", 1.0,
                len(rounds), cores="one a side", notes=f"the whole core, its kernel part included; {_spread(costs)}",
            )
        )  # fmt: skip
    return rows


def full_row(variant: str, rounds: list[Round], goal_s: float) -> Row:
    """Seconds until the backup is ready."""
    times = [one.spent.wall_s for one in rounds]
    return Row(
        "sync.full", variant, "s", "lower", middle(times), "goal", goal_s, len(rounds), cores="one a side",
        notes=f"{rounds[0].flows:,} flows, until the backup is ready; {_spread(times)}",
    )  # fmt: skip


def memory_row(rounds: list[Round]) -> Row:
    """What the sender's memory grows by."""
    grown = [one.grown_bytes for one in rounds]
    return Row(
        "sync.full", "sender's memory", "bytes", "lower", median(grown), samples=len(rounds),
        notes=f"by how much the gateway's resident memory grows with a sync; {min(grown):,}-{max(grown):,}",
    )  # fmt: skip


def delay_row(rounds: list[Round]) -> Row:
    """How long live ADDs wait while a full sync runs."""
    delays = sorted(delay for one in rounds for delay in one.delays_ms)
    p99 = delays[int(len(delays) * 0.99)] if delays else None
    return Row(
        "sync.full", "live deltas meanwhile", "ms", "lower", p99, "goal", 20.0, len(delays),
        p50=median(delays) if delays else None, p99=p99, cores="one a side",
        notes=f"p99 from append to acknowledgement of {LIVE_RATE:,} ADDs/s, looked at every {_LOOK_S * 1e3:.0f} ms"
        + (f"; longest {delays[-1]:.1f}" if delays else ""),
    )  # fmt: skip


def measure(
    names: set[str], program: Path, say: Say, *, flows: int = FLOWS, rounds: int = ROUNDS
) -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    rows: list[Row] = []
    with filled_bed(program, flows) as bed:
        idle = _rounds(say, f"full sync of {flows:,} flows", rounds, lambda: sync_empty_backup(bed))
        if "sync.replicate" in names:
            how = "the cursor of a full sync, backup empty"
            rows += replicate_rows("prepared, from the table", idle, how)
        if "sync.full" in names:
            what = f"full sync beside {LIVE_RATE:,} new flows/s"
            live = _rounds(say, what, rounds, lambda: _live_round(bed, program))
            rows += [full_row("idle", idle, 1.0), memory_row(idle)]
            rows += [full_row(f"beside {LIVE_RATE:,} new flows/s", live, 2.0), delay_row(live)]
    if "sync.replicate" in names:
        rows += _backlog_rows(program, say, flows, rounds)
    if "sync.full" in names:
        rows.append(_beside_conntrackd(program, say, min(flows, COMPARED_FLOWS), rounds))
    return rows


def _rounds(say: Say, what: str, count: int, run: Callable[[], Round]) -> list[Round]:
    seen = []
    for turn in range(count):
        say(f"{what}, round {turn + 1} of {count}")
        seen.append(run())
    return seen


def _live_round(bed: PairBed, program: Path) -> Round:
    with bed.loading(program, int(LIVE_RATE * _LIVE_S), LIVE_RATE) as load:
        try:
            return sync_empty_backup(bed)
        finally:
            load.kill()


def _backlog_rows(program: Path, say: Say, flows: int, rounds: int) -> list[Row]:
    rounds = min(rounds, 3)
    log_records = max(1024, flows)
    flows = flows * 7 // 8  # so that the log does not overrun
    with PairBed(
        "log",
        "emit",
        capacity=max(1024, flows * (rounds + 1)),
        dead_after_ms=_DEAD_AFTER_MS,
        options=f"log_records = {log_records}",
    ) as bed:
        what = f"{flows:,} new flows from the log"
        seen = _rounds(say, what, rounds, lambda: backlog_round(bed, program, flows))
    return replicate_rows(
        "prepared, from the log", seen, "ADDs of new flows that waited there for the backup"
    )


def _beside_conntrackd(program: Path, say: Say, flows: int, rounds: int) -> Row:
    """Until the backup could forward so many flows, ours beside the incumbent's resync and commit."""
    with filled_bed(program, flows) as bed:
        ours = _rounds(say, f"full sync of {flows:,} flows", rounds, lambda: sync_empty_backup(bed))
    theirs: list[tuple[float, float]] = []
    if conntrackd.program():
        with conntrack_room(), KernelPairBed("ct", synced=True) as kernel:
            kernel.fill(program, flows, kernel.flows)
            for turn in range(rounds):
                say(f"conntrackd, resync and commit of {flows:,} flows, round {turn + 1} of {rounds}")
                theirs.append(kernel.resync(flows))
    row = full_row(f"idle, {flows:,} flows", ours, 0.0)
    told = "conntrackd is not installed"
    if theirs:
        pushes, commits = zip(*theirs, strict=True)
        told = f"conntrackd {median(pushes):.2f} s into its cache and {median(commits):.2f} s to commit"
    total = [push + commit for push, commit in theirs]
    return dataclasses.replace(
        row, baseline="conntrackd", baseline_value=middle(total), notes=f"{row.notes}; {told}"
    )
