"""The judge on records written by hand: every verdict, and what must not count as survival."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hasyncd.lab.judge import (
    CLOSED,
    HALF_CLOSED,
    WINDOW_NS,
    Exchange,
    FlowRecord,
    Verdict,
    count_lost_datagrams,
    judge,
    judge_flow,
    longest_silence_ns,
    percentile,
    state_at_fault,
)

MS = 1_000_000
FAULT = 1000 * MS
END = 12_000 * MS
US = (1, 21, "203.0.113.100", 40_000)


def flow(
    *exchanges: tuple[int, int | None],
    protocol: str = "tcp",
    opened: int = 0,
    seen: tuple[tuple[int, int, str, int], ...] = (US,),
    end: tuple[int, str] | None = None,
    wrong_bytes: int = 0,
    group: str = "base",
) -> FlowRecord:
    """A record whose exchanges, opening and end are in ms."""
    return FlowRecord(
        flow=1,
        protocol=protocol,
        path="lb",
        group=group,
        opened_ns=opened * MS,
        exchanges=tuple(
            Exchange(sent * MS, None if answered is None else answered * MS) for sent, answered in exchanges
        ),
        seen=seen,
        end_ns=end[0] * MS if end else None,
        end_reason=end[1] if end else None,
        wrong_bytes=wrong_bytes,
    )


def test_flow_that_asks_and_is_answered_after_the_fault_survived() -> None:
    assert judge_flow(flow((900, 901), (1100, 1101)), [FAULT]) is Verdict.SURVIVED


def test_state_of_a_connection_is_that_in_which_the_fault_met_it() -> None:
    whole = replace(flow((900, 901), (1100, 1101)), connected_ns=5 * MS)
    assert state_at_fault(whole, [FAULT]) == "established"
    assert state_at_fault(replace(whole, connected_ns=1001 * MS), [FAULT]) == "in its handshake"
    assert state_at_fault(replace(whole, connected_ns=None), [FAULT]) == "in its handshake"
    assert state_at_fault(replace(whole, half_closed=(999 * MS, "client")), [FAULT]) == HALF_CLOSED[0]
    assert state_at_fault(replace(whole, half_closed=(999 * MS, "server")), [FAULT]) == HALF_CLOSED[1]
    assert state_at_fault(replace(whole, half_closed=(1001 * MS, "server")), [FAULT]) == "established"
    assert state_at_fault(replace(whole, opened_ns=1001 * MS), [FAULT]) == "opened later"
    assert state_at_fault(
        replace(whole, opened_ns=1001 * MS, connected_ns=1002 * MS), [FAULT, 2 * FAULT]
    ) == ("established")


def test_half_closed_connection_that_is_lost_is_named_so() -> None:
    lost = replace(flow((900, 901)), connected_ns=5 * MS, half_closed=(950 * MS, "client"))
    judgement = judge([lost], [FAULT], END)
    assert judgement.losses == {"tcp lb base, half-closed by its client: stalled": 1}
    assert judgement.states[HALF_CLOSED[0]].lost == 1


def test_answer_to_a_request_from_before_the_fault_proves_nothing() -> None:
    assert judge_flow(flow((999, 1001)), [FAULT]) is Verdict.STALLED


def test_answer_that_comes_after_the_window_is_too_late() -> None:
    assert judge_flow(flow((1100, 11_000)), [FAULT]) is Verdict.SURVIVED
    assert judge_flow(flow((1100, 11_001)), [FAULT]) is Verdict.STALLED


def test_flow_without_any_answer_stalled() -> None:
    assert judge_flow(flow((900, None), (1100, None), protocol="udp"), [FAULT]) is Verdict.STALLED
    assert judge_flow(flow(seen=()), [FAULT]) is Verdict.STALLED


@pytest.mark.parametrize("moment", [500, 1500])
def test_connection_that_ends_badly_is_reset_whenever_it_happens(moment: int) -> None:
    ended = flow((400, 401), (1100, 1101), end=(moment, "ECONNRESET"))
    assert judge_flow(ended, [FAULT]) is Verdict.RESET


def test_connection_reset_after_it_proved_itself_is_still_reset() -> None:
    assert judge_flow(flow((1100, 1101), end=(5000, "ECONNRESET")), [FAULT]) is Verdict.RESET


@pytest.mark.parametrize(
    "other",
    [
        (1100 * MS, 22, US[2], US[3]),
        (1100 * MS, US[1], US[2], 40_001),
        (1100 * MS, US[1], "203.0.113.6", US[3]),
    ],
    ids=["another server", "another port", "another address"],
)
def test_flow_that_meets_another_far_end_was_remapped(other: tuple[int, int, str, int]) -> None:
    assert judge_flow(flow((900, 901), (1100, 1101), seen=(US, other)), [FAULT]) is Verdict.REMAPPED


def test_same_far_end_noted_twice_is_no_remapping() -> None:
    again = (1100 * MS, *US[1:])
    assert judge_flow(flow((1100, 1101), seen=(US, again)), [FAULT]) is Verdict.SURVIVED


def test_wrong_bytes_are_a_loss_even_when_right_ones_follow() -> None:
    record = flow((1100, 1101), wrong_bytes=1)
    assert judge_flow(record, [FAULT]) is Verdict.RESET
    assert judge_flow(flow((1100, 1101), wrong_bytes=1, protocol="udp"), [FAULT]) is Verdict.STALLED


def test_udp_is_never_called_reset() -> None:
    """DESIGN §7 has no such column for UDP, and `opened` has to be the sum of its row."""
    assert judge_flow(flow(protocol="udp", end=(1200, "ENETUNREACH")), [FAULT]) is Verdict.STALLED


def test_flow_closed_in_good_order_before_the_fault_is_not_judged() -> None:
    assert judge_flow(flow((100, 101), end=(900, CLOSED)), [FAULT]) is None


def test_flow_closed_before_its_client_knew_of_the_fault_is_not_judged() -> None:
    assert judge_flow(flow((900, 901), end=(1010, CLOSED)), [FAULT]) is None
    assert judge_flow(flow((900, 901), (1001, None), end=(1010, CLOSED)), [FAULT]) is Verdict.STALLED


def test_flow_opened_after_the_fault_has_its_own_window() -> None:
    late = 3000
    assert judge_flow(flow((late, late + 9000), opened=late), [FAULT]) is Verdict.SURVIVED
    assert judge_flow(flow((late, late + 10_001), opened=late), [FAULT]) is Verdict.STALLED


def test_every_fault_has_to_be_survived() -> None:
    second = 20_000
    faults = [FAULT, second * MS]
    assert judge_flow(flow((1100, 1101), (20_100, 20_101)), faults) is Verdict.SURVIVED
    assert judge_flow(flow((1100, 1101), (19_900, 19_901)), faults) is Verdict.STALLED
    assert judge_flow(flow((900, 901), (20_100, 20_101)), faults) is Verdict.STALLED


def test_flow_closed_between_two_faults_faces_the_first_only() -> None:
    record = flow((1100, 1101), end=(15_000, CLOSED))
    assert judge_flow(record, [FAULT, 20_000 * MS]) is Verdict.SURVIVED


def test_silence_is_the_longest_wait_between_answers_around_or_after_the_fault() -> None:
    record = flow((0, 10), (500, 510), (900, 910), (1000, 1150), (1200, 1201))
    assert longest_silence_ns(record, FAULT, 1300 * MS) == 240 * MS, (
        "the 500 ms before the fault do not count"
    )


def test_silence_of_a_flow_that_is_never_heard_again_lasts_to_the_end() -> None:
    assert longest_silence_ns(flow((900, 910)), FAULT, END) == END - 910 * MS
    assert longest_silence_ns(flow((900, 910), end=(1100, "ECONNRESET")), FAULT, END) == END - 910 * MS


def test_silence_of_a_flow_opened_into_the_fault_counts_from_its_opening() -> None:
    assert longest_silence_ns(flow((2000, 2010), opened=990), FAULT, 2020 * MS) == 1020 * MS


def test_unanswered_datagrams_are_counted_and_do_not_cost_the_flow() -> None:
    record = flow((900, 901), (1000, None), (1100, None), (1200, 1201), protocol="udp")
    assert count_lost_datagrams(record) == 2
    assert judge_flow(record, [FAULT]) is Verdict.SURVIVED


def test_court_adds_up_and_names_its_losses() -> None:
    records = [
        flow((1100, 1101)),
        flow((1100, 1101), group="opened"),
        flow(end=(1200, "ECONNRESET")),
        flow((100, 101), end=(500, CLOSED)),
        flow((1000, None), (1100, 1101), protocol="udp", group="probe"),
        flow(protocol="udp", seen=(US, (2, 22, US[2], US[3]))),
    ]
    judgement = judge(records, [FAULT], END)
    assert (judgement.tcp.opened, judgement.udp.opened, judgement.unjudged) == (3, 2, 1)
    assert judgement.tcp.opened == sum(judgement.tcp.verdicts.values())
    assert judgement.tcp.verdicts[Verdict.SURVIVED] == 2
    assert judgement.opened_during_run == 1
    assert judgement.lost == 2
    assert judgement.losses == {"tcp lb base: reset (ECONNRESET)": 1, "udp lb base: remapped": 1}
    assert judgement.udp.lost_datagrams == 1
    assert len(judgement.silences_ns) == 5
    assert judgement.silences_ns == sorted(judgement.silences_ns)
    assert judgement.outage_ns == END - 1101 * MS
    assert judgement.probe_silences_ns == [END - 1101 * MS]
    assert judgement.first_answer_ns == 101 * MS, "what was asked before the fault does not count"


def test_record_is_read_from_a_client_s_line() -> None:
    line = json.dumps(
        {
            "flow": 7,
            "protocol": "udp",
            "path": "nat",
            "group": "opened",
            "opened_ns": 1000,
            "connected_ns": 1000,
            "end": [9_000, "closed"],
            "seen": [[5, 50, "203.0.113.5", 1024]],
            "wrong_bytes": 0,
            "sent_us": [1, 3],
            "answered_us": [2, -1],
        }
    )
    record = FlowRecord.from_json(line)
    assert record.exchanges == (Exchange(2000, 3000), Exchange(4000, None))
    assert (record.end_ns, record.end_reason) == (9000, CLOSED)
    assert record.seen == ((5, 50, "203.0.113.5", 1024),)


def test_percentiles_of_few_and_of_none() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3], 0.99) == 3
    assert percentile(list(range(100)), 0.5) == 50
    assert WINDOW_NS == 10_000 * MS
