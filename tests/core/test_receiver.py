"""The backup's half: contiguous or closed, installed or not acknowledged, proven or not ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.effects import (
    BeginSync,
    InstallRecords,
    ResetTable,
    WriteStream,
)
from hasyncd.core.messages import (
    Deltas,
    Frame,
    HelloReply,
    Leaving,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.receiver import Receiver
from hasyncd.core.types import Findings, SyncState
from hasyncd.core.wire import Rejected, decode_frame
from tests.core.messages import SEED, SETTINGS, a_beat, a_hello, ms
from tests.core.receivers import (
    BOOT,
    DIGESTS,
    RECORD,
    a_ready_receiver,
    a_receiver,
    deltas,
    greet,
    primary_says,
)


def test_a_fresh_backup_says_that_it_holds_nothing() -> None:
    assert greet(Receiver(SETTINGS, BOOT, SEED)) == HelloReply(1, "gw-b", BOOT, 0, 0, 0, False)


@pytest.mark.parametrize(
    ("hello", "own_generation", "reason"),
    [
        (a_hello(capacity=1025), 1, "capacity"),
        (a_hello(generation=4), 5, "generation"),
        (a_hello(protocol=5, protocol_min=4), 1, "protocol"),
    ],
)
def test_a_hello_that_cannot_work_is_refused(hello: object, own_generation: int, reason: str) -> None:
    receiver = Receiver(SETTINGS, BOOT, SEED)
    receiver.accept(0)
    effects = receiver.greet(hello, own_generation, 0)  # type: ignore[arg-type]
    assert isinstance(effects[0], WriteStream)
    assert decode_frame(effects[0].frame[4:]) == Refuse(reason)
    assert not receiver.greeted


def test_a_new_seed_empties_the_table_at_sync_begin_and_the_same_seed_keeps_it() -> None:
    everything = BeginSync(b"", 1024)
    assert a_receiver(SEED).receive_frame(SyncBegin(1, 1, 0), 0) == [everything]
    receiver = a_receiver(b"another seed 16b")
    assert receiver.receive_frame(SyncBegin(1, 1, 0), 0) == [ResetTable(SEED), everything]
    assert receiver.seed == SEED


def test_records_are_installed_in_order_and_acknowledged_as_installed() -> None:
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 9, 2), 0)
    assert receiver.receive_frame(deltas(9, 3), 0) == [InstallRecords(9, 3, RECORD * 3)]
    assert receiver.receive_frame(deltas(12), 0) == [InstallRecords(12, 1, RECORD)]
    assert receiver.history.installed == 8, "received is not installed"
    assert not receiver.installed(3, None, 3, 1), "more that was read is still to be installed"
    assert receiver.history.installed == 11
    assert receiver.installed(1, None, 3, 1)
    assert receiver.history.installed == 12


@pytest.mark.parametrize("first", [8, 10, 100])
def test_a_gap_closes_the_stream(first: int) -> None:
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 9, 2), 0)
    with pytest.raises(Rejected, match="sequence_gap"):
        receiver.receive_frame(deltas(first), 0)


@pytest.mark.parametrize(
    "frame",
    [SyncBegin(2, 1, 0), Resume(2, 1), deltas(9, generation=2), SyncEnd(2, 8, 0, 0), Leaving(2, 8, True)],
)
def test_another_generation_closes_the_stream(frame: Frame) -> None:
    receiver = a_receiver()
    if isinstance(frame, Deltas | SyncEnd | Leaving):
        receiver.receive_frame(SyncBegin(1, 9, 2), 0)
    with pytest.raises(Rejected, match="wrong_generation"):
        receiver.receive_frame(frame, 0)


@pytest.mark.parametrize("frame", [a_hello(), deltas(1), SyncEnd(1, 0, 0, 0), Refuse("role")])
def test_a_frame_out_of_its_place_closes_the_stream(frame: Frame) -> None:
    with pytest.raises(Rejected, match="unexpected_frame"):
        a_receiver().receive_frame(frame, 0)


def test_nothing_follows_leaving() -> None:
    receiver = a_ready_receiver()
    receiver.receive_frame(Leaving(1, 10, True), 0)
    assert receiver.handed_over
    with pytest.raises(Rejected, match="unexpected_frame"):
        receiver.receive_frame(deltas(11), 0)


def test_a_hand_over_waits_for_the_last_record() -> None:
    receiver = a_ready_receiver()
    receiver.receive_frame(deltas(11, 2), 0)
    receiver.receive_frame(Leaving(1, 12, True), 0)
    assert not receiver.handed_over
    receiver.installed(2, None, 2, 80)
    assert receiver.handed_over


def test_a_record_that_cannot_be_installed_is_never_acknowledged_past() -> None:
    """S6: the receiver stops there, and its next HELLO_REPLY says `synced` false."""
    receiver = a_ready_receiver()
    receiver.receive_frame(deltas(11, 5), 0)
    receiver.receive_frame(deltas(16, 5), 0)
    with pytest.raises(Rejected, match="unknown_handle"):
        receiver.installed(2, "unknown_handle", 2, 1)
    assert not receiver.installed(5, None, 2, 1), "the batch behind it was given to the table already"
    assert receiver.history.installed == 12
    receiver.closed()
    reply = HelloReply(1, "gw-b", BOOT, 1, 0, 12, False, digests=DIGESTS)
    assert greet(receiver) == reply, "its history does not go on"


def test_fewer_records_than_promised_are_a_count_mismatch() -> None:
    receiver = a_ready_receiver()
    receiver.receive_frame(deltas(11, 5), 0)
    with pytest.raises(Rejected, match="count_mismatch"):
        receiver.installed(4, None, 2, 1)


def test_a_full_sync_is_proven_or_repeated() -> None:
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 1, 2), 0)
    receiver.receive_frame(SyncEnd(1, 0, 2, 77), 0)
    with pytest.raises(Rejected, match="full_sync_mismatch"):
        receiver.swept(2, 78, Findings(), 0)
    assert not receiver.history.synced


def test_sync_end_with_records_missing_is_a_gap() -> None:
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 1, 2), 0)
    with pytest.raises(Rejected, match="sequence_gap"):
        receiver.receive_frame(SyncEnd(1, 4, 2, 77), 0)


def test_a_sync_that_starts_over_forgets_the_answers_of_the_first() -> None:
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 1, 2), 0)
    receiver.receive_frame(deltas(1, 4), 0)
    receiver.receive_frame(SyncEnd(1, 4, 2, 77), 0)
    receiver.receive_frame(SyncBegin(1, 5, 2), 0)
    assert not receiver.installed(4, None, 2, 77)
    assert not receiver.swept(2, 77, Findings(), 0)
    assert (receiver.history.installed, receiver.history.synced) == (4, False)


def test_what_was_received_before_the_end_of_the_stream_counts() -> None:
    receiver = a_ready_receiver()
    receiver.receive_frame(deltas(11, 2), 0)
    receiver.closed()
    assert receiver.installed(2, None, 2, 5)
    assert receiver.certify().last_sequence == 12
    assert receiver.state() is SyncState.DEGRADED


def test_a_resume_must_fit_what_is_held() -> None:
    receiver = a_ready_receiver()
    receiver.closed()
    assert greet(receiver) == HelloReply(1, "gw-b", BOOT, 1, 0xA, 10, True)
    with pytest.raises(Rejected, match="sequence_gap"):
        receiver.receive_frame(Resume(1, 12), 0)
    assert receiver.receive_frame(Resume(1, 11), 0) == []
    assert receiver.receive_frame(deltas(11), 0) != []


def test_two_mismatches_in_a_row_are_drift() -> None:
    receiver = a_ready_receiver()
    assert not receiver.compare(primary_says(10, 2, 66), 0)  # type: ignore[arg-type]
    assert receiver.digest_match is False
    assert not receiver.compare(primary_says(10, 2, 77), 0)  # type: ignore[arg-type]
    assert receiver.digest_match is True
    assert not receiver.compare(primary_says(10, 3, 77), 0)  # type: ignore[arg-type]
    assert not receiver.compare(primary_says(11, 9, 99), 0), "we do not speak of that record yet"  # type: ignore[arg-type]
    assert receiver.compare(primary_says(10, 2, 66), 0)  # type: ignore[arg-type]
    assert not receiver.history.synced


def test_the_certificate_tells_what_is_known_to_be_missing() -> None:
    receiver = a_ready_receiver()
    certificate = receiver.certify()
    assert (certificate.complete, certificate.flows_missing, certificate.digest) == (True, 0, "match")
    receiver.hear(a_beat(boot_id=0xA, head_sequence=15, flow_count=9, at_risk=3))
    certificate = receiver.certify()
    assert (certificate.complete, certificate.flows_missing, certificate.flows_missing_is) == (
        False,
        3,
        "at_most",
    )
    assert not Receiver(SETTINGS, BOOT, SEED).certify().complete


def test_a_word_that_came_beside_a_lost_stream_counts_too() -> None:
    """Heartbeats go on while there is no stream: who did not hear the records does not call himself complete."""
    receiver = a_ready_receiver()
    receiver.closed()
    receiver.hear(a_beat(boot_id=0xA, head_sequence=500, flow_count=80, at_risk=80))
    certificate = receiver.certify()
    assert (certificate.complete, certificate.flows_missing) == (False, 80)
    receiver.forget()
    assert receiver.certify().flows_missing is None


def test_a_handshake_takes_a_second_at_most() -> None:
    receiver = a_receiver()
    assert receiver.late(ms(999)) is None
    assert receiver.late(ms(1000)) == "handshake timeout"
    receiver.receive_frame(SyncBegin(1, 1, 0), 0)
    assert receiver.next_deadline_ns() is None


# --- what the two agree on: proto/sync.md §4.1, §4.2 --------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "own", "chosen"),
    [((1, 1), (1, 1), 1), ((1, 3), (1, 1), 1), ((1, 1), (1, 2), 1), ((2, 4), (1, 3), 3), ((2, 3), (3, 9), 3)],
)
def test_the_newest_version_of_both_is_chosen(
    offered: tuple[int, int], own: tuple[int, int], chosen: int
) -> None:
    receiver = Receiver(replace(SETTINGS, protocols=own), BOOT, SEED)
    receiver.accept(0)
    [reply] = receiver.greet(a_hello(protocol_min=offered[0], protocol=offered[1]), 1, 0)
    assert isinstance(reply, WriteStream)
    assert receiver.protocol == chosen
    assert decode_frame(reply.frame[4:]).protocol == chosen  # type: ignore[union-attr]


@pytest.mark.parametrize(("offered", "own"), [((2, 3), (1, 1)), ((1, 1), (2, 3))])
def test_versions_that_do_not_meet_are_refused_and_it_is_said(
    offered: tuple[int, int], own: tuple[int, int]
) -> None:
    receiver = Receiver(replace(SETTINGS, protocols=own), BOOT, SEED)
    receiver.accept(0)
    [refusal, _] = receiver.greet(a_hello(protocol_min=offered[0], protocol=offered[1]), 1, 0)
    assert isinstance(refusal, WriteStream)
    assert decode_frame(refusal.frame[4:]) == Refuse("protocol")
    assert (receiver.refused, receiver.state()) == ("protocol", SyncState.DEGRADED)
    both = {"protocol_min": 1, "protocol": 3}
    receiver.greet(a_hello(**both), 1, 0)
    assert receiver.refused is None, "a peer that was exchanged for one that fits"


def test_features_are_those_of_both_and_unknown_ones_are_not_had() -> None:
    receiver = Receiver(replace(SETTINGS, features=0b0110), BOOT, SEED)
    receiver.accept(0)
    [reply] = receiver.greet(a_hello(features=2**63 | 0b0011), 1, 0)
    assert isinstance(reply, WriteStream)
    assert decode_frame(reply.frame[4:]).features == 0b0010  # type: ignore[union-attr]


def test_a_backup_that_needs_what_the_primary_lacks_refuses() -> None:
    receiver = Receiver(replace(SETTINGS, features=3, features_needed=2), BOOT, SEED)
    receiver.accept(0)
    [refusal, _] = receiver.greet(a_hello(features=1), 1, 0)
    assert isinstance(refusal, WriteStream)
    assert decode_frame(refusal.frame[4:]) == Refuse("features")
