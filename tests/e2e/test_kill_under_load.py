"""`hasyncd drill kill-under-load`: new connections through kill after kill, and what it says of those that are lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions, Result
from hasyncd.lab.pair import other
from hasyncd.lab.scenarios import Scenario, kill_under_load
from hasyncd.lab.stage import Stage
from tests.e2e.lab import hasyncd, play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STALL_S = 0.3
"""Longer than commit_timeout_ms, far shorter than what a pair takes for a dead stream."""


def drill(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Runs the drill and returns what it wrote, its output added as `said`."""
    results = tmp_path / "out.json"
    done = hasyncd("drill", "kill-under-load", *words, "--json", str(results))
    assert results.exists(), done.stdout + done.stderr
    [result] = json.loads(results.read_text())
    return {**result, "code": done.returncode, "said": done.stdout + done.stderr}


@pytest.mark.parametrize("commit", ["ack", "emit"])
def test_no_completed_handshake_is_lost(commit: str, tmp_path: Path) -> None:
    result = drill(tmp_path, "--kills", "3", "--commit", commit, "--seed", "21")
    assert result["code"] == 0, result["said"]
    tcp = result["flows"]["tcp"]
    assert tcp["opened"] > 1000
    if commit == "ack":
        assert tcp["survived"] == tcp["opened"], result["said"]
    assert [each["node"] for each in result["rounds"]] == ["gw-a", "gw-b", "gw-a"]
    assert all(each["commit"] == commit and each["ready_s"] is not None for each in result["rounds"])
    assert result["paths"].keys() == {"lb", "nat", "lb6", "pass"}
    assert result["attempts_failed"] == {}
    assert result["connect_rate"] > 0
    assert 0 < result["connect_us"]["p50"] <= result["connect_us"]["p99"]
    assert f"commit {commit}: SYN to SYN-ACK" in result["said"]


def test_without_sync_connections_are_lost_and_no_mode_excuses_it(tmp_path: Path) -> None:
    result = drill(tmp_path, "--without-sync", "--commit", "emit", "--rate", "300")
    assert result["code"] == 1, result["said"]
    assert result["flows"]["tcp"]["reset"] + result["flows"]["tcp"]["stalled"] > 50
    assert result["rounds"][0]["commit"] == "none"
    assert "were lost" in result["said"]


@asynccontextmanager
async def _stalled(namespace: str) -> AsyncIterator[None]:
    """The peer's stream does not reach this namespace; heartbeats, which are datagrams, do."""
    await _nft(
        namespace,
        "table inet stall { chain in { type filter hook input priority 0; iifname sync meta l4proto tcp drop; }; }",
    )
    try:
        yield
    finally:
        await _nft(namespace, "delete table inet stall")


async def _nft(namespace: str, rules: str) -> None:
    command = (
        "ip",
        "netns",
        "exec",
        namespace,
        "nft",
        rules if rules.startswith("delete") else f"add {rules}",
    )
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said


def play_with_a_stalled_stream(commit: str) -> Result:
    """One kill of a primary whose records have not reached the peer for a while."""
    healing: list[asyncio.Task[None]] = []

    async def stall(stage: Stage, node: str) -> None:
        begun = asyncio.Event()

        async def stand_still() -> None:
            async with _stalled(stage.topology.namespace(other(node))):
                begun.set()
                await stage.wait_until(lambda: bool(stage.faults), "the kill", 60)
                await asyncio.sleep(1.0)

        healing.append(asyncio.create_task(stand_still()))
        await begun.wait()
        await asyncio.sleep(STALL_S)

    scenario = Scenario(
        "stalled-kill",
        "a kill behind a stream that stands still",
        partial(kill_under_load.play, before_kill=stall),
    )
    return play(scenario, DrillOptions(seed=5, load=Load(connect_rate=500), commit=commit))


def test_what_emit_loses_behind_a_stalled_stream_is_named_by_the_last_word() -> None:
    result = play_with_a_stalled_stream("emit")
    [shown] = result.judgement.figures["rounds"]
    assert shown["lost"] > 0, "what was written and did not arrive is lost"
    assert shown["lost_announced"] == shown["lost"], result.to_json()
    assert shown["at_risk"] >= shown["lost"]
    assert result.passed, result.to_json()


def test_the_same_loss_under_ack_fails_the_drill_and_was_counted_as_fail_open() -> None:
    result = play_with_a_stalled_stream("ack")
    [shown] = result.judgement.figures["rounds"]
    assert shown["lost"] > 0
    assert shown["lost_announced"] == shown["lost"], result.to_json()
    assert shown["fail_open_released"] > 0
    assert not result.passed
