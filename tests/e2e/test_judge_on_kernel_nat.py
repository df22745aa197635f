"""The judge is proven on a pair that is known to lose: kernel NAT whose conntrack dies with the gateway.

Without a fault nothing may be called lost; after a kill every NAT flow has to be (nftables chooses ports at
random, so that a port never comes back by luck), and about half of the balanced ones (two backends, by lot).
"""

from __future__ import annotations

import pytest

from hasyncd.lab.drill import DrillOptions
from hasyncd.lab.judge import Verdict
from hasyncd.lab.kernel_pair import KernelPair
from hasyncd.lab.scenarios import SCENARIOS, Scenario
from hasyncd.lab.stage import Stage
from tests.e2e.lab import play, small

pytestmark = pytest.mark.e2e


async def _no_fault(stage: Stage) -> None:
    await stage.open_flows()
    await stage.run_for(0.5)
    await stage.until_proven(stage.mark_fault("gw-a"))


def test_without_a_fault_every_flow_survives() -> None:
    quiet = Scenario(
        "no-fault", "marks a moment at which nothing happens", _no_fault, datagrams_may_be_lost=False
    )
    result = play(quiet, DrillOptions(seed=1, load=small(ipv6=0)), KernelPair)
    assert result.passed, result.to_json()
    shown = result.to_json()
    assert shown["flows"]["tcp"]["survived"] >= 40
    assert shown["flows"]["udp"]["survived"] >= 20
    assert shown["flows"]["udp"]["lost_datagrams"] == 0
    assert result.judgement.opened_during_run > 0


def test_kill_without_synchronisation_is_seen_as_loss() -> None:
    result = play(SCENARIOS["kill-primary"], DrillOptions(seed=2, load=small(ipv6=0)), KernelPair)
    assert not result.passed
    losses = result.judgement.losses
    broken = sum(count for name, count in losses.items() if name.startswith("tcp nat base"))
    moved = sum(count for name, count in losses.items() if name.startswith(("udp nat base", "udp nat probe")))
    assert broken == 20, f"every TCP flow through NAT has lost its port: {losses}"
    assert moved == 10, f"every UDP flow through NAT comes from another port: {losses}"
    assert not any("survived" in name for name in losses)
    balanced = result.judgement.udp.verdicts[Verdict.REMAPPED] - moved
    assert balanced > 0, f"some balanced UDP flows meet the other backend: {losses}"
    assert result.judgement.udp.lost_datagrams > 0
    assert (result.judgement.outage_ns or 0) > 150_000_000, "the script takes over after 200 ms"


def test_transfer_through_a_killed_gateway_is_lost() -> None:
    result = play(
        SCENARIOS["bulk"], DrillOptions(seed=3, load=small(ipv6=0), bulk_bytes=256 << 20), KernelPair
    )
    assert not result.passed
    assert result.judgement.tcp.opened == 2
    assert any(name.startswith("bulk on host-7: ") for name in result.judgement.losses)
