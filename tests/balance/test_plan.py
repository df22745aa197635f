"""hasyncd.balance.plan: what an operator is told of a change before it is made."""

from __future__ import annotations

import pytest

from hasyncd.balance.plan import HASHES, BadChange, Change, changed, describe, evenness

MEMBERS = {1: 1, 2: 3, 9: 2}


def test_a_change_adds_removes_and_weighs() -> None:
    change = Change(add={4: 7}, remove=frozenset({9}), weights={2: 5})
    assert changed(MEMBERS, change) == {1: 1, 2: 5, 4: 7}
    assert changed(MEMBERS, Change()) == MEMBERS
    assert change
    assert not Change()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(add={1: 1}), "backend 1 is there already"),
        (Change(remove=frozenset({5})), "there is no backend 5"),
        (Change(weights={6: 1}), "there is no backend 6"),
        (Change(remove=frozenset({1}), weights={1: 2}), "removed and weighed"),
    ],
)
def test_what_cannot_be_done_is_said(change: Change, message: str) -> None:
    with pytest.raises(BadChange, match=message):
        changed(MEMBERS, change)


def test_evenness_is_the_largest_share_beside_its_fair_one() -> None:
    quarter = HASHES // 4
    assert evenness([(1, 1, quarter), (2, 3, 3 * quarter)]) == pytest.approx(1.0)
    assert evenness([(1, 1, 2 * quarter), (2, 3, 2 * quarter)]) == pytest.approx(2.0)
    assert evenness([(1, 1, 0), (2, 3, 0)]) is None
    assert evenness([]) is None


def test_rows_have_whoever_is_has_been_or_will_be_there() -> None:
    now, then = [(1, 1, HASHES // 2), (2, 1, HASHES // 2)], [(2, 2, HASHES // 2), (3, 2, HASHES // 2)]
    rows = describe(now, then, {1: 7, 8: 1})
    assert [row["id"] for row in rows] == [1, 2, 3, 8]
    assert rows[0] == {"id": 1, "weight": 1, "share": 0.5, "flows": 7, "weight_then": None, "share_then": 0.0}
    assert rows[2]["weight"] is None
    assert rows[2]["share_then"] == 0.5
    assert rows[3] == {
        "id": 8,
        "weight": None,
        "share": 0.0,
        "flows": 1,
        "weight_then": None,
        "share_then": 0.0,
    }
    assert "share_then" not in describe(now, None, {})[0]
