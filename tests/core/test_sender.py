"""The primary's half: whom it resumes, whom it gives a full sync, and when it believes the peer is ready."""

from __future__ import annotations

import pytest

from hasyncd.core.effects import (
    Acknowledge,
    CloseStream,
    ConnectStream,
    Effect,
    SendFrom,
    StartSnapshot,
    StopDeltas,
    WriteStream,
)
from hasyncd.core.messages import Deltas, Frame, Hello, HelloReply, Refuse, Resume, SyncBegin, SyncEnd
from hasyncd.core.replication import Phase, StreamRefused
from hasyncd.core.sender import Sender
from hasyncd.core.types import LogState, Role, SyncState
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


def a_reply(
    generation: int = GENERATION, boot: int = BOOT, installed: int = 300, synced: bool = True
) -> Frame:
    return HelloReply(1, "gw-a", 0xA, generation, boot, installed, synced)


def ack(sequence: int, *, ready: bool = True, boot: int = BOOT, generation: int = GENERATION) -> object:
    return a_beat(
        role=Role.BACKUP, generation=generation, ack_boot_id=boot, ack_sequence=sequence, ready=ready
    )


def test_a_backup_that_holds_our_log_is_resumed_where_it_stopped() -> None:
    effects = a_sender().receive_frame(a_reply(), LOG)
    assert frames(effects) == [Resume(GENERATION, 301)]
    assert effects[-1] == SendFrom(301)


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
def test_any_other_backup_gets_a_full_sync_never_deltas(reply: HelloReply) -> None:
    """proto/sync.md §7: "A backup with another generation gets a full sync, never deltas." """
    sender = a_sender()
    effects = sender.receive_frame(reply, LOG)
    assert frames(effects) == [SyncBegin(GENERATION, 501, 40)]
    assert effects[-1] == StartSnapshot(501)
    assert sender.state(peer_alive=True) is SyncState.SYNCING
    assert not sender.ready


@pytest.mark.parametrize("installed", [100, 500])
def test_the_edges_of_the_log_can_be_resumed(installed: int) -> None:
    effects = a_sender().receive_frame(a_reply(installed=installed), LOG)
    assert frames(effects) == [Resume(GENERATION, installed + 1)]


def test_the_peer_is_ready_when_it_says_so_after_sync_end() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(synced=False), LOG)
    log = LogState(560, 40, 1, 101)
    assert sender.hear(ack(540, ready=False), log, ms(1)) == [Acknowledge(540)]  # type: ignore[arg-type]
    assert frames(sender.finish_snapshot(560, 40, 1)) == [SyncEnd(GENERATION, 560, 40, 1)]
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
    sender.receive_frame(a_reply(), LOG)
    assert sender.hear(beat, LOG, ms(1)) == []  # type: ignore[arg-type]
    assert sender.acked == 300


def test_records_encoded_after_the_last_look_at_the_log_can_be_acknowledged() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG)
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
        a_sender().receive_frame(Refuse("capacity"), LOG)
    with pytest.raises(Rejected, match="unexpected_frame"):
        a_sender().receive_frame(Resume(GENERATION, 1), LOG)
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG)
    with pytest.raises(Rejected, match="unexpected_frame"):
        sender.receive_frame(a_reply(), LOG)


def test_an_overrun_is_answered_by_a_full_sync_and_a_second_one_by_a_pause() -> None:
    sender = a_sender()
    sender.receive_frame(a_reply(), LOG)
    assert isinstance(sender.overrun(LOG, ms(5))[-1], StartSnapshot)
    assert sender.overrun(LOG, ms(6))[-1] == CloseStream("log overrun")
    assert sender.phase is Phase.IDLE
