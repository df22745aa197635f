"""`hasyncd explain` on a real pair: what both nodes foretell of a connection is what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hasyncd.lab.lock import read_kept_lab
from tests.e2e.lab import hasyncd, leftovers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ASK = """
import http.client
asked = http.client.HTTPConnection({vip!r}, 80, timeout=20, source_address=({client!r}, {sport}))
asked.request("GET", "/")
print(asked.getresponse().read().decode())
"""
ENDS = {
    4: ("203.0.113.100", "203.0.113.5"),
    6: ("2001:db8:2::100", "2001:db8:2::5"),
}


def explained(node: str, client: str, sport: int, vip: str, dport: int = 80) -> dict[str, Any]:
    ends = (
        (f"[{client}]:{sport}", f"[{vip}]:{dport}") if ":" in vip else (f"{client}:{sport}", f"{vip}:{dport}")
    )
    done = hasyncd("explain", *ends, "tcp", "--node", node, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def in_order() -> tuple[str, str]:
    """Primary and backup: whoever listened first leads."""
    status = hasyncd("status", "--node", "gw-a", "--json")
    assert status.returncode == 0, status.stderr
    return ("gw-a", "gw-b") if json.loads(status.stdout)["role"] == "primary" else ("gw-b", "gw-a")


def test_both_nodes_foretell_where_a_connection_is_led() -> None:
    up = hasyncd("lab", "up")
    assert up.returncode == 0, up.stderr
    lab = read_kept_lab()
    assert lab is not None
    try:
        primary, backup = in_order()
        for client, vip in ENDS.values():
            for sport in range(41000, 41004):
                foretold = explained(primary, client, sport, vip)
                assert (foretold["verdict"], foretold["forwards"]) == ("new_flow", True), foretold
                script = ASK.format(vip=vip, client=client, sport=sport)
                said = hasyncd("lab", "shell", "client", "python3", "-c", script)
                assert said.returncode == 0, said.stderr
                backend = foretold["service"]["backend"]
                assert f"server {backend['id']} saw " in said.stdout, said.stdout
                live = explained(primary, client, sport, vip)
                there = explained(backup, client, sport, vip)
                assert (live["verdict"], there["verdict"], there["forwards"]) == ("flow", "flow", False)
                assert live["flow"]["backend"]["id"] == there["flow"]["backend"]["id"] == backend["id"]
                assert not live["fresh_differs"]
            nowhere = explained(primary, client, 41000, vip, 4711)
            assert (nowhere["verdict"], nowhere["dropped"]) == ("drop", "no_rule")
    finally:
        down = hasyncd("lab", "down")
    assert down.returncode == 0, down.stderr
    assert leftovers(lab.lab_id) == []
