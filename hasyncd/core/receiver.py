"""The backup's half of the stream: every frame checked, everything installed accounted for.

Sequences are contiguous or the stream ends (S3); what was installed is acknowledged and nothing else (S6);
*ready* is proven by count and digest and lost again by drift (§7, S8).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NoReturn

from hasyncd.core.buckets import suspects_fit
from hasyncd.core.certificate import Mirror, certify
from hasyncd.core.effects import (
    BeginSync,
    CloseStream,
    DigestBuckets,
    Effect,
    EndSync,
    FollowMembers,
    InstallRecords,
    ReportEvent,
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
    Members,
    Offer,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.replication import HANDSHAKE_NS, STALL_NS, Phase
from hasyncd.core.sync_report import SyncReport, tell_findings
from hasyncd.core.types import Certificate, Findings, PairSettings, SyncState
from hasyncd.core.versions import PROTOCOL_OF_MEMBERS
from hasyncd.core.wire import Rejected, encode_frame


@dataclass(slots=True)
class History:
    """Whose log the table mirrors, and how far."""

    boot_id: int = 0
    generation: int = 0
    installed: int = 0
    synced: bool = False
    goes_on: bool = True
    """What follows `installed` in that log fits the table."""


FAILURES_MAX = 2
"""Rejected records without a completed sync between them, until everything is asked for; a mismatch counts as two."""


UNSAID_MAX = 1024
"""Records that are installed before they are acknowledged, where more was read than these; proto/sync.md §5."""


class Receiver:
    """The backup's half of the stream."""

    def __init__(self, settings: PairSettings, boot_id: int, seed: bytes) -> None:
        self._settings = settings
        self._boot_id = boot_id
        self.seed = seed
        """What keys the table now; a full sync brings the primary's."""
        self._hello: Hello | None = None
        self._offered = False
        # What the stream owes, and since when nothing of it came (S4a).
        self._unfinished = False
        self._waits_since_ns: int | None = None
        self._received = 0
        self._handshake_until_ns: int | None = None
        # Batches given to the table and not yet answered, oldest first: (round, first, count).
        self._pending: deque[tuple[int, int, int]] = deque()
        self._round = 0
        self._unsaid = 0  # records that were installed and not yet acknowledged
        self._sweep: tuple[int, SyncEnd] | None = None
        self._flow_count = 0
        self._digest = 0
        self._verdict: bool | None = None
        self._mismatches = 0
        self._promised_head = 0
        self._was_synced = False
        self._from_empty = False
        self._word: Heartbeat | None = None
        self._failures = 0
        self._everything_wanted = False
        self._replies = False
        self.refused: str | None = None
        """What the last HELLO was refused for, until one is not."""
        self.protocol: int | None = None
        self.features: int | None = None
        self.phase = Phase.IDLE
        self.history = History()
        self.left: Leaving | None = None
        self.report = SyncReport()

    # --- the stream ------------------------------------------------------------------------------

    def accept(self, now_ns: int) -> None:
        self.phase = Phase.HELLO
        self.left = None
        self._handshake_until_ns = now_ns + HANDSHAKE_NS

    def closed(self) -> None:
        """The stream has ended. What was received stays: those batches are the table's already."""
        self.phase = Phase.IDLE
        self._handshake_until_ns = self._waits_since_ns = None
        self._sweep = None
        self._replies = self._unfinished = False
        self.left = None

    def forget(self) -> None:
        """The table is our own to write from now on: it mirrors nobody."""
        self.closed()
        self.history = History()
        self._round += 1
        self._verdict = None
        self._was_synced = self._everything_wanted = self._from_empty = False
        self._failures = 0
        self._word = None

    def distrust(self, *, everything: bool = False) -> None:
        """What is held is not what the peer holds: the next HELLO_REPLY asks for what differs, or for everything.
        Whose log it was, and how far, stays true."""
        self.history.synced = self._from_empty = False
        self._everything_wanted |= everything

    def _fail(self, name: str) -> NoReturn:
        """A sync, or a record, did not fit: the table is distrusted. Raises `Rejected`."""
        self._failures += FAILURES_MAX if name == "full_sync_mismatch" else 1
        self._round += 1
        self.distrust()
        raise Rejected(name)

    def listen_from(self, now_ns: int) -> None:
        """Silence counts from now on."""
        self._waits_since_ns = now_ns if self._is_owed() else None

    def go_on_offering(self, now_ns: int) -> None:
        """Of an offer, ahead of HELLO_REPLY, each batch begins the handshake's second anew (proto/sync.md §7a)."""
        if self.phase is Phase.BEGIN:
            self._handshake_until_ns = now_ns + HANDSHAKE_NS

    def hear_bytes(self, unfinished: bool, now_ns: int) -> None:
        """The stream has brought something; `unfinished`: the rest of a frame is still to come."""
        self._unfinished = unfinished
        self.listen_from(now_ns)

    def _is_owed(self) -> bool:
        if self.phase is not Phase.STREAMING:
            return False
        return self._unfinished or not self.history.synced or self._promised_head > self._received

    def late(self, now_ns: int) -> str | None:
        """What the stream is to be closed for: a handshake that takes too long, or a silence (S4a)."""
        if self._handshake_until_ns is not None and now_ns >= self._handshake_until_ns:
            return "handshake timeout"
        if self._waits_since_ns is not None and now_ns >= self._waits_since_ns + STALL_NS:
            return "stalled"
        return None

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
        self._hello = hello
        self._replies = True
        self.protocol = min(hello.protocol, self._settings.protocols[1])
        self.features = hello.features & self._settings.features
        if not self._pending and (self._resumable(hello) or self._asks_for_everything(hello)):
            return self.reply(b"")
        return [DigestBuckets(hello.capacity)]

    def reply(self, digests: bytes) -> list[Effect]:
        """HELLO_REPLY, of the moment of these digests: every batch before it is installed."""
        hello, held = self._hello, self.history
        if hello is None or not self._replies:
            return []
        self._replies = False
        resumable = self._resumable(hello)
        if resumable or self._asks_for_everything(hello):
            digests = b""
        self._offered = bool(digests)
        frame = HelloReply(
            min(hello.protocol, self._settings.protocols[1]), self._settings.node, self._boot_id,
            held.generation, held.boot_id if held.goes_on else 0, held.installed,
            held.synced and (resumable or self._offered), hello.features & self._settings.features,
            self._settings.window, digests,
        )  # fmt: skip
        return [WriteStream(encode_frame(frame))]

    def _resumable(self, hello: Hello) -> bool:
        """proto/sync.md §7: RESUME is what HELLO lets us expect."""
        held = self.history
        same_log = (held.boot_id, held.generation) == (hello.boot_id, hello.generation)
        return held.synced and same_log and hello.resume_from <= held.installed + 1 <= hello.log_next

    def _asks_for_everything(self, hello: Hello) -> bool:
        """S6c: nothing is held that digests could speak of, or they are not believed."""
        empty = self._flow_count == 0 or self.seed != hello.seed
        return empty or self._everything_wanted or self._failures >= FAILURES_MAX

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

    def receive_frame(self, frame: Frame, now_ns: int) -> list[Effect]:
        """Everything after HELLO. Raises `Rejected`."""
        hello = self._hello
        if (
            isinstance(frame, Hello | HelloReply | Refuse | Offer)
            or not self.greeted
            or hello is None
            or self._replies
        ):
            raise Rejected("unexpected_frame")
        if frame.generation != hello.generation:
            raise Rejected("wrong_generation")
        match frame:
            case SyncBegin():
                return self._begin_sync(frame, hello, now_ns)
            case Resume():
                return self._resume(frame, hello, now_ns)
            case Deltas():
                return self._take_deltas(frame)
            case SyncEnd():
                return self._end_sync(frame)
            case Leaving():
                return self._take_leave(frame)
            case Members():
                return self._take_members(frame)

    def _begin_sync(self, frame: SyncBegin, hello: Hello, now_ns: int) -> list[Effect]:
        # Also in the middle of deltas: the primary starts over (an operator's resync --full).
        if frame.suspects and not (self._offered and suspects_fit(frame.suspects, hello.capacity)):
            raise Rejected("bad_field")
        self._offered = False
        self._everything_wanted &= bool(frame.suspects)
        self.phase = Phase.STREAMING
        self._handshake_until_ns = None
        self._from_empty = hello.seed != self.seed or (self._flow_count == 0 and not self._pending)
        self._round += 1
        self._pending.clear()
        self._sweep = None
        self._received = frame.next - 1
        self._verdict = None
        self._mismatches = self._promised_head = 0
        self.report.begin(frame.suspects, hello.capacity, now_ns)
        self.history = History(hello.boot_id, hello.generation, self._received, synced=False)
        # "Under a new seed the receiver empties its table at SYNC_BEGIN." (proto/sync.md §7)
        reset: list[Effect] = [ResetTable(hello.seed)] if hello.seed != self.seed else []
        self.seed = hello.seed
        return [*reset, BeginSync(frame.suspects, hello.capacity)]

    def _resume(self, frame: Resume, hello: Hello, now_ns: int) -> list[Effect]:
        if self.phase is not Phase.BEGIN:
            raise Rejected("unexpected_frame")
        held = self.history
        same_log = (held.boot_id, held.generation) == (hello.boot_id, hello.generation)
        if not held.synced or not same_log or frame.next != held.installed + 1:
            raise Rejected("sequence_gap")
        self.phase = Phase.STREAMING
        self._handshake_until_ns = None
        self._received = held.installed
        self.report.resume(now_ns)
        return []

    def _take_deltas(self, frame: Deltas) -> list[Effect]:
        if self.phase is not Phase.STREAMING:
            raise Rejected("unexpected_frame")
        if frame.first != self._received + 1:
            raise Rejected("sequence_gap")
        self._received += frame.count
        self._pending.append((self._round, frame.first, frame.count))
        return [InstallRecords(frame.first, frame.count, frame.records)]

    def _take_members(self, frame: Members) -> list[Effect]:
        if self.phase is not Phase.STREAMING or (self.protocol or 0) < PROTOCOL_OF_MEMBERS:
            raise Rejected("unexpected_frame")
        return [FollowMembers(frame.service, frame.ring_generation, frame.members)]

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
        """One batch was applied; True when it is to be acknowledged now (§5). Raises `Rejected` when the batch was not
        installed whole: the table is distrusted from there on."""
        if not self._pending:
            return False
        round_, first, promised = self._pending.popleft()
        if round_ != self._round:
            return False
        self._flow_count, self._digest = flow_count, digest
        self.history.installed = first + min(count, promised) - 1
        self._unsaid += min(count, promised)
        if rejection is not None or count != promised:
            self.history.goes_on = False
            self._fail(rejection or "count_mismatch")
        return (not self._pending or self._unsaid >= UNSAID_MAX) and self.take_unsaid()

    def take_unsaid(self) -> bool:
        """Whether anything was installed since this was asked last: now it is told."""
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid > 0

    def swept(self, flow_count: int, digest: int, findings: Findings, now_ns: int) -> list[Effect]:
        """The sweep of SYNC_END is done; something to report when the tables are proven equal. Raises `Rejected`
        (`full_sync_mismatch`) when they are not; nothing when nobody waits for the answer any more.
        """
        if self._sweep is None:
            return []
        round_, end = self._sweep
        self._sweep = None
        if round_ != self._round:
            return []
        self._flow_count, self._digest = flow_count, digest
        self._verdict = (flow_count, digest) == (end.flow_count, end.digest)
        if not self._verdict:
            self._fail("full_sync_mismatch")
        self.history.synced = self._was_synced = True
        self._failures = 0
        self._promised_head = end.sequence
        self.listen_from(now_ns)
        self.report.note(added=findings.added, replaced=findings.replaced, removed=findings.removed)
        done = self.report.finish(now_ns)
        findings_told = [tell_findings(done)] if done and done.kind == "least" else []
        return [*findings_told, ReportEvent("sync_ready", f"{flow_count} flows")]

    def hear(self, beat: Heartbeat) -> None:
        """The primary's newest word, by which our own completeness is judged."""
        self._word = beat

    def compare(self, beat: Heartbeat, now_ns: int) -> bool:
        """Compares the primary's digest with ours where both speak of the same record, and its log with the one that
        the stream is of; True means drift (S8): two mismatches in a row.
        """
        held = self.history
        if (beat.boot_id, beat.generation) != (held.boot_id, held.generation):
            return self.phase is Phase.STREAMING and self._drifts()
        self._promised_head = beat.head_sequence
        if self._waits_since_ns is None or not self._is_owed():
            self.listen_from(now_ns)
        if not held.synced or self._pending or beat.digest_sequence != held.installed:
            return False
        self._verdict = (beat.flow_count, beat.digest) == (self._flow_count, self._digest)
        if self._verdict:
            self._mismatches = 0
            return False
        return self._drifts()

    def _drifts(self) -> bool:
        self._mismatches += 1
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
        if self._handshake_until_ns is not None or self._waits_since_ns is None:
            return self._handshake_until_ns
        return self._waits_since_ns + STALL_NS
