"""The primary's half: whom it resumes, whom it gives a full sync, and when it believes the peer is ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.effects import (
    Acknowledge,
    CloseStream,
    CompareBuckets,
    ConnectStream,
    Effect,
    SendFrom,
    StartSnapshot,
    StopDeltas,
    WriteStream,
)
from hasyncd.core.messages import (
    WINDOW,
    Deltas,
    Frame,
    Hello,
    HelloReply,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.replication import Phase, StreamRefused
from hasyncd.core.sender import Sender
from hasyncd.core.types import LastSync, LogState, Role, SyncState
from hasyncd.core.wire import Rejected, decode_frame
from tests.core.messages import SEED, SETTINGS, a_beat, ms

BOOT, GENERATION = 0xB, 7
LOG = LogState(head_sequence=500, flow_count=40, digest=99, oldest_sequence=101)


def frames(effects: list[Effect]) -> list[Frame]:
    return [decode_frame(effect.frame[4:]) for effect in effects if isinstance(effect, WriteStream)]


def a_sender() -> Sender:
    """One that has said HELLO."""
    sender = Sender(SETTINGS, BOOT)
    sender.begin(GENERATION)
    sender.want_stream(0)
    assert sender.handle_timer(0, reachable=True) == [ConnectStream()]
    [hello] = frames(sender.open(LOG, SEED, 0))
    assert isinstance(hello, Hello)
    assert (hello.generation, hello.log_next, hello.seed) == (GENERATION, 501, SEED)
    return sender


def hello_again(sender: Sender) -> Hello:
    """The next stream, as far as HELLO."""
    at = sender.next_deadline_ns()
    assert at is not None
    assert sender.handle_timer(at, reachable=True) == [ConnectStream()]
    [hello] = frames(sender.open(LOG, SEED, at))
    assert isinstance(hello, Hello)
    return hello


def a_reply(
    generation: int = GENERATION, boot: int = BOOT, installed: int = 300, synced: bool = True
) -> Frame:
    return HelloReply(1, "gw-a", 0xA, generation, boot, installed, synced)


def ack(sequence: int, *, ready: bool = True, boot: int = BOOT, generation: int = GENERATION) -> object:
    return a_beat(
        role=Role.BACKUP, generation=generation, ack_boot_id=boot, ack_sequence=sequence, ready=ready
    )


def test_a_backup_that_holds_our_log_is_resumed_where_it_stopped() -> None:
    effects = a_sender().receive_frame(a_reply(), LOG, 0)
    assert frames(effects) == [Resume(GENERATION, 301)]
    assert effects[-1] == SendFrom(301, WINDOW)


@pytest.mark.parametrize(
    "reply",
    [
        a_reply(generation=6),
        a_reply(generation=8),
        a_reply(boot=0xC),
        a_reply(installed=99),
        a_reply(installed=501),
        a_reply(synced=False),
        a_reply(generation=0, boot=0, installed=0, synced=False),
    ],
    ids=[
        "generation behind",
        "generation ahead",
        "other log",
        "log left it",
        "ahead of us",
        "not synced",
        "empty",
    ],
)
def test_any_other_backup_is_never_given_deltas_alone(reply: HelloReply) -> None:
    """proto/sync.md S6c. Without digests, everything: at once, or when it was asked once more."""
    sender = a_sender()
    effects = sender.receive_frame(reply, LOG, 0)
    if reply.synced:
        assert effects == [StopDeltas(), CloseStream("the log has moved on")]
        hello_again(sender)
        effects = sender.receive_frame(reply, LOG, 0)
    assert frames(effects) == [SyncBegin(GENERATION, 501, 40)]
    assert effects[-1] == StartSnapshot(501, WINDOW)
    assert sender.state(peer_alive=True) is SyncState.SYNCING
    assert not sender.ready


@pytest.mark.parametrize("installed", [100, 500])
def test_the_edges_of_the_log_can_be_resumed(installed: int) -> None:
    effects = a_sender().receive_frame(a_reply(installed=installed), LOG, 0)
    assert frames(effects) == [Resume(GENERATION, installed + 1)]


def test_the_peer_is_ready_when_it_says_so_after_sync_end() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(synced=False), LOG, 0)
    log = LogState(560, 40, 1, 101)
    assert sender.hear(ack(540, ready=False), log, ms(1)) == [Acknowledge(540)]  # type: ignore[arg-type]
    assert frames(sender.finish_snapshot(560, 40, 1, 40, 0)) == [SyncEnd(GENERATION, 560, 40, 1)]
    sender.hear(ack(559), log, ms(2))  # type: ignore[arg-type]
    assert not sender.ready, "a flag from before SYNC_END says nothing"
    sender.hear(ack(560), log, ms(3))  # type: ignore[arg-type]
    assert sender.ready
    sender.hear(ack(560, ready=False), log, ms(4))  # type: ignore[arg-type]
    assert not sender.ready


@pytest.mark.parametrize(
    "beat", [ack(400, boot=0xC), ack(400, generation=6), ack(501), ack(300), ack(250)],
    ids=["other log", "other generation", "never written", "again", "back"],
)  # fmt: skip
def test_an_ack_that_cannot_be_is_ignored(beat: object) -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG, 0)
    assert sender.hear(beat, LOG, ms(1)) == []  # type: ignore[arg-type]
    assert sender.acked == 300


def test_records_encoded_after_the_last_look_at_the_log_can_be_acknowledged() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG, 0)
    frame = decode_frame(sender.encode_deltas(501, 2, b"\x03" + bytes(23))[4:])
    assert frame == Deltas(GENERATION, 501, 2, b"\x03" + bytes(23))
    assert sender.hear(ack(502), LOG, ms(1)) == [Acknowledge(502)]  # type: ignore[arg-type]


def test_attempts_come_at_doubling_pauses_up_to_a_second() -> None:
    sender = Sender(SETTINGS, BOOT)
    sender.begin(GENERATION)
    sender.want_stream(0)
    now, pauses = 0, []
    for _ in range(7):
        assert sender.handle_timer(now, reachable=True) == [ConnectStream()]
        sender.closed(now)
        at = sender.next_deadline_ns()
        assert at is not None
        pauses.append((at - now) // ms(1))
        assert sender.handle_timer(at - 1, reachable=True) == []
        now = at
    assert pauses == [50, 100, 200, 400, 800, 1000, 1000]


def test_nobody_connects_to_a_peer_that_is_away() -> None:
    sender = Sender(SETTINGS, BOOT)
    sender.begin(GENERATION)
    sender.want_stream(0)
    assert sender.handle_timer(0, reachable=False) == []
    assert sender.next_deadline_ns() is None


def test_a_handshake_takes_a_second_at_most() -> None:
    sender = a_sender()
    assert sender.handle_timer(ms(999), reachable=True) == []
    assert sender.handle_timer(ms(1000), reachable=True) == [StopDeltas(), CloseStream("handshake timeout")]


def test_a_refusal_and_a_frame_out_of_place_end_the_stream() -> None:
    with pytest.raises(StreamRefused, match="capacity"):
        a_sender().receive_frame(Refuse("capacity"), LOG, 0)
    with pytest.raises(Rejected, match="unexpected_frame"):
        a_sender().receive_frame(Resume(GENERATION, 1), LOG, 0)
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG, 0)
    with pytest.raises(Rejected, match="unexpected_frame"):
        sender.receive_frame(a_reply(), LOG, 0)


def test_an_overrun_is_answered_by_a_new_stream_and_its_comparison() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG, 0)
    assert sender.overrun(ms(6))[-1] == CloseStream("log overrun")
    assert sender.phase is Phase.IDLE
    assert hello_again(sender).resume_from == LOG.oldest_sequence
    assert sender.receive_frame(holding(installed=99), LOG, 0) == [CompareBuckets(DIGESTS)]


# --- the least sync: proto/sync.md §7 -------------------------------------------------------------------------

DIGESTS = bytes(64 * 8)
"""As many as a table of SETTINGS' capacity has."""
SOME = b"\x02" + bytes(7)


def holding(**fields: object) -> HelloReply:
    """A reply that says what is held."""
    return replace(a_reply(synced=False), digests=DIGESTS, **fields)  # type: ignore[arg-type, type-var]


def test_where_the_history_goes_on_the_log_is_continued_and_only_suspects_are_sent() -> None:
    sender = a_sender()
    assert sender.receive_frame(holding(), LOG, 0) == [CompareBuckets(DIGESTS)]
    effects = sender.compared(SOME, 510, 41, LOG, 0)
    assert frames(effects) == [SyncBegin(GENERATION, 301, 41, SOME)]
    assert effects[0] == Acknowledge(300)
    assert effects[-1] == StartSnapshot(301, WINDOW, SOME, refresh=False)
    assert sender.state(peer_alive=True) is SyncState.SYNCING
    assert (sender.report.full_syncs, sender.report.least_syncs) == (0, 1)


@pytest.mark.parametrize(
    "fields", [{"generation": 6}, {"log_boot_id": 0xC}, {"log_boot_id": 0}, {"installed": 99}, {"installed": 511}],
    ids=["generation", "other log", "a record was rejected", "log left it", "ahead of us"],
)  # fmt: skip
def test_where_it_does_not_the_sync_begins_at_the_comparison_and_the_rest_is_refreshed(
    fields: dict[str, object],
) -> None:
    sender = a_sender()
    sender.receive_frame(holding(**fields), LOG, 0)
    effects = sender.compared(SOME, 510, 41, LOG, 0)
    assert frames(effects) == [SyncBegin(GENERATION, 511, 41, SOME)]
    assert effects[-1] == StartSnapshot(511, WINDOW, SOME, refresh=True)


def test_the_refresh_of_a_sync_that_broke_is_still_owed() -> None:
    sender = a_sender()
    sender.receive_frame(holding(generation=6), LOG, 0)
    sender.compared(SOME, 510, 41, LOG, 0)
    sender.close("broken", 0)
    hello_again(sender)
    log = LogState(600, 40, 1, 101)
    sender.receive_frame(holding(installed=520), log, 0)
    assert sender.compared(SOME, 600, 41, log, 0)[-1] == StartSnapshot(521, WINDOW, SOME, refresh=True)
    sender.finish_snapshot(610, 41, 1, 3, 38)
    sender.close("broken", 0)
    hello_again(sender)
    sender.receive_frame(holding(installed=605), LogState(610, 40, 1, 101), 0)
    last = sender.compared(SOME, 610, 41, LogState(610, 40, 1, 101), 0)[-1]
    assert last == StartSnapshot(606, WINDOW, SOME, refresh=False), "its UPDATEs are in the log that goes on"


def test_a_backup_that_held_nothing_is_owed_no_refresh() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(generation=0, boot=0, installed=0, synced=False), LOG, 0)
    sender.close("broken", 0)
    hello_again(sender)
    log = LogState(600, 40, 1, 101)
    sender.receive_frame(holding(installed=520), log, 0)
    assert sender.compared(SOME, 600, 41, log, 0)[-1] == StartSnapshot(521, WINDOW, SOME, refresh=False)


@pytest.mark.parametrize("digests", [DIGESTS[8:], DIGESTS + bytes(8)])
def test_digests_of_another_table_are_refused(digests: bytes) -> None:
    with pytest.raises(Rejected, match="bad_field"):
        a_sender().receive_frame(replace(holding(), digests=digests), LOG, 0)


def test_an_operators_comparison_resumes_nobody() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG, 0)
    assert sender.want_comparison(ms(9)) == [StopDeltas(), CloseStream("resync")]
    hello = hello_again(sender)
    assert hello.resume_from == hello.log_next + 1
    sender.receive_frame(replace(holding(installed=500), synced=True), LOG, 0)  # type: ignore[type-var]
    assert frames(sender.compared(bytes(8), 500, 40, LOG, 0)) == [SyncBegin(GENERATION, 501, 40, bytes(8))]
    sender.closed(0)
    assert hello_again(sender).resume_from == LOG.oldest_sequence, "it was asked for once"


def test_a_comparison_that_nobody_waits_for_begins_nothing() -> None:
    sender = a_sender()
    sender.receive_frame(holding(), LOG, 0)
    sender.closed(0)
    assert sender.compared(SOME, 510, 41, LOG, 0) == []


def test_the_last_sync_is_told_when_the_peer_is_ready() -> None:
    sender = a_sender()
    sender.receive_frame(holding(), LOG, 0)
    sender.compared(SOME, 500, 40, LOG, ms(10))
    sender.finish_snapshot(520, 40, 1, flows_sent=20, refreshed=0)
    assert sender.report.last is None
    sender.hear(ack(520), LogState(520, 40, 1, 101), ms(30))  # type: ignore[arg-type]
    assert sender.report.last == LastSync(
        "least", buckets=64, suspects=1, flows_sent=20, refreshed=0, duration_ns=ms(20)
    )


# --- what the two agree on: proto/sync.md §4.1, §4.2, §5.1 -----------------------------------------------------


def an_offer(**changed: object) -> Sender:
    """One that has said HELLO with other settings."""
    sender = Sender(replace(SETTINGS, **changed), BOOT)  # type: ignore[arg-type]
    sender.begin(GENERATION)
    sender.want_stream(0)
    sender.handle_timer(0, reachable=True)
    sender.open(LOG, SEED, 0)
    return sender


def test_the_window_that_the_backup_gives_is_the_one_that_is_kept() -> None:
    effects = a_sender().receive_frame(replace(a_reply(), window=77), LOG, 0)
    assert effects[-1] == SendFrom(301, 77)
    effects = a_sender().receive_frame(replace(a_reply(synced=False), window=78), LOG, 0)
    assert effects[-1] == StartSnapshot(501, 78)


def test_what_was_chosen_must_have_been_offered() -> None:
    with pytest.raises(Rejected, match="unknown_protocol"):
        a_sender().receive_frame(replace(a_reply(), protocol=4), LOG, 0)
    with pytest.raises(Rejected, match="bad_field"):
        an_offer(features=1).receive_frame(replace(a_reply(), features=2), LOG, 0)
    sender = an_offer(protocols=(1, 3), features=7)
    sender.receive_frame(replace(a_reply(), protocol=2, features=5), LOG, 0)
    assert (sender.protocol, sender.features) == (2, 5)


def test_a_primary_does_not_stream_to_a_backup_that_lacks_what_it_needs() -> None:
    sender = an_offer(features=3, features_needed=2)
    with pytest.raises(StreamRefused, match="features"):
        sender.receive_frame(replace(a_reply(), features=1), LOG, 0)
    sender.closed(ms(1))
    assert sender.state(peer_alive=True) is SyncState.DEGRADED


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("capacity", "capacity"), ("protocol", "protocol"), ("role", None), ("generation", None)],
)
def test_a_refusal_that_does_not_heal_by_itself_is_remembered(reason: str, kept: str | None) -> None:
    sender = a_sender()
    with pytest.raises(StreamRefused, match=reason):
        sender.receive_frame(Refuse(reason), LOG, 0)
    assert sender.refused == kept
