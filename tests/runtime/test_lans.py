"""What the two interfaces of the data path mean to the core."""

from __future__ import annotations

from hasyncd.core.fitness import LAN_RISE
from hasyncd.datapath.netlink import LinkState
from hasyncd.runtime.lans import Lans

INSIDE, OUTSIDE = 0, 1


class Heard:
    def __init__(self) -> None:
        self.samples: list[tuple[str, bool, str]] = []
        self.faults: list[str | None] = []
        self.lans = Lans(("eth1", "eth0"), lambda *sample: self.samples.append(sample), self.faults.append)


def test_a_lan_that_goes_down_is_told_at_once_and_is_no_fault() -> None:
    heard = Heard()
    heard.lans.start()
    heard.lans.changed(OUTSIDE, LinkState.DOWN)
    assert heard.samples == [("outside", False, "eth0 is down")]
    assert heard.faults == []


def test_a_lan_that_is_back_is_told_until_the_core_believes_it() -> None:
    heard = Heard()
    heard.lans.start()
    heard.lans.changed(OUTSIDE, LinkState.DOWN)
    heard.lans.changed(OUTSIDE, LinkState.UP)
    for _ in range(20):
        heard.lans.sample()
    assert heard.samples[1:] == LAN_RISE * [("outside", True, "eth0 is up")]


def test_neither_lan_is_a_fault_and_one_is_enough_to_end_it() -> None:
    heard = Heard()
    heard.lans.start()
    heard.lans.changed(INSIDE, LinkState.DOWN)
    heard.lans.changed(OUTSIDE, LinkState.DOWN)
    heard.lans.changed(INSIDE, LinkState.UP)
    assert heard.faults == ["neither eth1 nor eth0 is up", None]


def test_an_interface_that_is_gone_is_a_fault_for_good() -> None:
    heard = Heard()
    heard.lans.start()
    heard.lans.changed(INSIDE, LinkState.AWAY)
    heard.lans.changed(OUTSIDE, LinkState.DOWN)
    heard.lans.changed(OUTSIDE, LinkState.UP)
    assert heard.faults == ["interface eth1 is gone"]


def test_what_was_down_before_the_core_ran_is_told_when_it_runs() -> None:
    heard = Heard()
    heard.lans.changed(OUTSIDE, LinkState.DOWN)
    heard.lans.changed(INSIDE, LinkState.UP)
    assert heard.samples == []
    heard.lans.start()
    assert heard.samples == [("outside", False, "eth0 is down")]
