"""What a drill's result says, to programs and to people."""

from __future__ import annotations

import pytest

from hasyncd.lab.drill import DrillOptions, Result
from hasyncd.lab.judge import Judgement, Verdict
from hasyncd.lab.report import sentence, show_all
from hasyncd.lab.scenarios import SCENARIOS
from hasyncd.lab.stage import Fault


def result(survived: int = 3, stalled: int = 0) -> Result:
    judgement = Judgement(silences_ns=[100_000_000, 200_000_000, 300_000_000])
    judgement.tcp.verdicts[Verdict.SURVIVED] = survived
    judgement.udp.verdicts[Verdict.STALLED] = stalled
    fault = Fault("gw-a", 0, at_risk=2, detected_ms=15.0, promoted_ms=20.0)
    options = DrillOptions(seed=4)
    return Result(SCENARIOS["kill-primary"], options, "packet", "hasyncd", judgement, [fault], [], [])


def test_pass_is_one_plain_sentence() -> None:
    assert sentence(result()) == (
        "PASSED: gw-a was killed, all 3 flows survived and none was remapped; "
        "a flow's longest silence was 200 ms (median), 300 ms (worst)."
    )


def test_loss_is_named_with_its_number() -> None:
    lost = result(survived=2, stalled=1)
    assert not lost.passed
    assert sentence(lost).startswith("FAILED: gw-a was killed, 1 of 3 flows were lost; ")


def test_anything_else_against_us_fails_the_drill_too() -> None:
    broken = result()
    broken.failures.append("gw-b did not become primary within 10 s")
    assert not broken.passed
    assert sentence(broken) == "FAILED: gw-b did not become primary within 10 s."


def test_requirement_that_did_not_hold_is_said_beside_lost_flows_too() -> None:
    lost = result(survived=2, stalled=1)
    lost.failures.append("two nodes were primary at once")
    assert sentence(lost).endswith("300 ms (worst); besides, two nodes were primary at once.")
    lost.faults[0].deed = "was stopped"
    assert sentence(lost).startswith("FAILED: gw-a was stopped, 1 of 3 flows were lost; ")
    assert lost.to_json()["faults"][0]["deed"] == "was stopped"


def test_json_has_the_keys_and_sums_of_the_design() -> None:
    shown = result(survived=2, stalled=1).to_json()
    assert shown["flows"]["tcp"] == {"opened": 2, "survived": 2, "reset": 0, "stalled": 0, "remapped": 0}
    assert shown["flows"]["udp"] == {
        "opened": 1,
        "survived": 0,
        "stalled": 1,
        "remapped": 0,
        "lost_datagrams": 0,
    }
    assert shown["gap_ms"] == {"p50": 200.0, "p99": 300.0, "max": 300.0}
    assert (shown["at_risk_at_fault"], shown["detected_ms"], shown["promoted_ms"]) == (2, 15.0, 20.0)


def test_drill_that_never_got_to_a_fault_still_has_every_key() -> None:
    empty = Result(
        SCENARIOS["bulk"], DrillOptions(seed=1), "packet", "hasyncd", Judgement(), [], ["no lab"], []
    )
    shown = empty.to_json()
    assert shown["passed"] is False
    assert shown["detected_ms"] is None
    assert shown["gap_ms"] == {"p50": None, "p99": None, "max": None}
    assert shown["notes"] == ["no lab"]


def test_many_kills_are_counted_and_not_listed() -> None:
    many = result(stalled=0)
    many.faults *= 100
    assert sentence(many).startswith("PASSED: 100 times a node was killed, all 3 flows survived")


def test_a_loss_that_is_excused_is_no_failure_and_is_said() -> None:
    excused = result(survived=2, stalled=1)
    excused.judgement.excused = 1
    assert excused.passed
    assert sentence(excused).startswith("PASSED: gw-a was killed, 1 of 3 flows were lost, as announced; ")


def test_many_drills_end_with_a_table_of_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    broken = result(survived=2, stalled=1)
    empty = Result(
        SCENARIOS["bulk"], DrillOptions(seed=1), "packet", "hasyncd", Judgement(), [], ["no lab"], []
    )
    show_all([result(), broken, empty])
    shown = capsys.readouterr().out
    assert "1 of 3 drills passed" in shown
    rows = [
        [cell.strip() for cell in line.strip("│ ").split("│")] for line in shown.splitlines() if "│" in line
    ]
    assert rows == [
        ["kill-primary", "passed", "3", "0", "200", "300", "300", "20"],
        ["kill-primary", "FAILED", "3", "1", "200", "300", "300", "20"],
        ["bulk", "FAILED", "0", "0", "–", "–", "–", "–"],
    ]
    assert "bulk: FAILED: no lab." in shown
