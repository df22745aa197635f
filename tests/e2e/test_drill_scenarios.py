"""The other drills, small: a second kill, a transfer bit for bit, a planned change of roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import SMALL, hasyncd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def drill(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Runs one drill and returns what it wrote, its output added as `said`."""
    results = tmp_path / "out.json"
    done = hasyncd("drill", *words, "--json", str(results))
    assert results.exists(), done.stdout + done.stderr
    [result] = json.loads(results.read_text())
    return {**result, "said": done.stdout + done.stderr}


def test_returned_node_takes_over_in_its_turn(tmp_path: Path) -> None:
    result = drill(tmp_path, "double-kill", *SMALL)
    assert result["passed"], result["said"]
    assert any("ready as backup" in note for note in result["notes"])


def test_transfers_survive_bit_for_bit(tmp_path: Path) -> None:
    result = drill(tmp_path, "bulk", "--bulk-bytes", str(256 << 20))
    assert result["passed"], result["said"]
    assert result["flows"]["tcp"] == {"opened": 2, "survived": 2, "reset": 0, "stalled": 0, "remapped": 0}


def test_transfers_over_ipv6_survive_bit_for_bit(tmp_path: Path) -> None:
    result = drill(tmp_path, "bulk", "--bulk-bytes", str(128 << 20), "--ipv6", "100")
    assert result["passed"], result["said"]
    assert result["flows"]["tcp"]["survived"] == 2


def test_planned_change_loses_nothing(tmp_path: Path) -> None:
    """No flow and no datagram: the leaving node sends stragglers on (proto/pair.md §5a)."""
    result = drill(tmp_path, "switchover", *SMALL)
    assert result["passed"], result["said"]
    assert result["flows"]["udp"]["lost_datagrams"] == 0
    assert result["promoted_ms"] is not None


def test_planned_changes_under_load_lose_no_datagram(tmp_path: Path) -> None:
    """There and back, twice; 50,000 datagrams a second, or what the machine lets the sender make; bulk TCP beside."""
    result = drill(tmp_path, "switchover-under-load", "--kills", "4")
    assert result["passed"], result["said"]
    assert result["flood"]["lost"] == result["flows"]["udp"]["lost_datagrams"] == 0
    assert result["flood"]["sent"] > 10_000
    assert len(result["faults"]) == 4
    assert result["flows"]["udp"]["survived"] == 8
    assert result["flows"]["tcp"]["survived"] == 2


def test_flows_survive_beside_many_idle_ones(tmp_path: Path) -> None:
    result = drill(tmp_path, "kill-primary", *SMALL, "--background-flows", "5000")
    assert result["passed"], result["said"]
    assert any(note.startswith("5,000 idle flows in the background") for note in result["notes"])
    assert all(held >= 5000 for held in result["faults"][0]["flows_held"].values())
    assert sorted(result["faults"][0]["flows_held"]) == ["gw-a", "gw-b"]
    assert result["certificate"]["flows_held"] > 5000
