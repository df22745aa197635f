"""hasyncd.runtime.event_listing: what is kept, what follows, and requests that are no good."""

from __future__ import annotations

from typing import Any

import pytest

from hasyncd.runtime.control_server import Conclusion
from hasyncd.runtime.event_listing import events
from hasyncd.runtime.journal import Journal


def journal() -> Journal:
    made = Journal()
    for name in ("path_down", "solo", "path_up"):
        made.report_event(name)
    made.recent[0]["time"] = "2026-01-02T03:04:05.000+00:00"  # long ago
    return made


async def listed(made: Journal, **request: Any) -> list[str]:
    return [event["event"] async for event in events(made, {"verb": "events", "follow": False, **request})]


async def test_what_is_kept_by_time_and_by_name() -> None:
    made = journal()
    assert await listed(made) == ["path_down", "solo", "path_up"]
    assert await listed(made, since_s=3600) == ["solo", "path_up"]
    assert await listed(made, types=["path_*"]) == ["path_down", "path_up"]
    assert await listed(made, types=["path_*", "solo"], since_s=3600) == ["solo", "path_up"]


async def test_followers_begin_with_what_is_kept_only_where_they_ask_for_it() -> None:
    made = journal()
    with_past, without = events(made, {"since_s": 3600}), events(made, {"types": ["slept"]})
    assert [(await anext(with_past))["event"] for _ in range(2)] == ["solo", "path_up"]
    waiting = anext(without)
    step = waiting.__await__()
    next(step)  # it follows now
    made.report_event("solo")
    made.report_event("slept")
    assert (await anext(with_past))["event"] == "solo"
    assert [follower.queue.qsize() for follower in made._followers if follower.queue.qsize()] == [1, 1]
    step.close()
    await with_past.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "request_",
    [{"types": "solo"}, {"types": [1]}, {"types": ["nonsense"]}, {"types": ["solo"] * 65}, {"since_s": "1h"},
     {"since_s": -1}, {"since_s": True}, {"since_s": float("nan")}],
)  # fmt: skip
async def test_a_bad_request_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(Conclusion) as refused:
        await listed(journal(), **request_)
    assert refused.value.exit_code == 2
