"""The rows of `takeover.*`, from drills that were played."""

from __future__ import annotations

import pytest

from hasyncd.bench.takeover import (
    DEAD,
    DEAD_FAST,
    IDLE,
    KILLED,
    MOVED,
    THEIR_MOVE,
    THEIRS,
    Tale,
    kill_rows,
    switchover_row,
)
from hasyncd.lab.drill import DrillOptions, Result
from hasyncd.lab.judge import Judgement, Verdict
from hasyncd.lab.scenarios import SCENARIOS

MS = 1_000_000


def tale(*outages_ms: int, lost: int = 0, datagrams: int = 0) -> Tale:
    """One drill for each silence: a flow that was silent so long, and one that was for half of it."""
    made = Tale()
    for outage_ms in outages_ms:
        judgement = Judgement(outage_ns=outage_ms * MS, first_answer_ns=(outage_ms - 5) * MS)
        judgement.probe_silences_ns = [outage_ms * MS // 2, outage_ms * MS]
        judgement.udp.verdicts[Verdict.SURVIVED] = 10
        judgement.udp.verdicts[Verdict.REMAPPED] = lost
        judgement.udp.lost_datagrams = datagrams
        made.add(
            Result(
                SCENARIOS["kill-primary"], DrillOptions(seed=1), "packet", "hasyncd", judgement, [], [], []
            )
        )
    return made


def test_ours_stands_beside_its_goals_a_full_table_and_each_of_the_incumbent_s_timers() -> None:
    tales = {KILLED.name: tale(16, 20, 18), DEAD.name: tale(150, 160, 170), IDLE.name: tale(18, 19, 20)}
    tales |= {DEAD_FAST.name: tale(35, 40, 45)}
    tales |= {each.name: tale(3000, 3100, 3200, lost=2) for each in THEIRS}
    rows = {row.variant: row for row in kill_rows(tales)}
    assert (
        rows["process killed, first answer"].value,
        rows["process killed, first answer"].baseline_value,
    ) == (13, 20)
    assert rows["links cut, silence"].ratio == pytest.approx(160 / 200)
    assert rows["1,048,576 idle flows"].ratio == pytest.approx(19 / 18)
    beside = rows["links cut, adverts 1000 ms"]
    assert (beside.value, beside.baseline_value, beside.samples) == (160, 3100, 3)
    assert (beside.p50, beside.p99) == (150, 170)
    assert "max 170.0 ms; 0 of 30 flows lost" in beside.notes
    assert "max 3200.0 ms; 6 of 36 flows lost" in beside.notes
    assert rows["links cut, heartbeats 10 ms, adverts 10 ms"].value == 40
    assert len(rows) == 10


def test_a_planned_move_tells_the_datagrams_that_it_lost() -> None:
    row = switchover_row({MOVED.name: tale(6, 7), THEIR_MOVE.name: tale(21, 23, datagrams=4)})
    assert (row.value, row.baseline_value) == (6.5, 22)
    assert row.notes.endswith("datagrams lost: 0 and 8")


def test_who_was_not_played_is_told_and_not_made_up() -> None:
    tales = {
        KILLED.name: tale(16),
        DEAD.name: tale(150),
        IDLE.name: Tale(failures=["of 9 idle flows gw-b held 3"]),
    }
    tales |= {each.name: Tale() for each in (DEAD_FAST, *THEIRS)}
    rows = {row.variant: row for row in kill_rows(tales)}
    assert rows["1,048,576 idle flows"].value is None
    assert "gw-b held 3" in rows["1,048,576 idle flows"].notes
    assert rows["links cut, adverts 10 ms"].ratio is None
