"""The backup's half of the stream: every frame checked, everything installed accounted for.

Sequences are contiguous or the stream ends (S3); what was installed is acknowledged and nothing else (S6);
*ready* is proven by count and digest and lost again by drift (§7, S8).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hasyncd.core.certificate import Mirror, certify
from hasyncd.core.effects import (
    BeginSync,
    CloseStream,
    Effect,
    EndSync,
    InstallRecords,
    ResetTable,
    WriteStream,
)
from hasyncd.core.messages import (
    Deltas,
    Frame,
    Heartbeat,
    Hello,
    HelloReply,
    Leaving,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.replication import HANDSHAKE_NS, Phase
from hasyncd.core.types import Certificate, PairSettings, SyncState
from hasyncd.core.wire import Rejected, encode_frame


@dataclass(slots=True)
class History:
    """Whose log the table mirrors, and how far."""

    boot_id: int = 0
    generation: int = 0
    installed: int = 0
    synced: bool = False


class Receiver:
    """The backup's half of the stream."""

    def __init__(self, settings: PairSettings, boot_id: int, seed: bytes) -> None:
        self._settings = settings
        self._boot_id = boot_id
        self.seed = seed
        """What keys the table now; a full sync brings the primary's."""
        self._stream_boot_id = 0
        self._stream_generation = 0
        self._stream_seed = b""
        self._received = 0
        self._handshake_until_ns: int | None = None
        # Batches given to the table and not yet answered, oldest first: (round, first, count).
        self._pending: deque[tuple[int, int, int]] = deque()
        self._round = 0
        self._sweep: tuple[int, SyncEnd] | None = None
        self._flow_count = 0
        self._digest = 0
        self._verdict: bool | None = None
        self._mismatches = 0
        self._promised_head = 0
        self._was_synced = False
        self._from_empty = False
        self._word: Heartbeat | None = None
        self.refused: str | None = None
        """What the last HELLO was refused for, until one is not."""
        self.protocol: int | None = None
        self.features: int | None = None
        self.phase = Phase.IDLE
        self.history = History()
        self.left: Leaving | None = None
        self.full_syncs = 0

    # --- the stream ------------------------------------------------------------------------------

    def accept(self, now_ns: int) -> None:
        self.phase = Phase.HELLO
        self.left = None
        self._handshake_until_ns = now_ns + HANDSHAKE_NS

    def closed(self) -> None:
        """The stream has ended. What was received stays: those batches are the table's already."""
        self.phase = Phase.IDLE
        self._handshake_until_ns = None
        self._sweep = None
        self.left = None

    def forget(self) -> None:
        """The table is our own to write from now on: it mirrors nobody."""
        self.closed()
        self.history = History()
        self._round += 1
        self._verdict = None
        self._was_synced = self._from_empty = False
        self._word = None
        self.left = None

    def distrust(self) -> None:
        """What is held is not what the peer holds: the next HELLO_REPLY asks for a full sync."""
        self.history.synced = self._from_empty = False
        self._round += 1

    def handshake_expired(self, now_ns: int) -> bool:
        return self._handshake_until_ns is not None and now_ns >= self._handshake_until_ns

    @property
    def greeted(self) -> bool:
        """The stream is a primary's, not a stranger's: its end says something about the primary."""
        return self.phase in (Phase.BEGIN, Phase.STREAMING)

    # --- frames ----------------------------------------------------------------------------------

    def greet(self, hello: Hello, own_generation: int, now_ns: int) -> list[Effect]:
        """Answers HELLO: with what is held, or with REFUSE."""
        refusal = self._refusal(hello, own_generation)
        self.refused = None if refusal == "generation" else refusal  # that one heals by itself
        if refusal is not None:
            self.closed()
            return [
                WriteStream(encode_frame(Refuse(refusal))),
                CloseStream(f"refused: {refusal}", flush=True),
            ]
        self.phase = Phase.BEGIN
        self._handshake_until_ns = now_ns + HANDSHAKE_NS
        self._stream_boot_id = hello.boot_id
        self._stream_generation = hello.generation
        self._stream_seed = hello.seed
        held = self.history
        self.protocol = min(hello.protocol, self._settings.protocols[1])
        self.features = hello.features & self._settings.features
        reply = HelloReply(
            self.protocol, self._settings.node, self._boot_id, held.generation, held.boot_id, held.installed,
            held.synced and not self._pending, self.features, self._settings.window,
        )  # fmt: skip
        return [WriteStream(encode_frame(reply))]

    def _refusal(self, hello: Hello, own_generation: int) -> str | None:
        oldest, newest = self._settings.protocols
        if hello.protocol_min > newest or hello.protocol < oldest:
            return "protocol"
        if self._settings.features_needed & ~hello.features:
            return "features"
        if hello.capacity > self._settings.capacity:
            return "capacity"
        # The primary hears our generation in our heartbeats, takes it and comes back.
        if hello.generation < own_generation:
            return "generation"
        return None

    def receive_frame(self, frame: Frame) -> list[Effect]:
        """Everything after HELLO. Raises `Rejected`."""
        if isinstance(frame, Hello | HelloReply | Refuse) or not self.greeted:
            raise Rejected("unexpected_frame")
        if frame.generation != self._stream_generation:
            raise Rejected("wrong_generation")
        match frame:
            case SyncBegin():
                return self._begin_sync(frame)
            case Resume():
                return self._resume(frame)
            case Deltas():
                return self._take_deltas(frame)
            case SyncEnd():
                return self._end_sync(frame)
            case Leaving():
                return self._take_leave(frame)

    def _begin_sync(self, frame: SyncBegin) -> list[Effect]:
        # Also in the middle of deltas: the primary starts over (log overrun, an operator's resync).
        self.phase = Phase.STREAMING
        self._handshake_until_ns = None
        self._from_empty = self._stream_seed != self.seed or (self._flow_count == 0 and not self._pending)
        self._round += 1
        self._pending.clear()
        self._sweep = None
        self._received = frame.next - 1
        self._verdict = None
        self._mismatches = 0
        self.full_syncs += 1
        self.history = History(self._stream_boot_id, self._stream_generation, self._received, synced=False)
        # "Under a new seed the receiver empties its table at SYNC_BEGIN." (proto/sync.md §7)
        reset: list[Effect] = [ResetTable(self._stream_seed)] if self._stream_seed != self.seed else []
        self.seed = self._stream_seed
        return [*reset, BeginSync()]

    def _resume(self, frame: Resume) -> list[Effect]:
        if self.phase is not Phase.BEGIN:
            raise Rejected("unexpected_frame")
        held = self.history
        same_log = (held.boot_id, held.generation) == (self._stream_boot_id, self._stream_generation)
        if not held.synced or not same_log or frame.next != held.installed + 1:
            raise Rejected("sequence_gap")
        self.phase = Phase.STREAMING
        self._handshake_until_ns = None
        self._received = held.installed
        return []

    def _take_deltas(self, frame: Deltas) -> list[Effect]:
        if self.phase is not Phase.STREAMING:
            raise Rejected("unexpected_frame")
        if frame.first != self._received + 1:
            raise Rejected("sequence_gap")
        self._received += frame.count
        self._pending.append((self._round, frame.first, frame.count))
        return [InstallRecords(frame.first, frame.count, frame.records)]

    def _end_sync(self, frame: SyncEnd) -> list[Effect]:
        if self.phase is not Phase.STREAMING or self.history.synced or self._sweep is not None:
            raise Rejected("unexpected_frame")
        if frame.sequence != self._received:
            raise Rejected("sequence_gap")
        self._sweep = (self._round, frame)
        return [EndSync()]

    def _take_leave(self, frame: Leaving) -> list[Effect]:
        if self.phase is Phase.STREAMING and frame.sequence != self._received:
            raise Rejected("sequence_gap")
        self.phase = Phase.LEFT
        self._handshake_until_ns = None
        self.left = frame
        return []

    # --- what the table answers ------------------------------------------------------------------

    def installed(self, count: int, rejection: str | None, flow_count: int, digest: int) -> bool:
        """One batch was applied; True when there is something new to acknowledge. Raises `Rejected`
        when the batch was not installed whole: the table is distrusted from there on.
        """
        if not self._pending:
            return False
        round_, first, promised = self._pending.popleft()
        if round_ != self._round:
            return False
        self._flow_count, self._digest = flow_count, digest
        self.history.installed = first + min(count, promised) - 1
        if rejection is not None or count != promised:
            self.distrust()
            raise Rejected(rejection or "count_mismatch")
        return count > 0

    def swept(self, flow_count: int, digest: int) -> bool:
        """The sweep of SYNC_END is done; True when the tables are proven equal. Raises `Rejected`
        (`full_sync_mismatch`) when they are not; False when nobody waits for the answer any more.
        """
        if self._sweep is None:
            return False
        round_, end = self._sweep
        self._sweep = None
        if round_ != self._round:
            return False
        self._flow_count, self._digest = flow_count, digest
        self._verdict = (flow_count, digest) == (end.flow_count, end.digest)
        if not self._verdict:
            self.distrust()
            raise Rejected("full_sync_mismatch")
        self.history.synced = self._was_synced = True
        self._promised_head = end.sequence
        return True

    def hear(self, beat: Heartbeat) -> None:
        """The primary's newest word, by which our own completeness is judged."""
        self._word = beat

    def compare(self, beat: Heartbeat) -> bool:
        """Compares the primary's digest with ours where both speak of the same record; True means
        drift (S8): two mismatches in a row.
        """
        held = self.history
        if (beat.boot_id, beat.generation) != (held.boot_id, held.generation):
            return False
        self._promised_head = beat.head_sequence
        if not held.synced or self._pending or beat.digest_sequence != held.installed:
            return False
        self._verdict = (beat.flow_count, beat.digest) == (self._flow_count, self._digest)
        self._mismatches = 0 if self._verdict else self._mismatches + 1
        if self._mismatches < 2:
            return False
        self._mismatches = 0
        self.distrust()
        return True

    def table_is(self, flow_count: int, digest: int) -> None:
        """The shell's fresh look at the table, which also sees what did not come through a batch."""
        if not self._pending:
            self._flow_count, self._digest = flow_count, digest

    # --- what is known ---------------------------------------------------------------------------

    @property
    def handed_over(self) -> bool:
        """Everything up to LEAVING's sequence is installed and the table was proven complete."""
        left = self.left
        return (
            left is not None and left.handover and self.history.synced
            and not self._pending and self.history.installed == left.sequence
        )  # fmt: skip

    @property
    def digest_match(self) -> bool | None:
        return self._verdict

    def state(self) -> SyncState:
        if self.refused is not None:
            return SyncState.DEGRADED
        if self.history.synced:
            return SyncState.READY if self.phase in (Phase.STREAMING, Phase.LEFT) else SyncState.DEGRADED
        if self.phase in (Phase.BEGIN, Phase.STREAMING):
            return SyncState.SYNCING
        return SyncState.DEGRADED if self._was_synced else SyncState.NONE

    def certify(self) -> Certificate:
        """proto/pair.md §4 step 2."""
        held = self.history
        mirror = Mirror(
            held.boot_id, held.generation, held.installed, self._flow_count, self._verdict, self._promised_head,
            held.synced, self._from_empty,
        )  # fmt: skip
        return certify(mirror, self._word)

    def next_deadline_ns(self) -> int | None:
        return self._handshake_until_ns
