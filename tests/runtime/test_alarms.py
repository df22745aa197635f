"""Growing counters become events, once for each time they grew."""

from __future__ import annotations

from hasyncd.runtime.alarms import WATCHED, Alarms


def test_a_grown_counter_is_told_once_with_its_growth() -> None:
    told: list[tuple[str, str]] = []
    alarms = Alarms(lambda name, text: told.append((name, text)))
    counters = dict.fromkeys(WATCHED, 0)
    alarms.look(counters)
    assert told == []
    counters["drop_nat_exhausted"] = 7
    alarms.look(counters)
    alarms.look(counters)
    assert [name for name, _ in told] == ["drop_nat_exhausted"]
    assert told[0][1].startswith("7 more: ")


def test_every_watched_counter_exists_in_the_engine() -> None:
    from hasyncd.datapath.packet import Engine

    counters = Engine(capacity=16, seed=bytes(16)).counters()
    assert set(WATCHED) <= set(counters)
