"""SIGKILL under thousands of new connections a second, again and again: no completed handshake may be lost.

The killed node returns as backup, and when it could take over, the other one is killed. Under `emit`, which promises
less, a connection may be lost where the killed node's last word names it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.judge import WINDOW_NS, Judgement
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.rounds import Attempt, Round, delay_figures, gather, judge_round, line, table
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.traffic.process import now_ns

_LINGER_MS = 100
"""So many of the youngest connections are alive at any moment that a loss among them cannot hide."""
_KEEP_PERCENT, _KEEP_MS, _KEEP_LONG, _PACE_MS = 10, 5_000, 30, 500
_SETTLE_NS = 1_500_000_000
"""Connections opened so long after the kill are judged too: those whose SYN was lost come back after 1 s."""
_CALM_S = 1.3
"""The longest time between a ready pair and the next kill."""
_WARM_UP_S = 30.0
_TURN_S = 0.1
BeforeKill = Callable[[Stage, str], Awaitable[None]]


async def play(stage: Stage, before_kill: BeforeKill | None = None) -> Judgement:
    """As many kills as were asked for. `before_kill` may make it harder for the primary that is named."""
    await start_churn(stage)
    began = openings(stage)
    rounds: list[Round] = []
    while len(rounds) < stage.kills and not stage.failures:
        rounds.append(await _kill_once(stage, len(rounds) + 1, before_kill))
    return _verdict(stage, rounds, rate_between(began, openings(stage)))


async def start_churn(stage: Stage) -> None:
    """Starts the clients and waits until connections come at the rate that was asked for."""
    crew, rate = stage.crew, stage.load.connect_rate
    ways = _ways(stage.load.ipv6)
    for place, (host, its_ways) in enumerate(ways):
        task = {
            "seed": crew.seed,
            "ways": its_ways,
            "rate": rate / 2 if place == 0 else rate / 2 / (len(ways) - 1),
            "linger_ms": _LINGER_MS,
            "keep_percent": _KEEP_PERCENT,
            "keep_ms": _KEEP_MS,
            "keep_long": _KEEP_LONG,
            "pace_ms": _PACE_MS,
            "first_flow": (place + 1) << 24,
            "records": str(_records(stage, host.name)),
        }
        crew.clients.append(crew.recruit(host.name, "connector", task))
    for client in crew.clients:
        await crew.wait_for(client, lambda report: bool(report.get("ready")))
    crew.order(do="churn")
    await stage.wait_until(lambda: crew.sum("completed") > rate, "the first connections", _WARM_UP_S)


def _ways(ipv6: int) -> list[tuple[plan.Host, list[dict[str, Any]]]]:
    """For each client host what it opens: the outside client through the VIPs, private hosts to the servers."""
    web = [(plan.OUTSIDE_VIP, plan.WEB_PORT)], [(plan.OUTSIDE_VIP6, plan.WEB_PORT)]
    places = [(host, port) for port in plan.SERVER_PORTS for host in plan.SERVERS]
    servers = (
        [(host.addresses[0], port) for host, port in places],
        [(host.addresses6[0], port) for host, port in places],
    )
    found = []
    for hosts, paths, targets in (
        (plan.CLIENTS, ("lb", "lb6"), web),
        (plan.PRIVATE_HOSTS, ("nat", "pass"), servers),
    ):
        for host in hosts:
            sources = (host.addresses, host.addresses6)
            weights = (100 - ipv6, ipv6)
            found.append((host, [
                {"path": paths[six], "ipv6": bool(six), "sources": sources[six], "targets": targets[six],
                 "weight": weights[six]}
                for six in (0, 1)
            ]))  # fmt: skip
    return found


def _records(stage: Stage, host: str) -> Path:
    return stage.topology.directory / f"records-{host}"


async def _kill_once(stage: Stage, number: int, before_kill: BeforeKill | None) -> Round:
    crew = stage.crew
    began = openings(stage)
    crew.order(do="measure")
    await asyncio.sleep(stage.chance.uniform(0, _CALM_S))
    node = await stage.pair.primary()
    if before_kill is not None:
        await before_kill(stage, node)
        before = await stage.pair.status(node)
    else:
        before = await _until_held(stage, node)
    fault = await stage.kill_primary()
    # At once, as a supervisor does it, or after the verdict, so that the next kill follows close upon the full sync.
    at_once, promoted = stage.chance.random() < 0.5, fault.promoted_ms is not None
    restart = asyncio.create_task(_return(stage, fault.node)) if at_once and promoted else None
    try:
        await until_proven(stage, fault)
        shown = await judge_churn(stage, number, fault)
        if promoted:
            shown.ready_s = await (restart or _return(stage, fault.node))
    finally:
        if restart is not None:
            restart.cancel()
    shown.rate = rate_between(began, openings(stage))
    shown.promoted_ms = fault.promoted_ms
    shown.fail_open_released = ((before or {}).get("sync") or {}).get("fail_open_released")
    stage.progress.step(line(shown))
    return shown


async def _until_held(stage: Stage, node: str) -> dict[str, Any] | None:
    """Its status once its commit is in force: a lease that is still solo suspends it although the sync is ready."""
    deadline = now_ns() + WINDOW_NS
    while now_ns() < deadline:
        status = await stage.pair.status(node)
        if ((status or {}).get("sync") or {}).get("commit_held") is not False or stage.without_sync:
            return status
        await asyncio.sleep(_TURN_S / 10)
    raise LabError(f"{node} did not hold first packets for its peer within {WINDOW_NS // 10**9} s")


def openings(stage: Stage) -> list[tuple[int, int]]:
    """(connections opened so far, moment) of each client."""
    return [(client.report["opened"], client.report["at_ns"]) for client in stage.crew.clients]


def rate_between(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> float:
    """Connections a second of all clients, each by its own clock."""
    return sum(
        (opened - earlier) / ((at_ns - earlier_ns) / 1e9)
        for (earlier, earlier_ns), (opened, at_ns) in zip(before, after, strict=True)
    )


async def _return(stage: Stage, node: str) -> float:
    """Starts the killed node again; how long until it could take over."""
    started = now_ns()
    await stage.pair.restart(node)
    await stage.pair.wait_ready()
    return round((now_ns() - started) / 1e9, 1)


async def until_proven(stage: Stage, fault: Fault) -> None:
    """Goes on opening for a while, then waits until every connection that had part has proven itself."""
    crew = stage.crew
    until_ns = fault.at_ns + _SETTLE_NS
    await asyncio.sleep(max(0, until_ns - now_ns()) / 1e9)
    crew.order(do="settle", until_ns=until_ns)
    deadline = until_ns + WINDOW_NS
    while now_ns() < deadline:
        know = all(client.report.get("until_ns") == until_ns for client in crew.clients)
        unproven = int(crew.sum("unproven"))
        if know and not unproven:
            return
        await asyncio.sleep(_TURN_S)


async def judge_churn(stage: Stage, number: int, fault: Fault) -> Round:
    crew = stage.crew
    crew.order(do="tell", round=number)
    attempts: list[Attempt] = []
    delays_us: list[int] = []
    ends = []
    files = [Path(f"{_records(stage, host.name)}-{number}.jsonl") for host, _ in _ways(0)]
    for client, file in zip(crew.clients, files, strict=True):
        report = await crew.wait_for(client, lambda report: report.get("told") == number)
        delays_us += report["delays_us"]
        ends.append(report["ended_ns"])
        with file.open(encoding="ascii") as lines:
            attempts += map(Attempt.from_json, lines)
    shown = judge_round(number, fault.node, attempts, fault.at_ns, min(ends), fault.last_word)
    shown.delays_us = sorted(delays_us)
    if not shown.judgement.lost:
        for file in files:
            file.unlink()
    else:
        _keep_evidence(stage, shown)
    return shown


def _keep_evidence(stage: Stage, shown: Round) -> None:
    """Puts beside the records what tells how connections were lost; `--logs` copies it."""
    for left in plan.RUN_DIR.glob(f"{shown.node}.lastword*"):
        shutil.copy(left, stage.topology.directory / f"{left.name}-{shown.number}")
    lines = [f"{near} {verdict}, {'' if named else 'not '}announced\n" for near, verdict, named in shown.lost]
    (stage.topology.directory / f"lost-{shown.number}.txt").write_text("".join(lines))


def _verdict(stage: Stage, rounds: list[Round], rate: float) -> Judgement:
    judgement = gather(rounds)
    delays = delay_figures(sorted(delay for each in rounds for delay in each.delays_us))
    judgement.table = table(rounds)
    failed = sum((Counter(each.attempts_failed) for each in rounds), Counter())
    judgement.figures = {
        "commit": stage.commit,
        "kills": len(rounds),
        "connect_rate_asked": stage.load.connect_rate,
        "connect_rate": round(rate, 1),
        "connect_us": delays,
        "attempts_failed": dict(failed),
        "rounds": [each.to_json() for each in rounds],
    }
    if failed:
        stage.failures.append(f"{failed.total()} attempts to connect came to nothing: {dict(failed)}")
    if len(rounds) < stage.kills:
        stage.failures.append(f"{stage.kills} kills were asked for, {len(rounds)} were made")
    arrears = int(stage.crew.sum("arrears"))
    stage.notes.append(
        f"{rate:,.0f} new connections a second of {stage.load.connect_rate:,.0f} asked for"
        + (f" ({arrears:,} in all were not opened because their clients got no CPU)" if arrears else "")
    )
    if delays["count"]:
        held = sorted({each.commit or "unknown" for each in rounds})
        stage.notes.append(
            f"commit {', '.join(held)}: SYN to SYN-ACK {delays['p50']:,} us (median), {delays['p99']:,} us (p99), "
            f"{delays['max']:,} us (worst) of {delays['count']:,} handshakes, the kills apart"
        )
    stage.notes.append(
        "over time: the connections that the first kill met or that were opened right after it"
    )
    young = sum(each.young for each in rounds)
    stage.notes.append(
        f"{young:,} handshakes had been complete for less than 10 ms when their gateway was killed"
    )
    if judgement.lost or stage.commit == "emit":
        announced = sum(each.announced for each in rounds)
        stage.notes.append(
            f"{judgement.lost} connections were lost, {announced} of them named by the last word"
        )
    released = sum(each.fail_open_released or 0 for each in rounds)
    if released:
        stage.notes.append(f"{released} first packets were released unconfirmed (fail_open)")
    alone = sum(each.commit == "none" for each in rounds)
    if alone:
        stage.notes.append(f"{alone} kills met a primary whose peer was not ready")
    return judgement


SCENARIO = Scenario(
    "kill-under-load",
    "kill under 2,000 new TCP connections/s (--rate, --kills, --commit): no completed handshake may be lost",
    play,
)
