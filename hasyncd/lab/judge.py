"""The judge: from what a flow's client recorded to a verdict. Pure; knows neither sockets nor clocks.

A flow faces every fault that happens while it lives, and one that is opened after a fault faces that fault
too. It *survived* when for each fault a request **sent after it** (or after the flow was opened) was answered
with the right bytes within 10 s. So bytes that were already on their way prove nothing.

    reset      the connection failed, ended early, or carried a wrong byte (UDP is stalled then)
    remapped   the far end is not who it was: another server answered, or it saw another source
    stalled    no verified bytes both ways in time
    survived   none of these

The worst applies, in this order. A flow that its client closed in good order faced those faults after which it
still asked something (a client closes a flow only when nothing is unanswered, and learns of a fault a little late);
one that faced none is not judged.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

WINDOW_NS = 10_000_000_000
"""How long after a fault a flow may take to prove that it lives."""

CLOSED = "closed"
"""`end` of a flow that its client closed in good order."""


class Verdict(enum.Enum):
    """What became of a flow."""

    SURVIVED = "survived"
    RESET = "reset"
    STALLED = "stalled"
    REMAPPED = "remapped"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its verified answer; moments in ns, `answered_ns` None where none came."""

    sent_ns: int
    answered_ns: int | None


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """What one client remembers of one flow. Moments are ns of CLOCK_BOOTTIME."""

    flow: int
    protocol: str
    """`tcp` or `udp`."""
    path: str
    """`lb` (through the VIP) or `nat`; over IPv6 `lb6` or `pass`."""
    group: str
    """`base`, `probe` (asks every 5 ms) or `opened` (by the opener, while the drill ran)."""
    opened_ns: int
    exchanges: tuple[Exchange, ...] = ()
    seen: tuple[tuple[int, int, str, int], ...] = ()
    """(moment, server, source address, source port): a new entry each time the far end changed."""
    end_ns: int | None = None
    end_reason: str | None = None
    wrong_bytes: int = 0
    connected_ns: int | None = None
    half_closed: tuple[int, str] | None = None
    """(moment, which end had said FIN)."""

    @classmethod
    def from_json(cls, line: str) -> FlowRecord:
        """Reads one line of a client's file. Raises ValueError, KeyError or TypeError on anything else."""
        raw = json.loads(line)
        opened = raw["opened_ns"]
        exchanges = tuple(
            Exchange(opened + sent * 1000, opened + answered * 1000 if answered >= 0 else None)
            for sent, answered in zip(raw["sent_us"], raw["answered_us"], strict=True)
        )
        end_ns, end_reason = raw["end"] or (None, None)
        return cls(
            flow=raw["flow"],
            protocol=raw["protocol"],
            path=raw["path"],
            group=raw["group"],
            opened_ns=opened,
            exchanges=exchanges,
            seen=tuple((moment, server, address, port) for moment, server, address, port in raw["seen"]),
            end_ns=end_ns,
            end_reason=end_reason,
            wrong_bytes=raw["wrong_bytes"],
            connected_ns=raw.get("connected_ns"),
            half_closed=(raw["half_closed"][0], raw["half_closed"][1]) if raw.get("half_closed") else None,
        )


def judge_flow(record: FlowRecord, faults_ns: Sequence[int]) -> Verdict | None:
    """The verdict on one flow, or None where it ended in good order and faced no fault."""
    broken = Verdict.RESET if record.protocol == "tcp" else Verdict.STALLED
    if record.end_reason is not None and record.end_reason != CLOSED:
        return broken
    faced = [fault for fault in faults_ns if record.end_reason != CLOSED or _asked_after(record, fault)]
    if not faced:
        return None
    if record.wrong_bytes:
        return broken
    if len({entry[1:] for entry in record.seen}) > 1:
        return Verdict.REMAPPED
    if all(_lives_after(record, max(fault, record.opened_ns)) for fault in faced):
        return Verdict.SURVIVED
    return Verdict.STALLED


LATER, HANDSHAKE, ESTABLISHED = "opened later", "in its handshake", "established"
HALF_CLOSED = tuple(f"half-closed by its {end}" for end in ("client", "server"))


def state_at_fault(record: FlowRecord, faults_ns: Sequence[int]) -> str:
    """In which state a TCP connection met the first fault that came after its opening; `opened later`: none did."""
    fault = next((fault for fault in faults_ns if fault >= record.opened_ns), None)
    if fault is None:
        return LATER
    if record.connected_ns is None or record.connected_ns > fault:
        return HANDSHAKE
    if record.half_closed is not None and record.half_closed[0] <= fault:
        return f"half-closed by its {record.half_closed[1]}"
    return ESTABLISHED


def _asked_after(record: FlowRecord, moment_ns: int) -> bool:
    return any(exchange.sent_ns >= moment_ns for exchange in record.exchanges)


def _lives_after(record: FlowRecord, moment_ns: int) -> bool:
    return any(
        exchange.sent_ns >= moment_ns
        and exchange.answered_ns is not None
        and exchange.answered_ns <= moment_ns + WINDOW_NS
        for exchange in record.exchanges
    )


def longest_silence_ns(record: FlowRecord, first_fault_ns: int, end_ns: int) -> int:
    """The longest time between two verified answers that did not end before the first fault.

    It counts from the opening for a flow's first answer, and after its last up to the end of the run, or of
    the flow.
    """
    heard = sorted(exchange.answered_ns for exchange in record.exchanges if exchange.answered_ns is not None)
    last = end_ns if record.end_ns is None or record.end_reason != CLOSED else record.end_ns
    moments = [record.opened_ns, *heard, max(last, heard[-1] if heard else record.opened_ns)]
    return max(
        (later - earlier for earlier, later in pairwise(moments) if later >= first_fault_ns), default=0
    )


def first_answer_ns(record: FlowRecord, fault_ns: int) -> int | None:
    """From the fault to the first answer to a question that was asked after it: it went through the survivor."""
    answers = (
        exchange.answered_ns - fault_ns
        for exchange in record.exchanges
        if exchange.answered_ns is not None and exchange.sent_ns >= fault_ns
    )
    return min(answers, default=None)


def count_lost_datagrams(record: FlowRecord) -> int:
    """Requests of a UDP flow that were never answered."""
    return sum(1 for exchange in record.exchanges if exchange.answered_ns is None)


@dataclass(slots=True)
class Tally:
    """The verdicts on the flows of one protocol."""

    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    lost_datagrams: int = 0

    @property
    def opened(self) -> int:
        """Every flow that was judged."""
        return sum(self.verdicts.values())

    @property
    def lost(self) -> int:
        """Flows that did not survive."""
        return self.opened - self.verdicts[Verdict.SURVIVED]


@dataclass(slots=True)
class Judgement:
    """The whole court: tallies by protocol, silences, and what a person should know besides."""

    tcp: Tally = field(default_factory=Tally)
    udp: Tally = field(default_factory=Tally)
    silences_ns: list[int] = field(default_factory=list)
    """One for each judged flow, sorted."""
    losses: dict[str, int] = field(default_factory=dict)
    """`tcp nat opened: reset (ECONNRESET)` -> flows."""
    paths: dict[str, Tally] = field(default_factory=dict)
    """The same verdicts by way: `nat`, `lb`, `pass`, `lb6`."""
    states: dict[str, Tally] = field(default_factory=dict)
    """The same verdicts on TCP by the state in which a connection met the fault."""
    opened_during_run: int = 0
    """How many of the judged flows the opener had opened."""
    unjudged: int = 0
    wrong_bytes: int = 0
    outage_ns: int | None = None
    """The longest silence of a flow that asks every 5 ms."""
    lost_far_ends: list[tuple[str, str, int]] = field(default_factory=list)
    """(protocol, address, port) as the server knew it, of each lost flow that had reached one."""
    first_answer_ns: int | None = None
    """From the first fault to the first answer to a question that was asked after it, of flows that ask every 5 ms."""
    probe_silences_ns: list[int] = field(default_factory=list)
    """The longest silence of each of these flows, sorted."""
    timeline: dict[str, Any] | None = None
    """Series of a scenario's own making (timeline.py)."""
    progress: list[tuple[int, int]] = field(default_factory=list)
    """(moment, bytes moved so far), where transfers were judged."""
    excused: int = 0
    """Lost flows that the chosen commit does not promise to keep, and that were announced."""
    lost_old: int = 0
    """Lost flows that had been opened before the last fault."""
    table: list[str] = field(default_factory=list)
    """What a scenario of several faults shows of each of them, line by line."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What a scenario measured besides; joins the result's JSON."""

    @property
    def lost(self) -> int:
        """Flows of both protocols that did not survive."""
        return self.tcp.lost + self.udp.lost


def judge(records: Iterable[FlowRecord], faults_ns: Sequence[int], end_ns: int) -> Judgement:
    """Judges every flow of a run that ended at `end_ns`. `faults_ns` is in order and not empty."""
    judgement = Judgement()
    for record in records:
        verdict = judge_flow(record, faults_ns)
        tally = judgement.tcp if record.protocol == "tcp" else judgement.udp
        if record.protocol == "udp":
            tally.lost_datagrams += count_lost_datagrams(record)
        judgement.wrong_bytes += record.wrong_bytes
        if verdict is None:
            judgement.unjudged += 1
            continue
        tally.verdicts[verdict] += 1
        judgement.paths.setdefault(record.path, Tally()).verdicts[verdict] += 1
        state = state_at_fault(record, faults_ns) if record.protocol == "tcp" else None
        if state is not None:
            judgement.states.setdefault(state, Tally()).verdicts[verdict] += 1
        silence = longest_silence_ns(record, faults_ns[0], end_ns)
        judgement.silences_ns.append(silence)
        if record.group == "probe":
            judgement.outage_ns = max(judgement.outage_ns or 0, silence)
            judgement.probe_silences_ns.append(silence)
            first = first_answer_ns(record, faults_ns[0])
            if first is not None:
                judgement.first_answer_ns = min(first, judgement.first_answer_ns or first)
        if record.group == "opened":
            judgement.opened_during_run += 1
        if verdict is not Verdict.SURVIVED:
            judgement.lost_old += record.opened_ns <= faults_ns[-1]
            judgement.lost_far_ends += [(record.protocol, *record.seen[0][2:])] if record.seen else []
            half = f", {state}" if state in HALF_CLOSED else ""
            wrong = ", wrong bytes came" if record.wrong_bytes else ""
            name = f"{record.protocol} {record.path} {record.group}{half}: {verdict.value}{wrong}"
            if record.end_reason not in (None, CLOSED):
                name += f" ({record.end_reason})"
            judgement.losses[name] = judgement.losses.get(name, 0) + 1
    judgement.silences_ns.sort()
    judgement.probe_silences_ns.sort()
    return judgement


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """The value below which `share` (0..1) of the ordered values lie; None of nothing."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
