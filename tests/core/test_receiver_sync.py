"""The backup's half of the least sync: what it says it holds, what it believes, and when it has waited too long."""

from __future__ import annotations

import pytest

from hasyncd.core.effects import (
    BeginSync,
    DigestBuckets,
    ReportEvent,
    WriteStream,
)
from hasyncd.core.messages import (
    HelloReply,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.receiver import Receiver
from hasyncd.core.types import Findings, LastSync
from hasyncd.core.wire import Rejected, decode_frame
from tests.core.messages import SEED, a_hello, ms
from tests.core.receivers import (
    BOOT,
    DIGESTS,
    SOME,
    a_ready_receiver,
    a_receiver,
    deltas,
    greet,
    primary_says,
)


def test_what_can_be_resumed_sends_no_digests_and_what_cannot_does() -> None:
    receiver = a_ready_receiver()
    for fields in ({"log_next": 11}, {"resume_from": 11}, {}):
        receiver.closed()
        assert greet(receiver, **fields) == HelloReply(1, "gw-b", BOOT, 1, 0xA, 10, True)
    for fields in (
        {"boot_id": 0xD}, {"generation": 2}, {"resume_from": 12}, {"log_next": 10}, {"resume_from": 101},
    ):  # fmt: skip
        receiver.closed()
        assert greet(receiver, **fields) == HelloReply(1, "gw-b", BOOT, 1, 0xA, 10, True, digests=DIGESTS)


def test_drift_keeps_the_history_and_sends_digests() -> None:
    receiver = a_ready_receiver()
    receiver.distrust()
    receiver.closed()
    assert greet(receiver) == HelloReply(1, "gw-b", BOOT, 1, 0xA, 10, False, digests=DIGESTS)


@pytest.mark.parametrize("how", ["another seed", "no flows", "an operator wants everything"])
def test_who_has_nothing_to_compare_asks_for_everything(how: str) -> None:
    receiver = a_ready_receiver()
    if how == "no flows":
        receiver.table_is(0, 0)
    if how.startswith("an operator"):
        receiver.distrust(everything=True)
    receiver.closed()
    seed = bytes(16) if how == "another seed" else SEED
    reply = greet(receiver, seed=seed, generation=2)
    assert reply == HelloReply(1, "gw-b", BOOT, 1, 0xA, 10, False)
    receiver.receive_frame(SyncBegin(2, 50, 1), 0)
    receiver.table_is(1, 1)
    receiver.closed()
    assert greet(receiver, seed=seed, generation=2).digests, "asked for once"  # type: ignore[union-attr]


def test_the_reply_speaks_of_the_moment_of_its_digests() -> None:
    """A batch that is with the table still: the digests are asked for behind it."""
    receiver = a_ready_receiver()
    receiver.receive_frame(deltas(11, 2), 0)
    receiver.closed()
    receiver.accept(0)
    assert receiver.greet(a_hello(log_next=100), 1, 0) == [DigestBuckets(1024)]
    with pytest.raises(Rejected, match="unexpected_frame"):
        receiver.receive_frame(SyncBegin(1, 1, 0), 0)
    assert receiver.installed(2, None, 2, 78)
    [reply] = receiver.reply(DIGESTS)
    assert isinstance(reply, WriteStream)
    assert decode_frame(reply.frame[4:]) == HelloReply(1, "gw-b", BOOT, 1, 0xA, 12, True)
    assert receiver.reply(DIGESTS) == [], "once"


@pytest.mark.parametrize(
    "suspects", [bytes(7), bytes(9), b"\x01"], ids=["a byte short", "a byte long", "one byte"]
)
def test_suspects_of_another_table_are_refused(suspects: bytes) -> None:
    receiver = a_ready_receiver()
    receiver.distrust()
    receiver.closed()
    greet(receiver)
    with pytest.raises(Rejected, match="bad_field"):
        receiver.receive_frame(SyncBegin(1, 11, 2, suspects), 0)


def test_suspects_without_digests_are_refused_and_only_the_first_sync_has_them() -> None:
    with pytest.raises(Rejected, match="bad_field"):
        a_receiver().receive_frame(SyncBegin(1, 11, 2, SOME), 0)
    receiver = a_ready_receiver()
    receiver.distrust()
    receiver.closed()
    greet(receiver)
    receiver.receive_frame(SyncBegin(1, 11, 2, SOME), 0)
    with pytest.raises(Rejected, match="bad_field"):
        receiver.receive_frame(SyncBegin(1, 11, 2, SOME), 0)


def least_sync(receiver: Receiver, sequence: int = 10) -> None:
    receiver.distrust()
    receiver.closed()
    greet(receiver)
    assert receiver.receive_frame(SyncBegin(1, sequence + 1, 2, SOME), 0) == [BeginSync(SOME, 1024)]
    receiver.receive_frame(SyncEnd(1, sequence, 2, 77), 0)


def test_a_least_sync_tells_what_differed() -> None:
    receiver = a_ready_receiver()
    least_sync(receiver)
    [repaired, ready] = receiver.swept(2, 77, Findings(added=1, replaced=2, removed=3), ms(5))
    assert repaired == ReportEvent(
        "sync_repaired", "1 of 64 buckets differed: 2 flows replaced, 1 added, 3 removed"
    )
    assert ready == ReportEvent("sync_ready", "2 flows")
    assert receiver.report.last == LastSync(
        "least", buckets=64, suspects=1, added=1, replaced=2, removed=3, duration_ns=ms(5)
    )


def test_a_sync_that_ends_in_a_mismatch_is_followed_by_everything() -> None:
    receiver = a_ready_receiver()
    least_sync(receiver)
    with pytest.raises(Rejected, match="full_sync_mismatch"):
        receiver.swept(2, 78, Findings(), 0)
    receiver.closed()
    assert greet(receiver) == HelloReply(1, "gw-b", BOOT, 1, 0xA, 10, False)
    receiver.receive_frame(SyncBegin(1, 11, 2), 0)
    receiver.receive_frame(SyncEnd(1, 10, 2, 77), 0)
    assert receiver.swept(2, 77, Findings(), 0)
    least_sync(receiver)


def test_two_rejected_records_without_a_sync_between_them_are_followed_by_everything() -> None:
    receiver = a_ready_receiver()
    for offers in (True, False):
        receiver.receive_frame(deltas(receiver.history.installed + 1), 0)
        with pytest.raises(Rejected, match="unknown_handle"):
            receiver.installed(0, "unknown_handle", 2, 1)
        receiver.closed()
        reply = greet(receiver)
        assert isinstance(reply, HelloReply)
        assert bool(reply.digests) is offers
        receiver.receive_frame(SyncBegin(1, 50, 2, SOME if offers else b""), 0)


# --- silence where something is owed: S4a ------------------------------------------------------------------------


def test_a_frame_that_is_never_finished_is_a_stall() -> None:
    receiver = a_ready_receiver()
    receiver.hear_bytes(True, ms(100))
    assert receiver.next_deadline_ns() == ms(3100)
    assert receiver.late(ms(3099)) is None
    assert receiver.late(ms(3100)) == "stalled"
    receiver.hear_bytes(True, ms(3000))
    assert receiver.late(ms(3100)) is None, "it comes slowly, but it comes"
    receiver.hear_bytes(False, ms(3200))
    assert receiver.next_deadline_ns() is None


def test_records_that_the_primary_has_and_that_never_come_are_a_stall() -> None:
    receiver = a_ready_receiver()
    receiver.compare(primary_says(10, 2, 77), ms(50))  # type: ignore[arg-type]
    assert receiver.next_deadline_ns() is None
    receiver.compare(primary_says(12, 2, 77), ms(100))  # type: ignore[arg-type]
    receiver.compare(primary_says(13, 2, 77), ms(150))  # type: ignore[arg-type]
    assert receiver.next_deadline_ns() == ms(3100), "not for as long as it says so: since it was owed"
    receiver.receive_frame(deltas(11, 3), 0)
    receiver.hear_bytes(False, ms(160))
    assert receiver.next_deadline_ns() is None


def test_a_sync_that_goes_silent_is_a_stall_and_one_that_was_proven_is_not() -> None:
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 11, 2), 0)
    receiver.hear_bytes(False, ms(10))
    assert receiver.late(ms(3010)) == "stalled"
    receiver.receive_frame(SyncEnd(1, 10, 2, 77), 0)
    receiver.swept(2, 77, Findings(), ms(20))
    assert receiver.next_deadline_ns() is None
