"""Backends look dead when what clients meet says so, and never otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hasyncd.balance.passive import Counts, Deed, Finding, PassiveJudge
from hasyncd.config_health import Passive


def limits(window_s: int = 5, min_flows: int = 10, down_s: int = 7) -> Passive:
    return Passive(window_s=window_s, min_flows=min_flows, down_s=down_s)


class World:
    """One backend's counters, a second at a time."""

    def __init__(self, judge: PassiveJudge) -> None:
        self.judge, self.second, self.counts = judge, 0, Counts()
        judge.note(0, {1: self.counts})

    def pass_second(
        self, new: int = 0, unanswered: int = 0, refused: int = 0, resets: int = 0
    ) -> list[Finding]:
        self.second += 1
        self.counts = Counts(
            *(a + b for a, b in zip(self.counts, (new, unanswered, refused, resets + refused), strict=True))
        )
        return self.judge.note(self.second, {1: self.counts})


def test_connections_that_nobody_answers_are_suspicious_once() -> None:
    world = World(PassiveJudge(limits(), checked=True))
    assert world.pass_second(new=9, unanswered=9) == [], "too few to say anything"
    assert world.pass_second(new=1) == [
        Finding(1, Deed.SUSPECT, "9 connections unanswered, 10 opened within 5 s")
    ]
    assert world.pass_second() == []
    assert world.pass_second(new=10, refused=6)[0].reason == "6 connections refused, 10 opened within 5 s"


def test_resets_of_good_connections_are_no_refusals() -> None:
    world = World(PassiveJudge(limits(), checked=True))
    assert world.pass_second(new=20, resets=18) == []
    assert world.pass_second(new=0, resets=1)[0].reason == "19 connections reset, 20 opened within 5 s"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    world = World(PassiveJudge(limits(window_s=3), checked=True))
    assert world.pass_second(new=9, unanswered=9) == []
    for _ in range(3):
        assert world.pass_second() == []
    assert world.pass_second(new=10) == []


def test_who_has_no_checks_is_down_for_a_while_and_then_tried() -> None:
    world = World(PassiveJudge(limits(), checked=False))
    assert world.pass_second(new=10, refused=10) == [
        Finding(1, Deed.DOWN, "10 connections refused, 10 opened within 5 s")
    ]
    for _ in range(6):
        assert world.pass_second(resets=3) == [], "what old connections do now says nothing"
    assert world.pass_second() == [Finding(1, Deed.TRY, "tried again after 7 s")]
    assert world.pass_second(new=5, refused=5) == [], "it has to look dead anew"
    assert world.pass_second(new=5, refused=5)[0].deed is Deed.DOWN


def test_a_new_primary_tries_in_its_time_what_the_old_one_had_taken_down() -> None:
    judge = PassiveJudge(limits(), checked=False)
    judge.note(0, {1: Counts(), 2: Counts()})
    judge.assume_down(1, 0)
    assert [judge.note(second, {1: Counts(), 2: Counts()}) for second in range(1, 8)] == [[]] * 6 + [
        [Finding(1, Deed.TRY, "tried again after 7 s")]
    ]
    checked = PassiveJudge(limits(), checked=True)
    checked.assume_down(1, 0)
    assert checked.note(100, {1: Counts()}) == [], "its checks bring it back"


def test_somebody_new_at_a_place_begins_anew() -> None:
    judge = PassiveJudge(limits(), checked=True)
    judge.note(0, {1: Counts(1000, 0, 0, 0)})
    assert judge.note(1, {1: Counts(20, 20, 0, 0)}) == []
    assert judge.note(2, {1: Counts(40, 40, 0, 0)})[0].reason.startswith("20 connections unanswered, 20")
    judge.note(3, {})
    assert judge.note(4, {1: Counts(5000, 5000, 0, 0)}) == [], "the first look at somebody only begins"


seconds = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)), max_size=40
)


@given(seconds, st.integers(2, 6), st.integers(1, 60), st.booleans())
def test_it_agrees_with_the_sums_of_what_was_not_yet_used(
    happened: list[tuple[int, int, int, int]], window_s: int, min_flows: int, checked: bool
) -> None:
    """A plain model: all seconds since the last finding, the newest `window_s` of them."""
    rules = limits(window_s, min_flows, 3)
    world, since, down_until = World(PassiveJudge(rules, checked=checked)), list[tuple[int, ...]](), 0
    for place, (new, unanswered, refused, resets) in enumerate(happened, 1):
        found = world.pass_second(new, unanswered, refused, resets)
        since = [*since, (new, unanswered, refused, resets + refused)][-window_s:]
        if down_until:
            assert [each.deed for each in found] == ([Deed.TRY] if place >= down_until else [])
            if place >= down_until:
                since, down_until = [], 0
            continue
        opened, *bad = (sum(column) for column in zip(*since, strict=True))
        dead = opened >= min_flows and any(
            count > limit * opened
            for count, limit in zip(bad, (rules.unanswered, rules.refused, rules.resets), strict=True)
        )
        assert [each.deed for each in found] == ([Deed.SUSPECT if checked else Deed.DOWN] if dead else [])
        if dead:
            since = []
            down_until = 0 if checked else place + rules.down_s


@given(seconds)
def test_a_backend_that_answers_is_never_suspected(happened: list[tuple[int, int, int, int]]) -> None:
    """However its traffic comes: as long as at most half of each second's connections go wrong."""
    world = World(PassiveJudge(limits(min_flows=1), checked=True))
    for new, unanswered, refused, _ in happened:
        assert world.pass_second(new, min(unanswered, new // 2), min(refused, new // 2)) == []
