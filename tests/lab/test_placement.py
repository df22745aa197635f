"""Which flows may end with their backend, and which went where they must not."""

from __future__ import annotations

from typing import Any

from hasyncd.lab.judge import Exchange, FlowRecord
from hasyncd.lab.placement import Closed, Death, Placement

DIED, KNOWN = 10_000_000_000, 10_300_000_000


def flow(server: int | None, opened_ns: int = 1, **more: Any) -> FlowRecord:
    seen = () if server is None else ((opened_ns + 5, server, "203.0.113.100", 4000),)
    settings = {"flow": 1, "protocol": "tcp", "path": "lb", "group": "base", "seen": seen} | more
    return FlowRecord(opened_ns=opened_ns, exchanges=(Exchange(opened_ns, opened_ns + 5),), **settings)


def kept(placement: Placement, *records: FlowRecord) -> list[FlowRecord]:
    return list(placement.concern(records))


def test_who_was_led_to_the_dead_is_not_judged() -> None:
    placement = Placement(deaths=[Death(21, DIED, KNOWN)])
    with_it, other = flow(21, end_ns=DIED + 1, end_reason="ECONNRESET"), flow(22)
    in_vain = flow(None, DIED + 5, group="opened", end_ns=DIED + 6, end_reason="ECONNREFUSED")
    assert kept(placement, with_it, other, in_vain) == [other]
    assert (placement.apart, placement.apart_of_first) == (2, 1)
    assert kept(placement, with_it, other) == [other]
    assert placement.apart == 1, "each pass counts anew"


def test_what_had_ended_before_or_came_later_is_judged() -> None:
    placement = Placement(deaths=[Death(21, DIED, KNOWN)])
    judged = [
        flow(21, end_ns=DIED - 1, end_reason="ECONNRESET"),
        flow(21, KNOWN),
        flow(None, KNOWN, end_ns=KNOWN + 1, end_reason="ECONNREFUSED"),
        flow(None, DIED - 2_000_000_000),
        flow(50, path="nat"),
        flow(None, DIED + 5, path="nat"),
    ]
    assert kept(placement, *judged) == judged


def test_a_flow_that_was_moved_off_the_dead_is_judged() -> None:
    moved = flow(21, seen=((5, 21, "203.0.113.100", 4000), (DIED + 9, 22, "203.0.113.100", 4000)))
    assert kept(Placement(deaths=[Death(21, DIED, KNOWN)]), moved) == [moved]


def test_a_new_flow_to_who_may_get_none_speaks_against_us() -> None:
    placement = Placement(closed=[Closed(21, KNOWN, KNOWN + 100, "was drained")])
    assert len(kept(placement, flow(21), flow(21, KNOWN + 100), flow(22, KNOWN + 1))) == 3
    assert placement.failures == []
    kept(placement, flow(21, KNOWN), flow(21, KNOWN + 99), flow(21, KNOWN + 50, path="nat"))
    assert placement.failures == ["2 flows went to backend 21 although it was drained"]
