"""The primary is stopped (SIGSTOP) and goes on later (SIGCONT): without its lease it may say nothing for the pair.

A stop of 2 s and one of 30 s are longer than the pair's patience: the backup takes over, and the woken node has to find
out. A stop of 0.2 s is about as long as that patience: the backup may have taken over or not; never may both own the
addresses. A tap on the bridges is the witness, not the daemon. Of the packet engine not a frame may leave from the stop
on, of the tc engine from the end of its lease on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from hasyncd.lab.acts import Roll, ask_both, burst, call_roll, calm_down, nodes_of, require_whole
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.pair import other
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage
from hasyncd.lab.tap import Sighting, Tap, summary
from hasyncd.lab.traffic.process import now_ns

BATCH = 64
"""Frames that the packet engine sends without looking at its lease again."""
_LEASE_SHARE = 0.8
"""Of dead_after: proto/pair.md §2."""
_WATCH_AWAKE_S = 1.0


def acts(*stops_s: float) -> Callable[[Stage], Awaitable[None]]:
    """Plays the stops one after the other, each of whoever is primary then."""

    async def play(stage: Stage) -> None:
        await stage.open_flows()
        await stage.run_for(stage.chance.uniform(1.0, 2.0))
        for number, stop_s in enumerate(stops_s):
            if number:
                calm_down(stage)
                await stage.run_for(stage.chance.uniform(0.5, 1.0))
            await _stop_once(stage, stop_s)

    return play


async def _stop_once(stage: Stage, stop_s: float) -> None:
    nodes = nodes_of(stage)
    before = await call_roll(stage)
    name = before.primary
    pid = nodes.processes[name].pid
    lease_ns = int(_LEASE_SHARE * nodes.dead_after_ns)
    burst(stage)
    await asyncio.sleep(stage.chance.uniform(0, 0.008))
    try:
        os.kill(pid, signal.SIGSTOP)
        stopped_ns = await _until_still(pid)
        fault = stage.mark_fault(name, stopped_ns, f"stood still for {stop_s:g} s")
        with closing(Tap(stage.topology, name)) as tap:
            await stage.run_for(stop_s - (now_ns() - stopped_ns) / 1e9)
            os.kill(pid, signal.SIGCONT)
            woken_ns = now_ns()
            await stage.run_for(_WATCH_AWAKE_S)
            judge_tap(stage, before, tap.read(), stopped_ns, woken_ns, lease_ns)
            stage.require(tap.lost == 0, f"the tap lost {tap.lost} frames: its count proves nothing")
    finally:
        os.kill(pid, signal.SIGCONT)
    promoted = before.events.promotions()
    if promoted:
        fault.promoted_ms = _promoted_ms(before, stopped_ns)
    if stop_s >= 2:
        fault.certificate = (await ask_both(stage))[other(name)]["certificate"]
        stage.require(
            [each for each, _ in promoted] == [other(name)],
            f"{name} stood still for {stop_s:g} s; promoted was {promoted or 'nobody'}",
        )
    else:
        stage.require(
            len(promoted) <= 1 and all(each == other(name) for each, _ in promoted),
            f"{name} stood still for {stop_s:g} s; promoted was {promoted}",
        )
    await require_whole(stage, before, f"after {name} had stood still for {stop_s:g} s")
    await stage.until_proven(fault)


def _promoted_ms(before: Roll, stopped_ns: int) -> float:
    """The log's wall-clock time of the promotion, in ms after the stop."""
    said = next(each for each in before.events.of(before.backup, "role_changed") if each["role"] == "primary")
    return round((before.events.moment_ns(said) - stopped_ns) / 1e6, 1)


async def _until_still(pid: int) -> int:
    """Waits until every thread stands still; a stop reaches those on other cores a little later. The moment."""
    deadline = now_ns() + 5_000_000_000
    while now_ns() < deadline:
        if _stands_still(pid):
            return now_ns()
        await asyncio.sleep(0)
    raise LabError(f"process {pid} does not stand still")


def _stands_still(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def judge_tap(
    stage: Stage, before: Roll, seen: list[Sighting], stopped_ns: int, woken_ns: int, lease_ns: int
) -> None:
    """What the bridges saw of the stopped node in the name of the pair."""
    name = before.primary
    # What the kernel forwards out of its cache does not stop with the process: there the lease ends it.
    silent_from_ns = stopped_ns + (lease_ns if stage.pair.engine == "tc" else 0)
    asleep = [each for each in seen if silent_from_ns <= each.at_ns < woken_ns]
    stage.require(not asleep, f"{name} stood still, and the bridges saw it send {summary(asleep)}")
    if not before.events.promotions():
        stage.notes.append(f"{name} woke before {before.backup} had taken over, and went on as primary")
        return
    # Its lease was counted from before the stop, so it has ended now, and its peer has the addresses.
    late = [each for each in seen if each.at_ns >= max(stopped_ns + lease_ns, woken_ns)]
    stage.require(
        len(late) <= BATCH and all(each.kind not in ("ARP", "NDP") for each in late),
        f"{name} woke without a lease, and the bridges saw it send {len(late)} frames for the pair: {summary(late)}",
    )
    stage.notes.append(
        f"{name} woke after {before.backup} had taken over: the bridges saw {len(late)} frames from it "
        f"in the name of the pair (one batch of {BATCH} is allowed, no ARP)"
    )


SCENARIO = Scenario(
    "stop-cont",
    "stop the primary for 0.2, 2 and 30 s and let it go on: it may say nothing for the pair",
    acts(0.2, 2, 30),
    ours_only=True,
)
