"""hasyncd.runtime.journal: what happened, for people and for followers."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from hasyncd.core.effects import ReportRole
from hasyncd.core.types import Certificate, Role
from hasyncd.runtime import journal as journal_module
from hasyncd.runtime.journal import Journal

PROMOTED = ReportRole(
    Role.BACKUP,
    Role.PRIMARY,
    7,
    "the primary's process is dead",
    Certificate(6, 1000, "match", 12, 0, "exact", True),
)


async def test_a_role_change_is_one_event_that_says_why() -> None:
    journal = Journal()
    journal.report_role(PROMOTED)
    journal.report_role(ReportRole(Role.PRIMARY, Role.FAULT, 7, "fault: interface inside is down"))
    promoted, fault = journal.recent
    moment = promoted.pop("time")
    assert datetime.fromisoformat(moment).utcoffset() is not None
    assert promoted == {
        "event": "role_changed",
        "previous": "backup",
        "role": "primary",
        "generation": 7,
        "reason": "the primary's process is dead",
        "certificate": {
            "generation": 6,
            "last_sequence": 1000,
            "digest": "match",
            "flows_held": 12,
            "flows_missing": 0,
            "flows_missing_is": "exact",
            "complete": True,
        },
    }
    assert (fault["role"], "certificate" in fault) == ("fault", False)


async def test_the_last_events_are_kept() -> None:
    journal = Journal()
    kept = journal_module._KEPT
    for number in range(kept + 100):
        journal.report_event("solo", str(number))
    assert [event["detail"] for event in journal.recent] == [str(number) for number in range(100, kept + 100)]
    journal.report_event("plain")
    assert "detail" not in journal.recent[-1]


async def test_followers_get_every_event_from_when_they_came() -> None:
    journal = Journal()
    journal.report_event("before")
    followers = [journal.follow(), journal.follow()]
    waiting = [asyncio.ensure_future(anext(follower)) for follower in followers]
    await asyncio.sleep(0)
    journal.report_event("first", "x")
    journal.report_event("second")
    for future, follower in zip(waiting, followers, strict=True):
        assert (await future)["event"] == "first"
        assert (await anext(follower))["event"] == "second"
        await follower.aclose()  # type: ignore[attr-defined]
    journal.report_event("to nobody")


async def test_a_follower_that_reads_too_slowly_is_told_how_many_it_lost() -> None:
    journal = Journal()
    follower = journal.follow()
    waiting = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    room = journal_module._FOLLOWER_BACKLOG
    for number in range(room + 25):
        journal.report_event("event", str(number))
    received = [await waiting]
    while received[-1]["event"] != "events_lost":
        received.append(await anext(follower))
    lost = received.pop()
    assert len(received) + lost["count"] == room + 25
    assert [event["detail"] for event in received] == [str(number) for number in range(len(received))]
    journal.report_event("after")
    assert (await anext(follower))["event"] == "after"
    await follower.aclose()  # type: ignore[attr-defined]


def test_what_an_operator_should_be_woken_for_is_an_error_in_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        journal = Journal()
        for name in ("promoted_incomplete", "commit_suspended", "peer_heard"):
            journal.report_event(name)
    assert [line["log_level"] for line in lines] == ["error", "warning", "info"]


async def test_a_follower_gets_what_is_kept_and_only_what_it_wants() -> None:
    journal = Journal()
    for name in ("path_down", "solo", "path_up"):
        journal.report_event(name)
    follower = journal.follow(lambda event: event["event"].startswith("path_"), kept=True)
    assert [(await anext(follower))["event"] for _ in range(2)] == ["path_down", "path_up"]
    for name in ("solo", "path_down"):
        journal.report_event(name)
    assert (await anext(follower))["event"] == "path_down"
    await follower.aclose()  # type: ignore[attr-defined]
    assert journal.counts == {"path_down": 2, "solo": 2, "path_up": 1}


async def test_role_changes_count_by_a_word_and_not_by_a_sentence_with_figures() -> None:
    journal = Journal()
    for silence in (151, 167):
        journal.report_role(
            ReportRole(Role.BACKUP, Role.PRIMARY, 7, f"the primary is silent for {silence} ms", None)
        )
    journal.report_role(ReportRole(Role.PRIMARY, Role.FAULT, 7, "fault: interface inside is down"))
    assert journal.role_changes == {("primary", "peer_silent"): 2, ("fault", "fault"): 1}
    assert journal.role_changed_s is not None
