"""The primary's half of the stream: resume or sync, deltas, and what the peer has confirmed.

The decision of proto/sync.md §7 is taken here and only here: "a backup with another generation is never given
deltas alone".
"""

from __future__ import annotations

from collections.abc import Iterable

from hasyncd.core.buckets import digests_fit
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
from hasyncd.core.members import MemberWord
from hasyncd.core.merge import Merging
from hasyncd.core.messages import (
    FEATURE_OFFER,
    Deltas,
    Frame,
    Heartbeat,
    Hello,
    HelloReply,
    Leaving,
    Members,
    Offer,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.replication import HANDSHAKE_NS, Phase, StreamRefused
from hasyncd.core.sync_report import SyncReport
from hasyncd.core.types import SECOND_NS, LogState, MergeFindings, PairSettings, SyncState
from hasyncd.core.versions import PROTOCOL_OF_MEMBERS
from hasyncd.core.wire import Rejected, encode_frame

RECONNECT_MAX_NS = SECOND_NS
"""The pause between two attempts doubles up to here; proto/sync.md §10."""


class Sender:
    """The primary's half of the stream."""

    def __init__(self, settings: PairSettings, boot_id: int) -> None:
        self._settings = settings
        self._boot_id = boot_id
        self._generation = 0
        self._backoff_ns = settings.heartbeat_ns
        self._connect_at_ns: int | None = None
        self._handshake_until_ns: int | None = None
        self._base = 0
        self._sent_head = 0
        self._ready_from = 0
        self._ready_since_ns: int | None = None
        self._was_ready = False
        self._window = 1
        self.config_hash = settings.config_hash
        self._members: dict[str, tuple[int, tuple[MemberWord, ...]]] = {}
        self._compared: HelloReply | None = None
        # An operator wants a comparison: the next stream is not to be resumed.
        self._comparison_wanted = False
        # The peer believed it could be resumed and could not: it was asked once more (§7).
        self._asked_again = False
        # Records were skipped, and not every flow was named since: timeouts of the peer's may be old.
        self._refresh_owed = False
        self.refused: str | None = None
        """What the peer's last REFUSE said, until it takes our HELLO."""
        self.protocol: int | None = None
        self.features: int | None = None
        self.phase = Phase.IDLE
        self.syncing = False
        self.acked = 0
        self.report = SyncReport()
        self.merging = Merging()

    # --- the stream ------------------------------------------------------------------------------

    def begin(self, generation: int) -> None:
        """The role, or the generation, has changed: nothing is wanted, sent or acknowledged yet."""
        self._generation = generation
        self._backoff_ns = self._settings.heartbeat_ns
        self._connect_at_ns = self._handshake_until_ns = None
        self._base = self._sent_head = self.acked = 0
        self._was_ready = self._comparison_wanted = self._asked_again = self._refresh_owed = False
        self._leave_stream()

    def want_stream(self, now_ns: int) -> None:
        """The peer is there and may be connected to."""
        if self.phase is Phase.IDLE and self._connect_at_ns is None:
            self._connect_at_ns = now_ns

    def handle_timer(self, now_ns: int, *, reachable: bool) -> list[Effect]:
        """Connects when it is time and the peer is `reachable`; closes a handshake that takes too long."""
        if self._handshake_until_ns is not None and now_ns >= self._handshake_until_ns:
            return self.close("handshake timeout", now_ns)
        if self.phase is not Phase.IDLE or self._connect_at_ns is None or now_ns < self._connect_at_ns:
            return []
        self._connect_at_ns = None
        if not reachable:
            return []
        self.phase = Phase.CONNECTING
        self._handshake_until_ns = now_ns + HANDSHAKE_NS
        return [ConnectStream()]

    def open(self, log: LogState, seed: bytes, now_ns: int) -> list[Effect]:
        """The connection stands: HELLO."""
        if self.phase is not Phase.CONNECTING:
            return [CloseStream("not asked for")]
        self.phase = Phase.HELLO
        self._handshake_until_ns = now_ns + HANDSHAKE_NS
        oldest, newest = self._settings.protocols
        log_next = self._head(log) + 1
        resume_from = log_next + 1 if self._comparison_wanted else log.oldest_sequence
        hello = Hello(
            newest, self._settings.node, self._boot_id, self._generation, self.config_hash,
            self._settings.capacity, seed, log_next, oldest, self._settings.features, resume_from,
        )  # fmt: skip
        return [WriteStream(encode_frame(hello))]

    def close(self, reason: str, now_ns: int, *, flush: bool = False) -> list[Effect]:
        """Closes our side; the next attempt comes after the backoff."""
        if self.phase is Phase.IDLE:
            return []
        self.closed(now_ns)
        return [StopDeltas(), CloseStream(reason, flush)]

    def closed(self, now_ns: int) -> None:
        """The stream has ended, whoever ended it."""
        if self.phase is Phase.IDLE:
            return
        # A peer that was ready for a while earns a quick reconnect; one that never gets there is asked
        # ever more seldom, so that nothing can turn into a storm of syncs.
        if self._ready_since_ns is not None and now_ns - self._ready_since_ns >= RECONNECT_MAX_NS:
            self._backoff_ns = self._settings.heartbeat_ns
        self._connect_at_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(self._backoff_ns * 2, RECONNECT_MAX_NS)
        self._leave_stream()

    def _leave_stream(self) -> None:
        self.phase = Phase.IDLE
        self._handshake_until_ns = None
        self._compared = None
        self.merging.closed()
        self.syncing = False
        self._ready_since_ns = None

    # --- what goes over it -----------------------------------------------------------------------

    def receive_frame(self, frame: Frame, log: LogState, now_ns: int) -> list[Effect]:
        """OFFER, HELLO_REPLY or REFUSE; anything else is out of its place."""
        if self.phase is not Phase.HELLO:
            raise Rejected("unexpected_frame")
        if isinstance(frame, Refuse):
            # The generation is taken from its heartbeats, the role changes: these two heal by themselves.
            self.refused = None if frame.reason in ("generation", "role") else frame.reason
            raise StreamRefused(frame.reason)
        if isinstance(frame, Offer) and self._settings.features & FEATURE_OFFER:
            if frame.generation != self._generation:
                raise Rejected("wrong_generation")
            self.hear_bytes(now_ns)
            return self.merging.take(frame)
        if not isinstance(frame, HelloReply):
            raise Rejected("unexpected_frame")
        if self.merging.waits_with(frame):
            return []
        return self._answer(frame, log, now_ns)

    def hear_bytes(self, now_ns: int) -> None:
        """An offer may take longer than a handshake: its second begins anew with whatever comes of it."""
        if self.phase is Phase.HELLO and self.merging.begun:
            self._handshake_until_ns = now_ns + HANDSHAKE_NS

    def merged(
        self, count: int, found: MergeFindings, rejection: str | None, log: LogState, now_ns: int
    ) -> list[Effect]:
        """One batch of an offer was judged. Raises `Rejected`, `StreamRefused`."""
        self.merging.merged(count, found, rejection)
        reply = self.merging.take_reply()
        return self._answer(reply, log, now_ns) if reply is not None else []

    def _answer(self, frame: HelloReply, log: LogState, now_ns: int) -> list[Effect]:
        told = self.merging.finish(frame.node)
        return told + self._begin(frame, log, now_ns)

    def _begin(self, frame: HelloReply, log: LogState, now_ns: int) -> list[Effect]:
        self._agree(frame)
        if frame.digests and not digests_fit(frame.digests, self._settings.capacity):
            raise Rejected("bad_field")
        self.phase = Phase.STREAMING
        self._handshake_until_ns = None
        # "A backup with another generation is never given deltas alone." (proto/sync.md S6c)
        if frame.synced and not self._comparison_wanted and self._goes_on(frame, self._head(log), log):
            return self._resume(frame, now_ns)
        self.syncing = True
        if frame.digests:
            self._compared = frame
            return [CompareBuckets(frame.digests)]
        if frame.synced and not self._asked_again:
            self._asked_again = True
            return self.close("the log has moved on", now_ns)
        return self.full_sync(log, now_ns, holding=frame.generation != 0)

    def _goes_on(self, reply: HelloReply, head: int, log: LogState) -> bool:
        """The log holds what comes after the peer's history (proto/sync.md §7)."""
        ours = (reply.generation, reply.log_boot_id) == (self._generation, self._boot_id)
        return ours and log.oldest_sequence <= reply.installed + 1 <= head + 1

    def _resume(self, reply: HelloReply, now_ns: int) -> list[Effect]:
        self.syncing = self._asked_again = False
        self._base = self._ready_from = reply.installed
        self.acked = max(self.acked, reply.installed)
        self.report.resume(now_ns)
        resume = Resume(self._generation, reply.installed + 1)
        return [
            WriteStream(encode_frame(resume)),
            *self._say_members(self._members),
            SendFrom(resume.next, self._window),
        ]

    def _agree(self, reply: HelloReply) -> None:
        """proto/sync.md §4.1, §4.2: what the peer has chosen of what we offered. Raises `Rejected`, `StreamRefused`."""
        oldest, newest = self._settings.protocols
        if not oldest <= reply.protocol <= newest:
            raise Rejected("unknown_protocol")
        if reply.features & ~self._settings.features:
            raise Rejected("bad_field")
        if self._settings.features_needed & ~reply.features:
            self.refused = "features"
            raise StreamRefused("features")
        self.refused = None
        self.protocol, self.features, self._window = reply.protocol, reply.features, reply.window

    def full_sync(self, log: LogState, now_ns: int, *, holding: bool = True) -> list[Effect]:
        """Begins one on the open stream, also in the middle of deltas. `holding`: the peer keeps flows that
        it had, until the cursor comes to them."""
        # What was appended but not sent is forgotten by the shell's fresh start of the log.
        self._base = self._head(log)
        self._refresh_owed = holding
        return self._begin_sync(SyncBegin(self._generation, self._base + 1, log.flow_count), now_ns)

    def compared(
        self, suspects: bytes, sequence: int, flow_count: int, log: LogState, now_ns: int
    ) -> list[Effect]:
        """Which buckets differed at `sequence`, the head of the log then: a least sync."""
        reply, self._compared = self._compared, None
        if reply is None:
            return []
        effects: list[Effect] = []
        if self._goes_on(reply, sequence, log):
            self._base = reply.installed
            if reply.installed > self.acked:
                self.acked = reply.installed
                effects.append(Acknowledge(self.acked))
        else:
            self._base = sequence
            self._refresh_owed = True
        begin = SyncBegin(self._generation, self._base + 1, flow_count, suspects)
        return effects + self._begin_sync(begin, now_ns)

    def _begin_sync(self, begin: SyncBegin, now_ns: int) -> list[Effect]:
        self.syncing = True
        self._ready_since_ns = None
        self._comparison_wanted = self._asked_again = False
        self.report.begin(begin.suspects, self._settings.capacity, now_ns)
        refresh = self._refresh_owed and bool(begin.suspects)
        return [
            WriteStream(encode_frame(begin)),
            *self._say_members(self._members),
            StartSnapshot(begin.next, self._window, begin.suspects, refresh),
        ]

    def want_comparison(self, now_ns: int) -> list[Effect]:
        """An operator's `resync`: a new stream, and on it what differs."""
        self._comparison_wanted = True
        effects = self.close("resync", now_ns)
        self._connect_at_ns = now_ns
        return effects

    def finish_snapshot(
        self, sequence: int, flow_count: int, digest: int, flows_sent: int, refreshed: int
    ) -> list[Effect]:
        """The cursor is through and everything up to `sequence` was put on the stream."""
        if self.phase is not Phase.STREAMING or not self.syncing:
            return []
        self.syncing = self._refresh_owed = False
        self._ready_from = sequence
        self.report.note(flows_sent=flows_sent, refreshed=refreshed)
        return [WriteStream(encode_frame(SyncEnd(self._generation, sequence, flow_count, digest)))]

    def tell_members(
        self, service: str, ring_generation: int, members: tuple[MemberWord, ...]
    ) -> list[Effect]:
        """Said at once on an open stream, and first on the next ones: proto/sync.md §4.4."""
        self._members[service] = ring_generation, members
        return self._say_members([service]) if self.phase is Phase.STREAMING else []

    def _say_members(self, services: Iterable[str]) -> list[Effect]:
        if self.protocol is None or self.protocol < PROTOCOL_OF_MEMBERS:
            return []
        return [
            WriteStream(encode_frame(Members(self._generation, service, *self._members[service])))
            for service in services
        ]

    def overrun(self, now_ns: int) -> list[Effect]:
        """The log has overwritten records the peer had not acknowledged: what differs is sent on a new stream."""
        return self.close("log overrun", now_ns) if self.phase is Phase.STREAMING else []

    def leave(self, sequence: int, *, handover: bool) -> list[Effect]:
        """LEAVING; nothing follows it."""
        return [WriteStream(encode_frame(Leaving(self._generation, sequence, handover)))]

    def encode_deltas(self, first: int, count: int, records: bytes) -> bytes:
        self._sent_head = max(self._sent_head, first + count - 1)
        return encode_frame(Deltas(self._generation, first, count, records))

    # --- what comes back -------------------------------------------------------------------------

    def hear(self, beat: Heartbeat, log: LogState, now_ns: int) -> list[Effect]:
        """Acknowledgement and readiness, from a heartbeat."""
        if self.phase is not Phase.STREAMING:
            return []
        # proto/sync.md §5: an ACK names its log; for another log it is ignored.
        ours = beat.ack_boot_id == self._boot_id and beat.generation == self._generation
        ready = ours and beat.ready and not self.syncing and beat.ack_sequence >= self._ready_from
        if ready and self._ready_since_ns is None:
            self._ready_since_ns = now_ns
            self._was_ready = True
            self.report.finish(now_ns)
        elif not ready:
            self._ready_since_ns = None
        if not ours or beat.ack_sequence <= max(self.acked, self._base):
            return []
        # Nobody can have installed what was never written.
        if beat.ack_sequence > self._head(log):
            return []
        self.acked = beat.ack_sequence
        return [Acknowledge(self.acked)]

    @property
    def ready(self) -> bool:
        return self.phase is Phase.STREAMING and self._ready_since_ns is not None

    def state(self, *, peer_alive: bool) -> SyncState:
        if self.ready:
            return SyncState.READY
        if self.phase in (Phase.HELLO, Phase.STREAMING):
            return SyncState.SYNCING
        lost = (self._was_ready or self.refused is not None) and peer_alive
        return SyncState.DEGRADED if lost else SyncState.NONE

    def next_deadline_ns(self) -> int | None:
        return self._handshake_until_ns if self.phase is not Phase.IDLE else self._connect_at_ns

    def _head(self, log: LogState) -> int:
        # The shell's word on the log may be older than the last batch it asked us to encode.
        return max(log.head_sequence, self._sent_head)
