"""proto/pair.md §4a: what is missing, and how that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.certificate import Mirror, certify, judge_missing
from tests.core.messages import a_beat

READY = Mirror(
    boot_id=0xA,
    generation=1,
    installed=100,
    flow_count=40,
    verdict=True,
    promised=100,
    synced=True,
    from_empty=False,
)
SYNCING = replace(READY, synced=False, verdict=None, from_empty=True)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ({"head_sequence": 100, "flow_count": 40, "at_risk": 3}, (0, "exact")),
        ({"head_sequence": 90, "flow_count": 40, "at_risk": 9}, (0, "exact")),
        ({"head_sequence": 107, "flow_count": 40, "at_risk": 9}, (7, "at_most")),
        ({"head_sequence": 107, "flow_count": 40, "at_risk": 3}, (3, "at_most")),
        ({"head_sequence": 107, "flow_count": 2, "at_risk": 9}, (2, "at_most")),
        ({"head_sequence": 107, "flow_count": 40, "at_risk": 0}, (0, "at_most")),
    ],
)
def test_who_was_ready_lacks_no_more_than_what_was_not_installed(
    said: dict[str, int], missing: tuple[int, str]
) -> None:
    assert judge_missing(READY, a_beat(**said)) == missing


@pytest.mark.parametrize(
    ("mirror", "said", "missing"),
    [
        (SYNCING, {"head_sequence": 100, "flow_count": 90}, 50),
        (SYNCING, {"head_sequence": 130, "flow_count": 90}, 80),
        (SYNCING, {"head_sequence": 190, "flow_count": 90}, 90),
        (SYNCING, {"head_sequence": 97, "flow_count": 90}, 53),  # three came after the word
        (SYNCING, {"head_sequence": 100, "flow_count": 10}, 0),
        (replace(SYNCING, from_empty=False), {"head_sequence": 100, "flow_count": 90}, 90),
        (SYNCING, {"boot_id": 0xC, "head_sequence": 100, "flow_count": 90}, 90),
    ],
)
def test_in_the_middle_of_a_full_sync_what_came_counts_if_nothing_older_can_be_among_it(
    mirror: Mirror, said: dict[str, int], missing: int
) -> None:
    assert judge_missing(mirror, a_beat(**said)) == (missing, "at_most")


def test_a_table_that_drifted_or_mirrors_another_log_is_not_believed() -> None:
    word = {"head_sequence": 100, "flow_count": 40, "at_risk": 1}
    assert judge_missing(replace(READY, verdict=False), a_beat(**word)) == (40, "at_most")
    assert judge_missing(READY, a_beat(**word, generation=2)) == (40, "at_most")
    assert judge_missing(READY, a_beat(**word, boot_id=0xC)) == (40, "at_most")


def test_without_a_word_only_what_the_stream_promised_is_known() -> None:
    assert judge_missing(READY, None) == (0, "exact")
    assert judge_missing(replace(READY, promised=101), None) == (None, "unknown")
    assert judge_missing(SYNCING, None) == (None, "unknown")


def test_only_an_exact_nothing_is_complete() -> None:
    assert certify(READY, a_beat(head_sequence=100)).complete
    late = certify(READY, a_beat(head_sequence=101, flow_count=41, at_risk=0))
    assert (late.flows_missing, late.complete) == (0, False), "a change of state, or an end, may be missing"
