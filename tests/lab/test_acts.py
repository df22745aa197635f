"""What drills of cuts and stops require, on what nodes said and bridges saw: each requirement can fail."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, cast

import pytest

from hasyncd.lab.acts import Events, Roll, require_owner, require_unmoved, require_whole
from hasyncd.lab.crew import Load
from hasyncd.lab.report import Silent
from hasyncd.lab.scenarios.stop_cont import BATCH, judge_tap
from hasyncd.lab.stage import Stage
from hasyncd.lab.tap import Sighting

MS = 1_000_000
STOPPED, LEASE, WOKEN = 1000 * MS, 120 * MS, 3000 * MS


class Recorded:
    """Two nodes as their statuses and logs were."""

    engine = "packet"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in ("gw-a", "gw-b"):
            self.log_file(name).touch()
        self.statuses: dict[str, dict[str, Any] | None] = {
            "gw-a": status("primary"),
            "gw-b": status("backup"),
        }

    def log_file(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def say(self, name: str, **said: str) -> None:
        with self.log_file(name).open("a") as log:
            log.write(json.dumps({"event": "role_changed", **said}) + "\n")

    async def status(self, name: str) -> dict[str, Any] | None:
        return self.statuses[name]


def status(role: str, generation: int = 1, state: str = "ready", up: bool = True) -> dict[str, Any]:
    return {
        "role": role,
        "generation": generation,
        "last_change": "a reason",
        "sync": {"state": state, "digest_match": True},
        "peer": {"paths": [{"name": "sync", "up": up}]},
    }


@pytest.fixture
def pair(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def stage_of(pair: Recorded) -> Stage:
    nowhere = cast(Any, None)
    return Stage(nowhere, cast(Any, pair), nowhere, Load(), random.Random(1), Silent(), 0)


def roll_of(pair: Recorded) -> Roll:
    return Roll("gw-a", cast(Any, dict(pair.statuses)), Events(cast(Any, pair)))


def test_a_promotion_that_was_taken_back_is_found(pair: Recorded) -> None:
    stage, before = stage_of(pair), roll_of(pair)
    asyncio.run(require_unmoved(stage, before, "meanwhile"))
    assert stage.failures == []
    pair.say("gw-b", role="primary", reason="the primary is silent")
    asyncio.run(require_unmoved(stage, before, "meanwhile"))
    assert stage.failures == ["meanwhile, gw-b promoted (the primary is silent)"]


def test_a_grown_generation_is_a_promotion(pair: Recorded) -> None:
    stage, before = stage_of(pair), roll_of(pair)
    pair.statuses["gw-a"] = status("primary", generation=2)
    asyncio.run(require_unmoved(stage, before, "meanwhile"))
    [failure] = stage.failures
    assert failure == "meanwhile, gw-a went from primary of generation 1 to primary of 2: a reason"


@pytest.mark.parametrize(
    "other", [status("primary"), status("backup", state="degraded"), status("backup", up=False)]
)
def test_a_pair_that_is_not_whole_is_found(
    pair: Recorded, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, before = stage_of(pair), roll_of(pair)
    assert asyncio.run(require_whole(stage, before, "afterwards"))
    monkeypatch.setattr("hasyncd.lab.acts.WHOLE_WITHIN_S", 0.1)
    pair.statuses["gw-b"] = other
    assert not asyncio.run(require_whole(stage, before, "afterwards"))
    assert stage.failures[0].startswith("afterwards, the pair did not become whole")


def test_the_wrong_owner_and_two_owners_are_found(pair: Recorded) -> None:
    stage = stage_of(pair)
    asyncio.run(require_owner(stage, "gw-a", "now"))
    assert stage.failures == []
    asyncio.run(require_owner(stage, "gw-b", "now"))
    assert stage.failures == ["now, gw-b should be the one primary; gw-a is primary, gw-b is backup"]
    pair.statuses["gw-b"] = status("primary")
    asyncio.run(require_owner(stage, "gw-b", "now"))
    assert len(stage.failures) == 2


# --- stop-cont ---------------------------------------------------------------------------------------


def judged(pair: Recorded, *seen: Sighting, promoted: bool = True) -> list[str]:
    stage, before = stage_of(pair), roll_of(pair)
    if promoted:
        pair.say("gw-b", role="primary", reason="silence")
    judge_tap(stage, before, list(seen), STOPPED, WOKEN, LEASE)
    return stage.failures


def frames(count: int, at_ms: int, kind: str = "IPv4") -> list[Sighting]:
    return [Sighting(at_ms * MS, "inside", kind, "10.0.1.1")] * count


def test_a_fenced_node_may_send_the_batch_that_was_in_flight(pair: Recorded) -> None:
    assert judged(pair, *frames(50, 900), *frames(BATCH, 3001)) == []


def test_one_frame_more_is_too_many(pair: Recorded) -> None:
    [failure] = judged(pair, *frames(BATCH + 1, 3001))
    assert failure.startswith("gw-a woke without a lease, and the bridges saw it send 65 frames")


def test_one_arp_answer_is_too_many(pair: Recorded) -> None:
    assert "1 ARP 10.0.1.1 (inside)" in judged(pair, *frames(1, 3500, "ARP"))[0]


def test_a_stopped_node_that_sends_is_found(pair: Recorded) -> None:
    assert judged(pair, *frames(1, 1500)) == [
        "gw-a stood still, and the bridges saw it send 1 IPv4 10.0.1.1 (inside)"
    ]


def test_under_tc_the_kernel_forwards_until_the_lease_ends(pair: Recorded) -> None:
    pair.engine = "tc"
    assert judged(pair, *frames(100, STOPPED // MS + 1)) == []
    assert judged(pair, *frames(1, (STOPPED + LEASE) // MS + 1)) == [
        "gw-a stood still, and the bridges saw it send 1 IPv4 10.0.1.1 (inside)"
    ]


def test_a_node_that_nobody_replaced_goes_on(pair: Recorded) -> None:
    assert judged(pair, *frames(1000, 3001), promoted=False) == []
