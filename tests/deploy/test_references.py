"""deploy/metrics.md and deploy/events.md say what the program says, and it says nothing that they do not name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from hasyncd.core.election import Event
from hasyncd.core.handover import HANDOVER_REASONS
from hasyncd.runtime.alarms import WATCHED
from hasyncd.runtime.event_names import EVENTS, LOG_LINES
from hasyncd.runtime.metric_counters import COUNTERS, DROP_REASONS
from hasyncd.runtime.role_reasons import FAILOVERS, OTHER, REASONS, TO_PRIMARY, reason_word
from tests.deploy.make_references import DEPLOY, REFERENCES

PACKAGE: Final = Path(__file__).parents[2] / "hasyncd"
SAYING: Final = {"ReportEvent", "report_event", "_report_event", "_report", "_say", "_event", "tell"}
"""Calls whose first argument is an event's name."""
LOGGING: Final = {"info", "warning", "error", "exception"}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_is_as_the_program_would_write_it(name: str) -> None:
    assert (DEPLOY / name).read_text() == REFERENCES[name](), "python -m tests.deploy.make_references"


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """(file, what is called, the call) of core, runtime and balance."""
    for folder in ("core", "runtime", "balance", "datapath"):
        for file in sorted((PACKAGE / folder).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call):
                    called = node.func
                    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                    yield f"{folder}/{file.name}", name, node


def constants(argument: ast.expr) -> list[str]:
    """The strings that an argument may be, where it is written down as such."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    if isinstance(argument, ast.IfExp):
        return constants(argument.body) + constants(argument.orelse)
    return []


def test_every_event_that_is_said_is_in_the_list_and_every_listed_one_is_said() -> None:
    said = {
        name
        for _, called, call in calls()
        if called in SAYING and call.args
        for name in constants(call.args[0])
    }
    # Names that reach `ReportEvent` in a variable, each from the line before it.
    chosen = {"track_failed", "track_recovered", "vip_conflict", "vip_still_owned"}
    for file, name in (("giving_way.py", "track_failed"), ("alone.py", "vip_still_owned")):
        assert f'"{name}"' in (PACKAGE / "core" / file).read_text()
    assert said | chosen | WATCHED.keys() == EVENTS.keys()


def test_every_line_of_the_log_is_in_the_list() -> None:
    logged = {
        name
        for _, called, call in calls()
        if called in LOGGING and call.args and getattr(getattr(call.func, "value", None), "id", "") == "_log"
        for name in constants(call.args[0])
    }
    assert logged == LOG_LINES.keys()


def test_what_is_watched_is_counted() -> None:
    drops = {f"drop_{reason}" for reason in DROP_REASONS}
    assert WATCHED.keys() <= drops | COUNTERS.keys()


def test_every_reason_for_a_role_has_a_word() -> None:
    sentences = set(HANDOVER_REASONS.values())
    sentences |= {event.value for event in Event if event.value.startswith("listen ended")}
    for _, called, call in calls():
        place = {"_promote": 1, "_report": 1}.get(called)
        if place is not None and len(call.args) > place:
            first, reason = call.args[0], call.args[place]
            if called == "_promote" or isinstance(first, (ast.Attribute, ast.Name)):
                sentences.update(constants(reason))
    assert {"the primary's process is dead", "nobody leads", "an operator forced it"} <= sentences
    assert {sentence for sentence in sentences if reason_word(sentence) == OTHER} == set()
    assert reason_word("the primary is silent for 151 ms") == "peer_silent"
    assert set(FAILOVERS) <= set(TO_PRIMARY) <= REASONS.keys()
