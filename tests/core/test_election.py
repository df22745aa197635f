"""The role machine against its table: every legal step, every illegal one, and the judgement of `init`."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasyncd.core.election import TRANSITIONS, Election, Event, judge_listening
from hasyncd.core.types import Role
from tests.core.messages import a_beat

PATHS = {
    Role.INIT: [],
    Role.BACKUP: [Event.HEARD_PRIMARY],
    Role.PRIMARY: [Event.LISTENED_ALONE],
    Role.FAULT: [Event.FAULT],
}


def an_election(role: Role) -> Election:
    election = Election(4)
    for event in PATHS[role]:
        assert election.step(event) is not None
    assert election.role is role
    return election


@pytest.mark.parametrize(("role", "event"), TRANSITIONS, ids=lambda value: value.name)
def test_every_row_of_the_table_is_taken(role: Role, event: Event) -> None:
    election = an_election(role)
    outcome = election.step(event)
    assert outcome == TRANSITIONS[role, event]
    assert election.role is TRANSITIONS[role, event].role


@pytest.mark.parametrize(
    ("role", "event"),
    [pair for pair in itertools.product(Role, Event) if pair not in TRANSITIONS],
    ids=lambda value: value.name,
)
def test_an_event_without_a_row_changes_nothing(role: Role, event: Event) -> None:
    election = an_election(role)
    assert election.step(event) is None
    assert (election.role, election.generation) == (role, 4)


@given(st.lists(st.sampled_from(Event), max_size=30), st.lists(st.integers(0, 2**40), max_size=5))
def test_a_promotion_is_said_how_and_nothing_else_is(events: list[Event], heard: list[int]) -> None:
    election = Election(0)
    for event in events:
        outcome = election.step(event)
        assert outcome is None or (outcome.role is Role.PRIMARY) is (outcome.solo is not None)
    for generation in heard:
        election.hear(generation)
    assert election.next_generation() == max([0, *heard]) + 1


def test_the_next_generation_is_above_everything_heard() -> None:
    election = Election(5)
    election.hear(9)
    election.hear(2)
    assert election.generation == 5, "hearing is not taking"
    assert election.next_generation() == 10
    assert not election.adopt(10)
    assert election.adopt(12)
    assert election.next_generation() == 13


OWN = (5, 100, "gw-b")


@pytest.mark.parametrize(
    ("peer", "acts_alone", "event"),
    [
        (None, True, Event.LISTENED_ALONE),
        (None, False, Event.LISTENED_UNSURE),
        (a_beat(role=Role.INIT, generation=4, priority=255), True, Event.LISTENED_RANKED_HIGHER),
        (a_beat(role=Role.INIT, generation=6, priority=1), True, Event.LISTENED_RANKED_LOWER),
        (a_beat(role=Role.INIT, generation=5, priority=99), True, Event.LISTENED_RANKED_HIGHER),
        (a_beat(role=Role.INIT, generation=5, priority=101), True, Event.LISTENED_RANKED_LOWER),
        (a_beat(role=Role.INIT, generation=5, priority=100), True, Event.LISTENED_RANKED_HIGHER),
        (a_beat(role=Role.BACKUP, generation=1), True, Event.LISTENED_RANKED_LOWER),
        (a_beat(role=Role.BACKUP, generation=1, leaving=True), True, Event.LISTENED_PEER_LEFT),
        (a_beat(role=Role.PRIMARY, leaving=True), False, Event.LISTENED_PEER_LEFT),
        (a_beat(role=Role.FAULT, leaving=True), False, Event.LISTENED_PEER_LEFT),
        (a_beat(role=Role.PRIMARY, generation=1), True, Event.HEARD_PRIMARY),
    ],
)
def test_the_end_of_listening(peer: object, acts_alone: bool, event: Event) -> None:
    assert judge_listening(OWN, peer, acts_alone=acts_alone) is event  # type: ignore[arg-type]
