"""A kill in the middle of a full sync: what is promised is the certificate, and no flow is lost beyond it.

The sync link is made thin, so that a full sync of thousands of idle flows takes a second. The backup dies and returns;
when it has a tenth, a half, nine tenths of the table, it dies once more. It returns again, and at the same place the
primary dies.
"""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from functools import partial

from hasyncd.lab.acts import Roll, call_roll, strike
from hasyncd.lab.crew import Load
from hasyncd.lab.lives import kill_backup, status_of
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage

_LEAST_BACKGROUND = 40_000
_THIN = "rate 10mbit burst 16kb limit 60kb"
_LOOK_S = 0.002
_TIMEOUT_S = 30


async def play(stage: Stage, percent: int) -> None:
    """The backup dies in its sync, the primary in the next one."""
    await stage.open_flows()
    await stage.run_for(1.0)
    before = await call_roll(stage)
    _make_thin(stage)
    await kill_backup(stage, before)
    await _until_part(stage, before, percent)
    await strike(
        stage, lambda: stage.pair.kill(before.backup), before.backup, f"died at {percent} % of its sync"
    )
    held, total = await _until_part(stage, before, percent)
    fault = await stage.kill_primary()
    fault.deed = f"was killed at {percent} % of a full sync"
    stage.notes.append(f"when {before.primary} was killed, {before.backup} had {held:,} of {total:,} flows")
    _require_told(stage, before, fault, total)
    flows = (await status_of(stage, before.backup))["flows"]
    stage.notes.append(f"after its promotion it had {flows['tcp']:,} TCP and {flows['udp']:,} UDP flows")
    await stage.until_proven(fault)


def _make_thin(stage: Stage) -> None:
    """Both ends of the sync link carry 10 Mbit/s."""
    for name in ("gw-a", "gw-b"):
        command = [
            "tc",
            "-n",
            stage.topology.namespace(name),
            *f"qdisc add dev sync root tbf {_THIN}".split(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"the sync link could not be made thin: {done.stderr.strip()}")


async def _until_part(stage: Stage, before: Roll, percent: int) -> tuple[int, int]:
    """Starts the backup and waits until it has its part of the table: (flows it has, flows there are)."""
    total = (await status_of(stage, before.primary))["flows"]["total"]
    await stage.pair.restart(before.backup)
    stage.progress.step(f"{before.backup} synchronises up to {percent} %")
    async with asyncio.timeout(_TIMEOUT_S):
        while True:
            status = await stage.pair.status(before.backup)
            held = status["flows"]["total"] if status else 0
            if held * 100 >= total * percent:
                break
            await asyncio.sleep(_LOOK_S)
    stage.require(
        status is not None and status["sync"]["state"] != "ready",
        f"{before.backup} had finished its sync before it could be met at {percent} %",
    )
    return held, total


def _require_told(stage: Stage, before: Roll, fault: Fault, total: int) -> None:
    """The certificate may say too much, never too little, and it is loud. What was under way may have been all."""
    certificate = fault.certificate or {}
    missing, known, held = (
        certificate.get(key) for key in ("flows_missing", "flows_missing_is", "flows_held")
    )
    complete = certificate.get("complete")
    if not stage.require(
        (complete, known) in ((False, "at_most"), (True, "exact")) and None not in (missing, held),
        f"{before.backup} was promoted in the middle of a full sync with the certificate {certificate}",
    ):
        return
    assert isinstance(missing, int), "as was required"
    assert isinstance(held, int), "as was required"
    stage.require(
        held + missing >= total,
        f"{before.backup} said that at most {missing} flows are missing; it has {held} of {total}",
    )
    stage.require(
        complete is True or bool(before.events.of(before.backup, "promoted_incomplete")),
        f"{before.backup} did not say that its promotion is incomplete",
    )
    stage.notes.append(
        f"the certificate: {held:,} flows held, {str(known).replace('_', ' ')} {missing:,} missing"
    )


def _load(load: Load) -> Load:
    """No flow is opened meanwhile: of those nobody but the primary could know."""
    return replace(load, open_rate=0.0, background=max(load.background, _LEAST_BACKGROUND))


SCENARIOS_IN_SYNC = tuple(
    Scenario(
        f"kill-during-full-sync-{percent}",
        f"kill the backup, then the primary at {percent} % of a full sync: no flow is lost beyond the certificate",
        partial(play, percent=percent),
        losses_within_certificate=True,
        ours_only=True,
        load=_load,
    )
    for percent in (10, 50, 90)
)
