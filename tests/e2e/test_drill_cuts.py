"""The drills of cuts, losses, stops and stepped clocks, small; and what they say where they have to fail."""

from __future__ import annotations

import dataclasses

import pytest

from hasyncd.lab.drill import DrillOptions
from hasyncd.lab.scenarios import SCENARIOS, Scenario, one_way_cut, stop_cont
from tests.e2e.lab import play, small

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_ONE_OF_EACH = tuple({cut.brings: cut for cut in one_way_cut.CUTS}.values())


def shorter(name: str) -> Scenario:
    """As `hasyncd drill` plays it, but for what takes long."""
    scenario = SCENARIOS[name]
    if name == "stop-cont":
        return dataclasses.replace(scenario, play=stop_cont.acts(0.2, 2))
    if name == "one-way-cut":
        return dataclasses.replace(scenario, play=one_way_cut.acts(_ONE_OF_EACH))
    return scenario


def options(**chosen: bool) -> DrillOptions:
    return DrillOptions(seed=3, load=small(100, 50), **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "sync-link-cut",
        "lan-cut",
        "one-way-cut",
        "split-and-heal",
        "sync-loss",
        "garp-lost",
        "stop-cont",
        "clock-step",
    ],
)
def test_the_pair_keeps_its_promise(name: str) -> None:
    result = play(shorter(name), options())
    assert result.passed, (result.failures, result.notes, result.judgement.losses)
    assert result.judgement.tcp.opened >= 100
    assert result.judgement.udp.opened >= 50
    assert result.requirements > 0 or name == "garp-lost"


def test_a_cut_of_the_sync_link_is_found_where_no_other_path_is() -> None:
    """Without keys there are no heartbeats on the LANs: the primary acts alone, and a pair that says so has not been
    left in peace."""
    result = play(SCENARIOS["sync-link-cut"], options(insecure=True))
    assert not result.passed
    assert any("saw the paths as {'sync': False}" in failure for failure in result.failures), result.failures


def test_a_stop_without_sync_is_found() -> None:
    result = play(
        dataclasses.replace(SCENARIOS["stop-cont"], play=stop_cont.acts(2)), options(sync_enabled=False)
    )
    assert not result.passed
    assert result.judgement.lost > 100
