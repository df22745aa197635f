"""One kill among many under load: which connections lived through it, and were the others announced? Pure.

A connection counts once its handshake is complete (its client has the SYN-ACK). It is then judged as every flow is
(judge.py). An attempt without a SYN-ACK is no connection: its kernel tries again, and it counts when that succeeds.

A lost connection was *announced* when the killed node's last word names it as new and unconfirmed. It is
known by its addresses and ports as the client sees them, so that one which never got an answer is compared too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hasyncd.lab.judge import FlowRecord, Judgement, Verdict, judge, judge_flow, percentile
from hasyncd.lab.timeline import Timeline

YOUNG_NS = 10_000_000

NearEnd = tuple[str, int, str, int]
"""(source, port, target, port) of a connection as its client sees it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection, or one attempt at it, as its client wrote it down."""

    record: FlowRecord
    near: NearEnd
    connected_ns: int | None
    """When its handshake was complete; None: it never was."""

    @classmethod
    def from_json(cls, line: str) -> Attempt:
        """Reads one line of a client's file. Raises ValueError, KeyError or TypeError on anything else."""
        raw = json.loads(line)
        return cls(FlowRecord.from_json(line), (*raw["near"], *raw["target"]), raw["connected_ns"])


@dataclass(slots=True)
class Round:
    """What one kill showed."""

    number: int
    node: str
    judgement: Judgement
    young: int = 0
    """Connections whose handshake was complete for less than `YOUNG_NS`: those that a slow sync would lose."""
    announced: int = 0
    """Connections that were lost and that the last word names."""
    at_risk: int | None = None
    commit: str | None = None
    """What held at the kill, as the last word has it; `none`: its peer was not ready."""
    attempts_failed: dict[str, int] = field(default_factory=dict)
    """How attempts ended that never became a connection -> how many."""
    lost: list[tuple[NearEnd, str, bool]] = field(default_factory=list)
    """(connection, verdict, announced) of each one that was lost."""
    fail_open_released: int | None = None
    promoted_ms: float | None = None
    ready_s: float | None = None
    """From the restart of the killed node until it could take over."""
    rate: float = 0.0
    """Connections opened a second, from the last verdict to this one."""
    timeline: dict[str, Any] | None = None
    """What its connections went through (timeline.py); of the first kill only, or a hundred would fill the report."""
    delays_us: list[int] = field(default_factory=list)
    """From SYN to SYN-ACK, before the kill, by the client's kernel; in order."""

    @property
    def judged(self) -> int:
        """Connections that this kill was about."""
        return self.judgement.tcp.opened

    @property
    def excused(self) -> int:
        """Lost connections that speak against nobody: `emit` promises to name them, not to keep them."""
        return self.announced if self.commit == "emit" else 0

    def to_json(self) -> dict[str, Any]:
        """One element of `rounds` in the drill's result."""
        worst = self.judgement.silences_ns[-1] / 1e6 if self.judgement.silences_ns else None
        return {
            "kill": self.number,
            "node": self.node,
            "judged": self.judged,
            "young": self.young,
            "lost": self.judgement.lost,
            "lost_announced": self.announced,
            "at_risk": self.at_risk,
            "commit": self.commit,
            "attempts_failed": self.attempts_failed,
            "fail_open_released": self.fail_open_released,
            "promoted_ms": self.promoted_ms,
            "worst_silence_ms": None if worst is None else round(worst, 1),
            "ready_s": self.ready_s,
            "opened_per_s": round(self.rate),
            "connect_us": delay_figures(self.delays_us),
        }


def judge_round(
    number: int,
    node: str,
    attempts: Iterable[Attempt],
    fault_ns: int,
    end_ns: int,
    last_word: Sequence[dict[str, Any]] | None,
) -> Round:
    """Judges what faced one kill. `last_word`: the lines of `hasyncd last-word --json`, or None where there is none."""
    every = list(attempts)
    connections = [attempt for attempt in every if attempt.connected_ns is not None]
    judgement = judge((attempt.record for attempt in connections), [fault_ns], end_ns)
    shown = Round(number, node, judgement)
    if last_word:
        shown.at_risk, shown.commit = last_word[0]["at_risk"], last_word[0]["commit"]
    at_risk = named(last_word or ())
    if number == 1:
        timeline = Timeline(fault_ns, end_ns)
        for attempt in connections:
            timeline.add(attempt.record)
        shown.timeline = timeline.to_json()
    for attempt in connections:
        shown.young += fault_ns - YOUNG_NS <= (attempt.connected_ns or 0) < fault_ns
        verdict = judge_flow(attempt.record, [fault_ns])
        if verdict is not None and verdict is not Verdict.SURVIVED:
            shown.lost.append((attempt.near, verdict.value, attempt.near in at_risk))
    shown.announced = sum(announced for _, _, announced in shown.lost)
    for attempt in every:
        if attempt.connected_ns is None:
            how = attempt.record.end_reason or "no answer"
            shown.attempts_failed[how] = shown.attempts_failed.get(how, 0) + 1
    return shown


def named(last_word: Sequence[dict[str, Any]]) -> set[NearEnd]:
    """The new TCP flows that a last word says its peer may not have."""
    return {
        (flow["src"], flow["sport"], flow["dst"], flow["dport"])
        for flow in last_word[1:]
        if flow["proto"] == "tcp" and flow["risk"] == "new"
    }


def delay_figures(delays_us: Sequence[int]) -> dict[str, int | None]:
    """Median, 99th percentile and worst of delays that are in order."""
    return {
        "count": len(delays_us),
        "p50": percentile(delays_us, 0.5),
        "p99": percentile(delays_us, 0.99),
        "max": delays_us[-1] if delays_us else None,
    }


def gather(rounds: Sequence[Round]) -> Judgement:
    """One judgement over all kills: a connection that faced two of them counts twice."""
    whole = Judgement(excused=sum(each.excused for each in rounds))
    whole.timeline = next((each.timeline for each in rounds if each.timeline), None)
    for each in rounds:
        part = each.judgement
        for verdict in Verdict:
            whole.tcp.verdicts[verdict] += part.tcp.verdicts[verdict]
            for path, tally in part.paths.items():
                whole.paths.setdefault(path, type(tally)()).verdicts[verdict] += tally.verdicts[verdict]
        for how, count in part.losses.items():
            whole.losses[how] = whole.losses.get(how, 0) + count
        whole.silences_ns += part.silences_ns
        whole.wrong_bytes += part.wrong_bytes
        whole.opened_during_run += part.opened_during_run
        whole.lost_far_ends += part.lost_far_ends
    whole.silences_ns.sort()
    return whole


_COLUMNS = (
    "kill  node   judged  <10 ms old    lost  announced  at risk  failed open  promoted  worst silence  ready  opened/s"
    "  connect p50/p99"
)


def table(rounds: Sequence[Round]) -> list[str]:
    """A heading and a line for each kill."""
    return [_COLUMNS, *map(line, rounds)]


def line(shown: Round) -> str:
    """One kill in one line."""
    word = shown.to_json()
    delay = word["connect_us"]

    def cell(key: str, unit: str = "") -> str:
        return "-" if word[key] is None else f"{word[key]:,}{unit}"

    return (
        f"{shown.number:4}  {shown.node:5}{shown.judged:8,}{shown.young:12,}{shown.judgement.lost:8,}"
        f"{shown.announced:11,}{cell('at_risk'):>9}{cell('fail_open_released'):>13}{cell('promoted_ms', ' ms'):>10}"
        f"{cell('worst_silence_ms', ' ms'):>15}{cell('ready_s', ' s'):>7}{cell('opened_per_s'):>10}"
        f"{delay['p50'] or 0:>10,}/{delay['p99'] or 0:,} us"
    )
