"""Samples in, one number out; and how long a fitter peer has to wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.fitness import DAMPED_FOR_NS, Advantage, Track, Tracks
from hasyncd.core.types import SECOND_NS, TrackSettings
from tests.core.messages import SETTINGS, ms

TRACKS = (TrackSettings("uplink", "gateway", 200, 2, 3), TrackSettings("disk", "command", 100, 1, 1))


@pytest.mark.parametrize(
    ("samples", "changes"),
    [
        ("bb", ""),
        ("bbb", "..b"),
        ("bbgbbgbb", ""),  # a good one starts the count anew
        ("bbbgg", "..b.g"),
        ("bbbgbgg", "..b...g"),  # and so does a bad one on the way back
    ],
)
def test_a_track_changes_with_a_row_of_samples(samples: str, changes: str) -> None:
    track = Track(TRACKS[0])
    seen = ""
    for sample in samples:
        changed = track.record(sample == "g", f"it is {sample}")
        seen += "." if not changed else "g" if track.good else "b"
    assert seen.rstrip(".") == changes
    assert track.why == ("" if track.good else "it is b")


def test_fitness_is_the_share_of_the_weights_that_are_good() -> None:
    tracks = Tracks(replace(SETTINGS, tracks=TRACKS))
    assert tracks.fitness == 1000
    assert tracks.record("disk", False, "full") is not None
    assert (tracks.fitness, tracks.failing()) == (666, "disk: full")
    for _ in range(3):
        tracks.record("uplink", False, "silent")
    assert tracks.fitness == 0
    assert tracks.cut_off is None


def test_without_a_lan_there_is_no_fitness_until_it_stays() -> None:
    tracks = Tracks(SETTINGS)
    assert tracks.fitness == 1000, "nothing is tracked, and nothing is wrong"
    assert tracks.record("outside", False, "down") is not None, "one sample is enough"
    assert (tracks.fitness, tracks.cut_off) == (0, "outside")
    for _ in range(4):
        assert tracks.record("outside", True, "up") is None
    assert tracks.record("outside", True, "up") is not None
    assert tracks.fitness == 1000


def test_a_track_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        Tracks(SETTINGS).record("uplink", True, "")


def test_an_advantage_has_to_last() -> None:
    advantage = Advantage(replace(SETTINGS, hold_down_ns=ms(400), wait_ns=ms(100)))
    assert advantage.lasts(ms(10), cut_off=False) == (False, False)
    assert advantage.deadline_ns == ms(410)
    assert advantage.lasts(ms(410), cut_off=False) == (True, False)
    assert advantage.deadline_ns is None
    advantage.forget()
    assert advantage.lasts(ms(500), cut_off=True) == (False, False)
    assert advantage.deadline_ns == ms(650), "dead_after"
    assert advantage.lasts(ms(650), cut_off=True) == (True, False)
    assert advantage.deadline_ns == ms(1000), "a peer that is not ready: hold-down and wait_ms"
    assert advantage.lasts(ms(1000), cut_off=True) == (True, True)


def test_each_hand_over_doubles_the_hold_down_for_a_while_and_up_to_a_limit() -> None:
    advantage = Advantage(SETTINGS)
    seen = []
    for number in range(9):
        seen.append(advantage.hold_down_ns(number * SECOND_NS, cut_off=False) // SECOND_NS)
        advantage.note_handover(number * SECOND_NS)
    assert seen == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert advantage.hold_down_ns(8 * SECOND_NS + DAMPED_FOR_NS, cut_off=False) == SECOND_NS
