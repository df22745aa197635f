"""Receivers as tests like them: one that was greeted, one that is in step."""

from __future__ import annotations

from hasyncd.core.effects import (
    DigestBuckets,
    EndSync,
    WriteStream,
)
from hasyncd.core.messages import (
    Deltas,
    Frame,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.receiver import Receiver
from hasyncd.core.types import Findings, SyncState
from hasyncd.core.wire import decode_frame
from tests.core.messages import SEED, SETTINGS, a_beat, a_hello

BOOT = 0xB
RECORD = b"\x03" + bytes(11)


def a_receiver(seed: bytes = SEED) -> Receiver:
    """One that has answered HELLO of generation 1."""
    receiver = Receiver(SETTINGS, BOOT, seed)
    greet(receiver)
    return receiver


DIGESTS = bytes(range(64)) * 8
"""As many as a table of HELLO's capacity has."""
SOME = b"\x02" + bytes(7)


def greet(receiver: Receiver, **fields: object) -> Frame:
    """HELLO_REPLY to a primary whose log reaches from 1 to 99."""
    receiver.accept(0)
    [answer] = receiver.greet(a_hello(**{"log_next": 100} | fields), 1, 0)
    if answer == DigestBuckets(1024):
        [answer] = receiver.reply(DIGESTS)
    assert isinstance(answer, WriteStream)
    return decode_frame(answer.frame[4:])


def deltas(first: int, count: int = 1, generation: int = 1) -> Deltas:
    return Deltas(generation, first, count, RECORD * count)


def a_ready_receiver() -> Receiver:
    """Synced at sequence 10 with 2 flows and digest 77."""
    receiver = a_receiver()
    receiver.receive_frame(SyncBegin(1, 9, 2), 0)
    receiver.receive_frame(deltas(9, 2), 0)
    receiver.installed(2, None, 2, 77)
    assert receiver.receive_frame(SyncEnd(1, 10, 2, 77), 0) == [EndSync()]
    assert receiver.swept(2, 77, Findings(), 0)
    assert receiver.state() is SyncState.READY
    return receiver


def primary_says(sequence: int, flow_count: int, digest: int) -> object:
    return a_beat(
        boot_id=0xA, head_sequence=sequence, digest_sequence=sequence, flow_count=flow_count, digest=digest
    )
