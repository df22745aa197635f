"""`takeover.*`: how long traffic waits when the primary dies or hands over, as the traffic itself sees it.

Each figure comes from drills (hasyncd/lab), a lab of its own for each: ours and keepalived + conntrackd in turns, so
that whatever else the machine does meets them alike. Six UDP flows ask every 5 ms. A flow's *silence* is the longest
time between two of its answers, the pace included; a drill's is that of its worst flow. The *first answer* is counted
from the fault to the first answer to a question that was asked after it: it went through the survivor.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from hasyncd.bench.row import Row, middle
from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions, Result, run_drill
from hasyncd.lab.incumbent import missing_packages
from hasyncd.lab.incumbent_files import IncumbentOptions
from hasyncd.lab.judge import percentile
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.nodes import HEARTBEAT_MS
from hasyncd.lab.report import Silent
from hasyncd.lab.scenarios import SCENARIOS

ROUNDS = 5
IDLE_FLOWS = 1 << 20
ADVERTS_MS = (1000, 100, 10)
KILLED_GOAL_MS, SILENT_DEATH_GOAL_MS = 20.0, 200.0
_LOAD = Load(tcp=100, udp=50, open_rate=20)
_INCUMBENT = "keepalived + conntrackd"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """What is drilled once in each round."""

    name: str
    scenario: str
    adverts_ms: int | None = None
    """None: ours."""
    idle_flows: int = 0
    heartbeat_ms: int = HEARTBEAT_MS

    def drill(self, seed: int) -> Result:
        """Plays it. The result of a drill that came to nothing has no judged flow."""
        load = Load(tcp=_LOAD.tcp, udp=_LOAD.udp, open_rate=_LOAD.open_rate, background=self.idle_flows)
        incumbent = None if self.adverts_ms is None else IncumbentOptions(self.adverts_ms)
        options = DrillOptions(seed=seed, load=load, incumbent=incumbent, heartbeat_ms=self.heartbeat_ms)
        return asyncio.run(run_drill(SCENARIOS[self.scenario], options, Silent()))


KILLED, IDLE = Contender("killed", "kill-primary"), Contender("idle", "kill-primary", idle_flows=IDLE_FLOWS)
DEAD, MOVED = Contender("dead", "node-dies"), Contender("moved", "switchover")
FAST_MS = 10
DEAD_FAST = Contender("dead-fast", "node-dies", heartbeat_ms=FAST_MS)
"""As nervous as the incumbent is with its shortest adverts: three of either are missed."""
THEIRS = tuple(Contender(f"theirs-{ms}", "node-dies", ms) for ms in ADVERTS_MS)
THEIR_MOVE = Contender("their-move", "switchover", ADVERTS_MS[0])


@dataclass(slots=True)
class Tale:
    """What the rounds of one contender have shown so far. Milliseconds, one a round but for `probes_ms`."""

    outages_ms: list[float] = field(default_factory=list)
    firsts_ms: list[float] = field(default_factory=list)
    probes_ms: list[float] = field(default_factory=list)
    """Of every flow that asks every 5 ms its longest silence, all rounds together."""
    judged: int = 0
    lost: int = 0
    lost_datagrams: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Takes one drill in."""
        judgement = result.judgement
        self.failures += result.failures
        if judgement.outage_ns is None:
            return
        self.outages_ms.append(judgement.outage_ns / 1e6)
        self.probes_ms += [each / 1e6 for each in judgement.probe_silences_ns]
        if judgement.first_answer_ns is not None:
            self.firsts_ms.append(judgement.first_answer_ns / 1e6)
        self.judged += judgement.tcp.opened + judgement.udp.opened
        self.lost += judgement.lost
        self.lost_datagrams += judgement.udp.lost_datagrams

    @property
    def told(self) -> str:
        """The distribution of silence and what was lost, for people."""
        if not self.probes_ms:
            return f"nothing was measured: {self.failures[0] if self.failures else 'no round ended'}"
        ordered = sorted(self.probes_ms)
        p50, p99 = (_percentile(ordered, share) or 0.0 for share in (0.5, 0.99))
        words = f"p50 {p50:.1f}, p99 {p99:.1f}, max {ordered[-1]:.1f} ms; {self.lost} of {self.judged:,} flows lost"
        return words + (f"; {len(self.failures)} FAILURES: {self.failures[0]}" if self.failures else "")


def play(contenders: Sequence[Contender], rounds: int, say: Say) -> dict[str, Tale]:
    """Each contender once a round, in turns; what is there when somebody interrupts it is told all the same."""
    tales: dict[str, Tale] = defaultdict(Tale)
    try:
        for number in range(rounds):
            seed = random.SystemRandom().randrange(1 << 31)
            for contender in contenders:
                tales[contender.name].add(contender.drill(seed))
                silences = tales[contender.name].outages_ms
                last = f"{silences[-1]:.1f} ms" if silences else "nothing"
                say(f"takeover, round {number + 1} of {rounds}, {contender.name}: {last}")
    except KeyboardInterrupt:
        say("takeover: interrupted; the rows are of the rounds that were played")
    return tales


def kill_rows(tales: dict[str, Tale]) -> list[Row]:
    """Ours beside its goals, beside a full table, and beside the incumbent."""
    killed, dead, idle = tales[KILLED.name], tales[DEAD.name], tales[IDLE.name]
    row = partial(Row, "takeover.kill")
    rows = [
        row("process killed, first answer", "ms", "lower", middle(killed.firsts_ms), "goal", KILLED_GOAL_MS,
            len(killed.firsts_ms), p50=middle(killed.firsts_ms), p99=_percentile(sorted(killed.firsts_ms), 0.99),
            notes=f"worst {max(killed.firsts_ms, default=0):.1f} ms"),
        row("links cut, silence", "ms", "lower", middle(dead.outages_ms), "goal", SILENT_DEATH_GOAL_MS,
            len(dead.outages_ms), p50=_percentile(sorted(dead.probes_ms), 0.5),
            p99=_percentile(sorted(dead.probes_ms), 0.99), notes=dead.told),
        _beside(row, f"{IDLE_FLOWS:,} idle flows", idle, "no idle flows", killed),
    ]  # fmt: skip
    for contender in THEIRS:
        theirs, adverts = tales[contender.name], f"adverts {contender.adverts_ms} ms"
        rows.append(_beside(row, f"process killed, {adverts}", killed, _INCUMBENT, theirs))
        rows.append(_beside(row, f"links cut, {adverts}", dead, _INCUMBENT, theirs))
        if contender.adverts_ms == FAST_MS:
            words = f"links cut, heartbeats {FAST_MS} ms, {adverts}"
            rows.append(_beside(row, words, tales[DEAD_FAST.name], _INCUMBENT, theirs))
    return rows


def switchover_row(tales: dict[str, Tale]) -> Row:
    """The planned move: ours, and keepalived stopped in good order."""
    ours, theirs = tales[MOVED.name], tales[THEIR_MOVE.name]
    row = _beside(partial(Row, "takeover.switchover"), "", ours, _INCUMBENT, theirs)
    lost = f"datagrams lost: {ours.lost_datagrams} and {theirs.lost_datagrams}"
    return Row(
        row.name, row.variant, row.unit, row.better, row.value, row.baseline, row.baseline_value, row.samples,
        p50=row.p50, p99=row.p99, notes=f"{row.notes}; {lost}",
    )  # fmt: skip


def _beside(row: Callable[..., Row], variant: str, ours: Tale, baseline: str, theirs: Tale) -> Row:
    """Medians of the drills' silences."""
    ordered = sorted(ours.probes_ms)
    return row(
        variant, "ms", "lower", middle(ours.outages_ms), baseline, middle(theirs.outages_ms), len(ours.outages_ms),
        p50=_percentile(ordered, 0.5), p99=_percentile(ordered, 0.99),
        notes=f"silence: {ours.told} | {baseline}: {theirs.told}",
    )  # fmt: skip


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """As in the lab's judgement, which counts nanoseconds."""
    found = percentile([round(value * 1e6) for value in ordered], share)
    return None if found is None else found / 1e6


def measure(names: set[str], say: Say, *, rounds: int = ROUNDS) -> list[Row]:
    """The wanted rows. Raises LabError where not one drill of ours came to an end."""
    installed = not missing_packages()
    contenders: list[Contender] = []
    if "takeover.kill" in names:
        contenders += [KILLED, *(THEIRS if installed else ()), DEAD, DEAD_FAST, IDLE]
    if "takeover.switchover" in names:
        contenders += [MOVED, *((THEIR_MOVE,) if installed else ())]
    tales = play(contenders, rounds, say)
    if contenders and not any(tales[each.name].outages_ms for each in (KILLED, DEAD, IDLE, MOVED)):
        raise LabError(
            "; ".join(failure for tale in tales.values() for failure in tale.failures) or "no round ended"
        )
    rows = kill_rows(tales) if "takeover.kill" in names else []
    return rows + ([switchover_row(tales)] if "takeover.switchover" in names else [])
