"""Two capabilities are all that a node needs: NET_ADMIN and NET_RAW, as the unit and the image give them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.world import until, world

pytestmark = pytest.mark.e2e

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
ONLY = "-all,+net_admin,+net_raw"
CONFINED = ("setpriv", "--no-new-privs", f"--bounding-set={ONLY}", f"--inh-caps={ONLY}")


def capabilities(process: int) -> dict[str, int]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


def test_a_pair_with_two_capabilities_forwards_and_takes_over() -> None:
    """What it has to do without, its scheduling priority, it says; nothing else is missing."""
    with world() as made:
        for gateway in (made.a, made.b):
            gateway.start(confined=CONFINED)
            assert gateway.process
        pair = (made.a, made.b)
        until(lambda: sorted(str(g.status["role"]) for g in pair) == ["backup", "primary"], "a pair")
        victim, heir = sorted(pair, key=lambda gateway: gateway.status["role"] != "primary")
        made.wait_traffic()
        for gateway in (made.a, made.b):
            assert gateway.process
            held = capabilities(gateway.process.pid)
            assert held["CapEff"] == held["CapPrm"] == held["CapBnd"] == NET_ADMIN | NET_RAW
            events = [json.loads(line) for line in gateway.log.splitlines()]
            assert "priority_kept" in {event["event"] for event in events}
            wanting = [e for e in events if e["level"] in ("warning", "error") and e["event"] != "insecure"]
            assert [e["event"] for e in wanting if "permitted" in str(e)] == []
            assert "no_memory_keeper" not in {event["event"] for event in events}
        until(lambda: heir.status["sync"]["state"] == "ready", "the pair is in step")
        port = made.public_port
        victim.kill()
        heir.wait_role("primary")
        made.wait_traffic()
        assert made.public_port == port
