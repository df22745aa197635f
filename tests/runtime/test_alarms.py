"""Growing counters become events, once for each time they grew."""

from __future__ import annotations

from hasyncd.runtime.alarms import WATCHED, Alarms

COMMIT = {"commit_suspensions": 0, "commit_suspended_now": 0, "commit_now": 2}


def test_a_grown_counter_is_told_once_with_its_growth() -> None:
    told: list[tuple[str, str]] = []
    alarms = Alarms(lambda name, text: told.append((name, text)))
    counters = dict.fromkeys(WATCHED, 0) | COMMIT
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
    assert set(WATCHED) | set(COMMIT) <= set(counters)


def told_of(*looks: tuple[int, int, int]) -> list[list[str]]:
    """Events of each look at (commit_suspensions, commit_suspended_now, commit_now)."""
    told: list[str] = []
    alarms, events = Alarms(lambda name, _: told.append(name)), []
    for look in looks:
        alarms.look(dict.fromkeys(WATCHED, 0) | dict(zip(COMMIT, look, strict=True)))
        events.append(told.copy())
        told.clear()
    return events


def test_a_slow_peer_is_told_when_it_begins_and_when_it_is_over() -> None:
    assert told_of((0, 0, 2), (1, 1, 2), (1, 1, 2), (1, 0, 2), (1, 0, 2)) == [
        [], ["commit_suspended"], [], ["commit_resumed"], [],
    ]  # fmt: skip


def test_what_was_over_before_anybody_looked_is_told_too() -> None:
    assert told_of((1, 0, 2), (1, 0, 2)) == [["commit_suspended"], ["commit_resumed"]]


def test_a_peer_that_is_slow_again_and_again_is_told_once() -> None:
    assert told_of((1, 0, 2), (7, 0, 2), (9, 1, 2), (9, 0, 2)) == [
        ["commit_suspended"], [], [], ["commit_resumed"],
    ]  # fmt: skip


def test_where_nothing_is_held_any_more_nothing_is_called_resumed() -> None:
    assert told_of((1, 1, 2), (1, 0, 0), (1, 0, 2)) == [["commit_suspended"], [], []]
