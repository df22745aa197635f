"""A SYN flood against a service: the half-open flows stay few, the backup keeps up, and a kill in it loses nobody."""

from __future__ import annotations

from hasyncd.lab import plan
from hasyncd.lab.acts import Roll, call_roll, require_unmoved
from hasyncd.lab.crew import Load
from hasyncd.lab.lives import require_complete, status_of, watched
from hasyncd.lab.scenarios.scenario import Edits, Scenario
from hasyncd.lab.stage import Stage

_CAPACITY, _HALF_OPEN_A_SOURCE = 65_536, 32
_SOURCES = (110, 240)
"""Last digits of the outside addresses that the flood pretends to come from: nobody lives there."""
_RATE = 10_000
_FLOOD_S = 4.0


def _edits(load: Load) -> Edits:
    return (
        ("[node]\n", f"[node]\ncapacity = {_CAPACITY}\n"),
        ("[[nat]]\n", f"[flows]\nhalf_open_per_source = {_HALF_OPEN_A_SOURCE}\n\n[[nat]]\n"),
    )


async def play(stage: Stage) -> None:
    """Flooded for a while, then killed, flooded still."""
    await stage.open_flows()
    await stage.run_for(1.0)
    before = await call_roll(stage)
    sources = [f"203.0.113.{digits}" for digits in range(*_SOURCES)]
    task = {
        "target": [plan.OUTSIDE_VIP, plan.WEB_PORT],
        "sources": sources,
        "rate": _RATE,
        "seed": stage.crew.seed,
    }
    flood = stage.crew.recruit(plan.CLIENTS[0].name, "syn_flood", task)
    await stage.crew.wait_for(flood, lambda report: report.get("sent", 0) > 0)
    async with watched(stage) as watch:
        await stage.run_for(_FLOOD_S)
    await require_unmoved(stage, before, "during the flood")
    await _require_held_off(stage, before, watch.most_at_risk)
    fault = await stage.kill_primary()
    await require_complete(stage, fault)
    await stage.until_proven(fault)
    stage.notes.append(f"{flood.report['sent']:,} SYNs came from {len(sources)} sources that do not exist")


async def _require_held_off(stage: Stage, before: Roll, most_at_risk: int) -> None:
    status = await status_of(stage, before.primary)
    counters, sync = status["counters"], status["sync"]
    refused = counters["drop_half_open_source"] + counters["drop_half_open_limit"]
    most = _HALF_OPEN_A_SOURCE * (_SOURCES[1] - _SOURCES[0])
    half_open = counters["half_open_flows"]
    stage.require(refused > 0, "no SYN of the flood was refused")
    stage.require(
        0 < half_open <= most + stage.load.tcp, f"{half_open} flows were half-open, {most} is the cap"
    )
    stage.require(sync["state"] == "ready", f"during the flood the pair was {sync['state']} and not ready")
    stage.require(
        most_at_risk <= most, f"{most_at_risk} flows were unconfirmed at once: the backup did not keep up"
    )
    syncs = sync["full_syncs"] - before.statuses[before.primary]["sync"]["full_syncs"]
    stage.require(syncs == 0, f"the flood cost {syncs} full syncs")
    stage.notes.append(
        f"{half_open:,} flows half-open at most of {most:,} that the caps allow, {refused:,} SYNs refused, "
        f"{most_at_risk} flows unconfirmed at once at worst"
    )


SCENARIO = Scenario(
    "syn-flood",
    "10,000 SYNs a second from sources that do not exist: half-open flows are capped, a kill in it loses nobody",
    play,
    ours_only=True,
    edits=_edits,
)
