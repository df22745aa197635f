"""Growing counters become events, once for each time they grew."""

from __future__ import annotations

from hasyncd.runtime.alarms import WATCHED, Alarms


def test_a_grown_counter_is_told_once_with_its_growth() -> None:
    told: list[tuple[str, str]] = []
    alarms = Alarms(lambda name, text: told.append((name, text)))
    counters = dict.fromkeys([*WATCHED, "scrub_mismatches"], 0)
    alarms.look(counters, primary=True)
    assert told == []
    counters["drop_nat_exhausted"] = 7
    alarms.look(counters, primary=True)
    alarms.look(counters, primary=True)
    assert [name for name, _ in told] == ["drop_nat_exhausted"]
    assert told[0][1].startswith("7 more: ")


def test_every_watched_counter_exists_in_the_engine() -> None:
    from hasyncd.datapath.packet import Engine

    counters = Engine(capacity=16, seed=bytes(16)).counters()
    assert {*WATCHED, "scrub_mismatches"} <= set(counters)


def test_memory_that_is_not_what_was_written_is_told_by_whose_copy_it_is() -> None:
    told: list[tuple[str, str]] = []
    alarms = Alarms(lambda name, text: told.append((name, text)))
    for grown, primary in ((1, True), (3, False), (3, False)):
        alarms.look(dict.fromkeys(WATCHED, 0) | {"scrub_mismatches": grown}, primary=primary)
    assert [name for name, _ in told] == ["memory_corrupt"] * 2
    assert "its peer is given" in told[0][1]
    assert told[1][1].startswith("2 parts")
    assert "repairs" in told[1][1]
