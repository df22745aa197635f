"""One drill from the empty machine to the verdict, and back to the empty machine."""

from __future__ import annotations

import contextlib
import random
import shutil
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hasyncd.lab.crew import Crew, Load
from hasyncd.lab.incumbent import Incumbent
from hasyncd.lab.incumbent_files import IncumbentOptions
from hasyncd.lab.judge import HALF_CLOSED, Judgement, Verdict, judge, percentile
from hasyncd.lab.last_word import compare
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.nodes import HEARTBEAT_MS, NodeOptions, Nodes
from hasyncd.lab.pair import Pair
from hasyncd.lab.placement import Placement
from hasyncd.lab.scenarios import Scenario
from hasyncd.lab.scenarios.scenario import Edits
from hasyncd.lab.spans import fill
from hasyncd.lab.stage import Fault, Progress, Stage
from hasyncd.lab.timeline import Timeline, transfer_json
from hasyncd.lab.topology import Topology
from hasyncd.lab.traffic.process import now_ns

_ENOUGH_TCP = 100
"""Of so many connections some are half-closed in each client process."""
_CAPACITY = 1 << 20
"""The program's default, in flows."""
_ROOM = 1 << 16
"""Flows that are opened besides the first ones."""
PairMaker = Callable[[Topology], Pair]


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What the command line chooses."""

    seed: int
    load: Load = field(default_factory=Load)
    engine: str = "packet"
    sync_enabled: bool = True
    insecure: bool = False
    heartbeat_ms: int = HEARTBEAT_MS
    bulk_bytes: int = 1 << 30
    incumbent: IncumbentOptions | None = None
    """The other system is drilled, in the same lab."""
    commit: str = "ack"
    old_program: Path | None = None
    """The `hasyncd` that `rolling-upgrade` begins with; None: the same program, pinned to the older protocol."""
    kills: int = 1
    """How many `kill-under-load` makes."""
    logs: Path | None = None
    """Where the lab's files are copied at the end, for whoever looks for a cause."""


@dataclass(slots=True)
class Result:
    """What a drill showed."""

    scenario: Scenario
    options: DrillOptions
    engine: str
    system: str
    judgement: Judgement
    faults: list[Fault]
    failures: list[str]
    notes: list[str]
    traffic_cores: float | None = None
    """CPU seconds a second that the clients and servers used."""
    variant: str | None = None
    timeline: dict[str, Any] | None = None
    ring_changes: list[dict[str, Any]] = field(default_factory=list)
    """Shares and flows of backends before and after each change of them."""
    requirements: int = 0
    """How many were checked besides the flows; those that did not hold are among the failures."""

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against us."""
        return not self.failures and self.judgement.lost <= self.judgement.excused

    @property
    def speaks_against_us(self) -> bool:
        """Whether the exit code has to say so: another system's losses are its own, unless nothing was judged."""
        judged = self.judgement.tcp.opened + self.judgement.udp.opened
        return not self.passed and (self.system == "hasyncd" or not judged)

    def to_json(self) -> dict[str, Any]:
        """One element of the list that `--json` writes (DESIGN §7)."""
        tcp, udp = self.judgement.tcp, self.judgement.udp
        silences = self.judgement.silences_ns
        last = self.faults[-1] if self.faults else None
        return {
            "scenario": self.scenario.name,
            "passed": self.passed,
            "seed": self.options.seed,
            "engine": self.engine,
            "system": self.system,
            "variant": self.variant,
            "flows": {
                "tcp": {"opened": tcp.opened} | {verdict.value: tcp.verdicts[verdict] for verdict in Verdict},
                "udp": {"opened": udp.opened}
                | {
                    verdict.value: udp.verdicts[verdict]
                    for verdict in Verdict
                    if verdict is not Verdict.RESET
                }
                | {"lost_datagrams": udp.lost_datagrams},
            },
            "paths": {
                path: {"opened": tally.opened, "survived": tally.verdicts[Verdict.SURVIVED]}
                for path, tally in sorted(self.judgement.paths.items())
            },
            "tcp_states": {
                state: {"opened": tally.opened, "survived": tally.verdicts[Verdict.SURVIVED]}
                for state, tally in sorted(self.judgement.states.items())
            },
            "gap_ms": {
                "p50": _ms(percentile(silences, 0.5)),
                "p99": _ms(percentile(silences, 0.99)),
                "max": _ms(silences[-1] if silences else None),
            },
            "outage_ms": _ms(self.judgement.outage_ns),
            "first_answer_ms": _ms(self.judgement.first_answer_ns),
            "at_risk_at_fault": _largest(fault.at_risk for fault in self.faults),
            "detected_ms": _largest(fault.detected_ms for fault in self.faults),
            "promoted_ms": _largest(fault.promoted_ms for fault in self.faults),
            "faults": [
                {
                    "node": fault.node,
                    "at_ms": _ms(fault.at_ns - self.faults[0].at_ns),
                    "deed": fault.deed or self.scenario.deed,
                    "promoted_ms": fault.promoted_ms,
                    "flows_held": fault.flows_held,
                }
                for fault in self.faults
            ],
            "certificate": last.certificate if last else None,
            "losses": self.judgement.losses,
            "requirements": self.requirements,
            "traffic_cores": None if self.traffic_cores is None else round(self.traffic_cores, 2),
            "notes": [*self.failures, *self.notes],
            "silence_percentiles_ms": " ".join(
                str(_ms(percentile(silences, share / 100))) for share in range(101) if silences
            ),
            "timeline": self.timeline,
            "rings": self.ring_changes,
            **self.judgement.figures,
        }


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / 1e6, 1)


def _largest(values: Any) -> Any:
    return max((value for value in values if value is not None), default=None)


async def run_drill(
    scenario: Scenario, options: DrillOptions, progress: Progress, make_pair: PairMaker | None = None
) -> Result:
    """Builds the lab, plays the scenario, judges, and removes the lab, whatever happens.

    What goes wrong on the way, with the lab itself too, is a failed result: whoever waits for one gets one.
    """
    options = replace(options, load=scenario.load(options.load))
    maker = make_pair or _pair_maker(scenario, options)
    system = Nodes.system if options.incumbent is None else Incumbent.system
    result = Result(scenario, options, options.engine, system, Judgement(), [], [], [])
    progress.step("building the lab")
    try:
        with Topology() as topology:
            pair = maker(topology)
            if scenario.prepare is not None:
                scenario.prepare(topology, pair)
            result.engine, result.system, result.variant = pair.engine, pair.system, pair.variant
            try:
                async with _on_stage(topology, pair, options, progress) as stage:
                    result.faults, result.failures, result.notes = stage.faults, stage.failures, stage.notes
                    await _play(scenario, stage, result)
                    result.notes += dict.fromkeys(pair.remarks)
            finally:
                if options.logs is not None:
                    sockets = shutil.ignore_patterns("*.ctl")
                    shutil.copytree(topology.directory, options.logs, dirs_exist_ok=True, ignore=sockets)
    except LabError as error:
        result.failures.append(str(error))
    except Exception as error:
        traceback.print_exc()
        result.failures.append(f"the lab itself broke: {error!r}")
    return result


def _pair_maker(scenario: Scenario, options: DrillOptions) -> PairMaker:
    incumbent = options.incumbent
    if incumbent is not None:
        return partial(Incumbent, options=incumbent)
    edits = scenario.edits(options.load)
    nodes = NodeOptions(
        options.engine, options.sync_enabled, options.insecure, options.commit, options.heartbeat_ms,
        scenario.starts_old, options.old_program, edits + _larger_table(options.load, edits),
    )  # fmt: skip
    return partial(Nodes, options=nodes)


def _larger_table(load: Load, edits: Edits) -> Edits:
    """What makes room for idle flows where the program's own capacity has none, and the scenario names no other."""
    wanted = load.background + load.tcp + load.udp + _ROOM
    if wanted <= _CAPACITY or any("capacity" in others for _, others in edits):
        return ()
    return (("[node]\n", f"[node]\ncapacity = {1 << (wanted - 1).bit_length()}\n"),)


@contextlib.asynccontextmanager
async def _on_stage(
    topology: Topology, pair: Pair, options: DrillOptions, progress: Progress
) -> AsyncIterator[Stage]:
    crew = Crew(topology, options.seed)
    chance = random.Random(options.seed)
    stage = Stage(topology, pair, crew, options.load, chance, progress, options.bulk_bytes)
    stage.commit, stage.kills = options.commit, options.kills
    stage.without_sync = not options.sync_enabled
    try:
        progress.step("starting servers and gateways")
        await crew.start_servers()
        await pair.start()
        yield stage
    finally:
        await stage.close()
        await crew.stop()
        await pair.stop()


async def _play(scenario: Scenario, stage: Stage, result: Result) -> None:
    began_ns, began_cpu = now_ns(), stage.crew.cpu_seconds()
    own = await scenario.play(stage)
    _require_idle_flows(scenario, stage)
    result.requirements = stage.checked
    result.ring_changes = stage.ring_changes
    result.traffic_cores = (stage.crew.cpu_seconds() - began_cpu) / ((now_ns() - began_ns) / 1e9)
    if own is not None:
        result.judgement = own
        result.timeline = own.timeline
        if stage.faults and own.progress:
            result.timeline = transfer_json(own.progress, stage.faults[0].at_ns)
    else:
        stage.progress.step("judging")
        end_ns = await stage.crew.finish()
        faults = [fault.at_ns for fault in stage.faults]
        timeline = Timeline(faults[0], end_ns)
        concerned = stage.placement.concern(stage.crew.records())
        result.judgement = judge(timeline.watch(concerned), faults, end_ns)
        result.timeline = timeline.to_json()
        _check_load(result, stage.load, stage.placement.apart_of_first)
        _check_placement(result, stage.placement)
        result.judgement.excused = _excused(scenario, result)
        _check_spans(result, stage)
    if result.judgement.wrong_bytes:
        result.failures.append(
            f"{result.judgement.wrong_bytes} times a flow received bytes that nobody had sent"
        )
    _check_last_words(result)
    if not scenario.datagrams_may_be_lost and result.judgement.udp.lost_datagrams:
        result.failures.append(f"{result.judgement.udp.lost_datagrams} datagrams were lost where none may be")


def _require_idle_flows(scenario: Scenario, stage: Stage) -> None:
    """They were in both tables when the fault came: else it would show nothing of large tables."""
    if scenario.losses_within_certificate or scenario.old_flows_may_be_lost:
        return  # there the backup's table is not whole, as it is meant to be
    wanted = stage.load.background
    for fault in stage.faults:
        for name, held in fault.flows_held.items():
            stage.require(held >= wanted, f"of {wanted:,} idle flows {name} held {held:,} at the fault")


def _check_spans(result: Result, stage: Stage) -> None:
    fill((*stage.spans, *stage.told_spans), stage.placement.concern(stage.crew.records()))
    result.failures += [span.failure for span in stage.spans if span.failure]
    result.notes += [span.note for span in (*stage.spans, *stage.told_spans) if not span.failure]
    result.requirements += len(stage.spans)


def _excused(scenario: Scenario, result: Result) -> int:
    """How many lost flows nobody had promised to keep."""
    if scenario.old_flows_may_be_lost:
        return result.judgement.lost_old
    if scenario.losses_within_certificate and result.faults:
        certificate = result.faults[-1].certificate or {}
        return min(result.judgement.lost, certificate.get("flows_missing") or 0)
    return 0


def _check_last_words(result: Result) -> None:
    told = [(fault.last_word, fault.certificate) for fault in result.faults if fault.last_word]
    if not told:
        return  # nobody died, or this system says nothing when it does
    result.failures += compare(
        [word for word, _ in told],
        [(certificate or {}).get("last_sequence") for _, certificate in told],
        result.judgement.lost_far_ends,
    )


def _check_placement(result: Result, placement: Placement) -> None:
    result.failures += placement.failures
    result.requirements += len(placement.closed)
    if placement.deaths:
        result.notes.append(
            f"{placement.apart} flows died with their backend, or asked for it before anybody knew: not judged"
        )


def _check_load(result: Result, load: Load, apart: int) -> None:
    """A drill that judged fewer flows than it was asked for proves less than it says; `apart`: not to be judged."""
    judged = result.judgement.tcp.opened + result.judgement.udp.opened - result.judgement.opened_during_run
    judged += apart
    if judged != load.tcp + load.udp:
        result.failures.append(f"{load.tcp + load.udp} flows were to be judged, {judged} were")
    wanted = load.ipv6 * (load.tcp + load.udp) // 100
    if wanted > 10 and not any(path in result.judgement.paths for path in ("lb6", "pass")):
        result.failures.append("no flow went over IPv6")
    missing = [state for state in HALF_CLOSED if state not in result.judgement.states]
    if load.tcp >= _ENOUGH_TCP and missing:
        result.failures.append(f"no connection met the fault {' or '.join(missing)}")
    if load.open_rate > 0 and not result.judgement.opened_during_run:
        result.failures.append("no connection was opened around the fault")
