"""The incumbent in the same lab: Debian's keepalived and conntrackd, configured by us, judged like us.

They have to be installed, and `tests/run e2e` installs them: without them these tests fail, they are not passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import SMALL, hasyncd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def drill(tmp_path: Path, *words: str) -> tuple[list[dict[str, Any]], str]:
    """Runs drills that end with exit code 0: the rows, and what was said."""
    results = tmp_path / "out.json"
    done = hasyncd("drill", *words, *SMALL, "--json", str(results))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return json.loads(results.read_text()), said


def daemons() -> list[str]:
    """keepalived and conntrackd that run for a lab on this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "/hasyncd-lab-run-" in line and ("keepalived" in line or "conntrackd" in line):
            found.append(line)
    return found


def test_incumbent_is_drilled_beside_us_and_drawn(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    words = ("node-dies", "--system", "hasyncd,incumbent", "--adverts-ms", "100", "--report", str(report))
    (ours, theirs), said = drill(tmp_path, *words)
    assert (ours["system"], theirs["system"], theirs["variant"]) == ("hasyncd", "incumbent", "adverts 100 ms")
    assert ours["passed"], said
    assert theirs["flows"]["tcp"]["opened"] >= 40
    assert theirs["flows"]["tcp"]["survived"] > 0, said
    assert theirs["promoted_ms"] is not None
    assert theirs["outage_ms"] > 200, "keepalived waits for three adverts"
    assert theirs["at_risk_at_fault"] is None, "it cannot say so"
    assert any(note.startswith("the node died: ") for note in theirs["notes"])
    for row in (ours, theirs):
        assert len(row["timeline"]["open"].split()) == len(row["timeline"]["silent"].split())
        assert max(map(int, row["timeline"]["silent"].split())) > 0
    page = report.read_text()
    assert "keepalived + conntrackd, adverts 100 ms" in page
    assert "gw-" in page
    assert not daemons()


def test_without_conntrackd_the_incumbent_loses_connections_and_that_is_not_our_failure(
    tmp_path: Path,
) -> None:
    words = ("--system", "incumbent", "--adverts-ms", "100", "--random-ports", "--without-sync")
    [row], _ = drill(tmp_path, "kill-primary", *words)
    assert row["variant"] == "adverts 100 ms, random ports, without conntrackd"
    assert row["passed"] is False
    lost = {
        name: count for name, count in row["losses"].items() if name.startswith("tcp") and " base" in name
    }
    assert sum(lost.values()) == 40, "every connection of before the fault"


def test_returned_node_is_a_backup_that_takes_over_in_its_turn(tmp_path: Path) -> None:
    [row], said = drill(tmp_path, "double-kill", "--system", "incumbent", "--adverts-ms", "100")
    first, second = row["faults"]
    assert {first["node"], second["node"]} == {"gw-a", "gw-b"}
    assert second["promoted_ms"] is not None, said


def test_planned_move_is_keepalived_stopped(tmp_path: Path) -> None:
    [row], said = drill(tmp_path, "switchover", "--system", "incumbent", "--adverts-ms", "100")
    assert row["promoted_ms"] is not None, said
    assert any("keepalived" in note for note in row["notes"])
