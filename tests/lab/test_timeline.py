"""The series of a drill, step by step, from records made by hand."""

from __future__ import annotations

from hasyncd.lab.judge import CLOSED, Exchange, FlowRecord
from hasyncd.lab.timeline import PATIENCE_NS, Timeline, transfer_json, waits

MS = 1_000_000
FAULT = 10_000 * MS
END = 14_000 * MS


def flow(
    *exchanges: tuple[int, int | None],
    opened: int = 9_000,
    end: tuple[int, str] | None = None,
    seen: tuple[int, ...] = (9_001,),
    protocol: str = "udp",
) -> FlowRecord:
    """Moments in ms; every moment in `seen` is another far end."""
    asked = tuple(
        Exchange(sent * MS, None if answered is None else answered * MS) for sent, answered in exchanges
    )
    far_ends = tuple((moment * MS, place, "10.0.1.21", 80) for place, moment in enumerate(seen))
    ended = (None, None) if end is None else (end[0] * MS, end[1])
    return FlowRecord(1, protocol, "nat", "base", opened * MS, asked, far_ends, *ended)


def series(*records: FlowRecord) -> dict[str, list[int]]:
    timeline = Timeline(FAULT, END)
    assert list(timeline.watch(records)) == list(records)
    return {
        name: list(map(int, text.split()))
        for name, text in timeline.to_json().items()
        if isinstance(text, str)
    }


def at(values: list[int], milliseconds: int) -> int:
    """At a moment after the fault: steps of 10 ms from 2 s before it."""
    return values[(milliseconds + 2_000) // 10]


STEADY = tuple((moment, moment + 1) for moment in range(9_000, 14_000, 100))


def test_flow_that_is_answered_lives_and_counts_its_answers() -> None:
    shown = series(flow(*STEADY))
    assert [at(shown["open"], when) for when in (-1_500, -999, 0, 3_999)] == [0, 1, 1, 1]
    assert not any(shown["silent"] + shown["remapped"] + shown["dead"])
    assert sum(shown["udp_answers"]) == len(STEADY)
    assert at(shown["udp_answers"], 100) == 1
    assert not any(shown["tcp_answers"])


def test_flow_is_silent_from_its_patience_until_any_answer() -> None:
    shown = series(flow((9_990, 9_991), (10_100, None), (10_250, 10_251), (10_350, 10_351), *STEADY[20:]))
    # Asked at 100 ms, heard at 251 ms.
    assert [at(shown["silent"], when) for when in (100, 140, 150, 250, 260)] == [0, 0, 1, 1, 0]


def test_short_wait_is_no_silence() -> None:
    assert not any(
        series(flow((10_000, 10_000 + PATIENCE_NS // MS), opened=10_000, end=(10_100, CLOSED)))["silent"]
    )


def test_flow_that_is_never_answered_again_stays_silent() -> None:
    shown = series(flow((9_990, 9_991), (10_000, None), (10_100, None)))
    assert at(shown["silent"], 3_990) == 1
    assert at(shown["open"], 3_990) == 1


def test_connection_that_does_not_come_about_is_silent_from_its_opening() -> None:
    shown = series(flow((11_010, 11_020), opened=10_000, seen=(11_020,), protocol="tcp"))
    assert [at(shown["silent"], when) for when in (40, 50, 1_010, 1_020)] == [0, 1, 1, 0]


def test_remapped_flow_counts_once_and_never_while_it_is_silent() -> None:
    shown = series(flow(*STEADY[:20], (11_000, None), (11_500, 11_501), *STEADY[26:], seen=(9_001, 10_501)))
    assert [at(shown["remapped"], when) for when in (490, 520, 1_040, 1_060, 1_510)] == [0, 1, 1, 0, 1]
    assert [at(shown["silent"], when) for when in (1_040, 1_060, 1_510)] == [0, 1, 0]


def test_reset_flow_is_dead_to_the_end_and_a_closed_one_is_gone() -> None:
    shown = series(
        flow(*STEADY[:15], end=(10_500, "ECONNRESET"), protocol="tcp"),
        flow(*STEADY[:15], end=(10_500, CLOSED)),
    )
    assert [at(shown["open"], when) for when in (0, 490, 500, 3_000)] == [2, 2, 1, 1]
    assert [at(shown["dead"], when) for when in (490, 500, 3_000)] == [0, 1, 1]
    assert not any(shown["silent"][: 2_000 // 10 + 40])


def test_states_never_add_up_to_more_than_there_is() -> None:
    shown = series(
        flow(*STEADY, seen=(9_001, 10_200, 10_900)),
        flow((9_990, 9_991), (10_000, None), end=(12_000, "ETIMEDOUT"), protocol="tcp"),
        flow(opened=10_050, seen=(), protocol="tcp"),
    )
    for open_, *others in zip(*(shown[name] for name in ("open", "silent", "remapped", "dead")), strict=True):
        assert min(open_, *others) >= 0
        assert sum(others) <= open_


def test_long_run_gets_longer_steps_that_still_meet_the_fault() -> None:
    shown = Timeline(FAULT, FAULT + 300_000 * MS).to_json()
    assert len(shown["open"].split()) <= 6_001
    assert shown["step_ms"] > 10
    assert shown["begin_ms"] % shown["step_ms"] == 0


def test_wait_ends_with_the_answer_to_any_question() -> None:
    record = flow((9_000, 9_010), (9_100, None), (9_200, 9_210))
    assert [(begin // MS, end // MS) for begin, end in waits(record, 9_300 * MS)] == [
        (9_000, 9_010),
        (9_100, 9_210),
    ]


def test_transfer_is_drawn_in_megabytes_a_second() -> None:
    progress = [(FAULT + place * 10 * MS, place * 1_000_000) for place in range(-20, 21)]
    shown = transfer_json(progress, FAULT)
    assert shown is not None
    assert set(shown["megabytes_a_second"].split()[1:-1]) == {"100"}
    assert (shown["step_ms"], shown["begin_ms"]) == (50, -200)
    assert transfer_json(progress[:1], FAULT) is None
