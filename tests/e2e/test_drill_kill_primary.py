"""`hasyncd drill`: the kill that every flow survives, and the one that shows that a drill can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.lab import SMALL, hasyncd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

KEYS = {
    "scenario",
    "passed",
    "seed",
    "engine",
    "system",
    "flows",
    "gap_ms",
    "at_risk_at_fault",
    "detected_ms",
    "promoted_ms",
    "certificate",
    "notes",
}
"""DESIGN §7."""


def test_every_flow_survives_a_kill(tmp_path: Path) -> None:
    results = tmp_path / "out.json"
    logs = tmp_path / "logs"
    done = hasyncd("drill", *SMALL, "--seed", "11", "--json", str(results), "--logs", str(logs))
    assert done.returncode == 0, done.stdout + done.stderr
    [drill] = json.loads(results.read_text())
    assert drill.keys() >= KEYS
    assert (drill["scenario"], drill["passed"], drill["seed"]) == ("kill-primary", True, 11)
    assert (drill["engine"], drill["system"]) == ("packet", "hasyncd")
    tcp, udp = drill["flows"]["tcp"], drill["flows"]["udp"]
    assert tcp["opened"] == tcp["survived"] > 40, "those that were opened through the kill are judged too"
    assert udp["opened"] == udp["survived"] > 20
    assert drill["paths"].keys() == {"lb", "nat", "lb6", "pass"}, "both families, balanced and passed"
    assert all(path["opened"] == path["survived"] > 5 for path in drill["paths"].values())
    assert tcp.keys() == {"opened", "survived", "reset", "stalled", "remapped"}
    assert udp.keys() == {"opened", "survived", "stalled", "remapped", "lost_datagrams"}
    assert drill["gap_ms"].keys() == {"p50", "p99", "max"}
    assert 0 < drill["detected_ms"] <= drill["promoted_ms"]
    assert drill["at_risk_at_fault"] is not None
    assert drill["certificate"]["complete"] is True
    assert "PASSED" in done.stdout
    assert "all " in done.stdout
    nodes = [(logs / "kill-primary" / f"{name}.log").read_text() for name in ("gw-a", "gw-b")]
    assert not any("insecure" in log or "unauthenticated" in log for log in nodes), "the pair has keys"


def test_every_flow_survives_without_keys_too(tmp_path: Path) -> None:
    done = hasyncd("drill", *SMALL, "--insecure", "--logs", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "insecure" in (tmp_path / "kill-primary" / "gw-a.log").read_text()


def test_without_sync_flows_are_lost_and_the_drill_says_so(tmp_path: Path) -> None:
    results = tmp_path / "out.json"
    done = hasyncd("drill", *SMALL, "--without-sync", "--json", str(results))
    assert done.returncode == 1, done.stdout + done.stderr
    [drill] = json.loads(results.read_text())
    assert drill["passed"] is False
    for row in drill["flows"].values():
        assert row["opened"] == sum(row[key] for key in row if key not in ("opened", "lost_datagrams"))
        assert row["survived"] < row["opened"]
    assert drill["flows"]["tcp"]["reset"] + drill["flows"]["tcp"]["stalled"] >= 40, (
        "no TCP flow is known to the backup"
    )
    assert drill["flows"]["udp"]["remapped"] > 0
    assert "FAILED" in done.stdout
    assert "were lost" in done.stdout
