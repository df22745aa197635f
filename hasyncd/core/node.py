"""One node of the pair: election, liveness, lease and replication composed behind one interface.

1. Every input takes `now_ns` last and returns the effects to perform, in order. Inputs never raise for what
   the peer sent: rejections are counted under their names.
2. After every input the shell re-arms its one timer from `next_deadline_ns()`; `handle_timer` may be called
   at any time, early too.
3. Answers to effects (`receive_installed`, `receive_sync_swept`, …) are inputs like any other and come in the
   order of their effects.
4. `receive_log_state` comes right before every other input of a primary: sequences named in frames and
   digests named in heartbeats speak of that moment.
5. One stream at a time. A connection that was accepted is first shown to `refuse_stream`; a stream that the
   core closed itself (`CloseStream`) is not reported by `receive_stream_closed`.
"""

from __future__ import annotations

from hasyncd.core.effects import (
    CloseStream,
    Effect,
    ProbePeerPort,
    ReportEvent,
    StopDeltas,
    WriteStream,
)
from hasyncd.core.election import Event
from hasyncd.core.handover import HANDOVER_REASONS
from hasyncd.core.liveness import Unproven
from hasyncd.core.messages import Refuse
from hasyncd.core.paths import SYNC
from hasyncd.core.register import Answer
from hasyncd.core.replication import Phase, StreamRefused
from hasyncd.core.telling import Telling
from hasyncd.core.types import (
    Findings,
    LogState,
    NodeView,
    PathView,
    PeerView,
    Role,
    SyncState,
    SyncView,
    VipState,
)
from hasyncd.core.wire import FrameReader, Rejected, decode_frame, decode_heartbeat, encode_frame


class Node(Telling):
    """proto/pair.md and proto/sync.md as one object without a clock or a socket."""

    # --- inputs: time and orders -------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Effect]:
        """Begins to listen and to be heard. Call once, before any other input."""
        self._deadline_known = False
        self._liveness.listen_from(now_ns)
        self._listen(now_ns)
        return self._beat(now_ns, on_schedule=True) + self._time_of_witness(now_ns)

    def handle_timer(self, now_ns: int) -> list[Effect]:
        """Everything that time decides."""
        effects = self._wake(now_ns)
        match self._election.role:
            case Role.INIT:
                effects += self._time_in_init(now_ns)
            case Role.BACKUP:
                effects += self._time_in_backup(now_ns)
            case Role.PRIMARY:
                effects += self._time_in_primary(now_ns)
            case Role.FAULT:
                effects += self._come_back(now_ns)
        if self._deaths.take_probe(now_ns):
            effects.append(ProbePeerPort())
        effects += self._judge_paths(now_ns)
        effects += self._time_of_vips(now_ns)
        effects += self._time_of_streams(now_ns)
        effects += self._time_of_handover(now_ns)
        effects += self._judge_fitness(now_ns)
        if self._timers.heartbeat_ns is not None and now_ns >= self._timers.heartbeat_ns:
            if self._lease.solo and self._lease.armed and self._witness.licenses:
                effects += self._lease.act_alone(now_ns)
            effects += self._beat(now_ns, on_schedule=True)
        return effects + self._settle(now_ns)

    def receive_fault(self, reason: str, now_ns: int) -> list[Effect]:
        """This machine is unfit: an interface is gone, the generation could not be written."""
        self._deadline_known = False
        self._stepped_aside = False
        return self._fail(reason, now_ns)

    def clear_fault(self, now_ns: int) -> list[Effect]:
        """The machine is fit again: listen, as after a start."""
        effects = self._wake(now_ns)
        return effects + self._clear_fault(now_ns)

    def receive_sample(self, name: str, good: bool, why: str, now_ns: int) -> list[Effect]:
        """A check of the machine has ended (proto/pair.md §4e): of a track of the settings, or of the LAN `inside`
        or `outside`; `why` is for people."""
        effects = self._wake(now_ns)
        return effects + self._take_sample(name, good, why, now_ns) + self._settle(now_ns)

    def command_switchover(self, force: bool, now_ns: int) -> tuple[bool, str, list[Effect]]:
        """An operator wants the other node to be primary (or, with `force`, this one)."""
        effects = self._wake(now_ns)
        role = self._election.role
        if role is Role.PRIMARY:
            if self._handover.active:
                return False, "already handing over", effects
            if not self._sender.ready:
                return False, "the peer is not ready: flows would be lost", effects
            if not force and (undone := self._why_not_to_hand_over(now_ns)):
                return False, undone, effects
            effects += self._begin_handover(now_ns, cause=Event.SWITCHOVER)
            return True, "handing over to the peer", effects
        if role is Role.FAULT:
            return False, "this node is in fault", effects
        if not force:
            return False, f"this node is {role.value}: ask the primary, or use --force", effects
        effects += self._promote(Event.FORCED, "an operator forced it", now_ns)
        return True, "promoted by force", effects + self._settle(now_ns)

    def command_resync(self, full: bool, now_ns: int) -> tuple[bool, str, list[Effect]]:
        """A comparison of both tables, or with `full` every flow anew; begun by whichever side is asked."""
        effects = self._wake(now_ns)
        if self._election.role is Role.PRIMARY:
            if self._sender.phase is not Phase.STREAMING:
                return False, "no stream to the peer", effects
            if full:
                effects += self._sender.full_sync(self._log, now_ns)
                return True, "full sync begun", effects + self._settle(now_ns)
            effects += self._sender.want_comparison(now_ns)
            return True, "comparison begun", effects + self._settle(now_ns)
        if self._election.role is Role.BACKUP and self._receiver.greeted:
            self._receiver.distrust(everything=full)
            effects += self._close_incoming("resync")
            asked = "full sync asked for" if full else "comparison asked for"
            return True, asked, effects + self._settle(now_ns)
        return False, f"this node is {self._election.role.value} without a stream", effects

    def command_stop(self, now_ns: int) -> list[Effect]:
        """SIGTERM: hands over where it can, then says `Stop`."""
        effects = self._wake(now_ns)
        if self._handover.active:
            self._handover.stop = True
            return effects
        if self._election.role is Role.PRIMARY and self._sender.ready:
            return effects + self._begin_handover(now_ns, cause=Event.STOP)
        return effects + self._stop_now(now_ns)

    # --- inputs: the peer ----------------------------------------------------------------------------

    def receive_datagram(self, payload: bytes, now_ns: int, path: str = SYNC) -> list[Effect]:
        """One datagram from the peer's address on this path."""
        effects = self._wake(now_ns)
        try:
            beat = decode_heartbeat(payload)
            if self._paths.is_later_copy(path, beat, self._liveness.beat):
                self._paths.hear(path, beat, now_ns)
                return effects + self._judge_paths(now_ns) + self._settle(now_ns)
            fresh_boot = self._liveness.accept(beat, now_ns)
        except Rejected as rejected:
            self._rejections[rejected.name] += 1
            return effects
        except Unproven:
            # It is told what to echo, and nothing else follows from it.
            return effects + self._beat(now_ns, echo=beat, path=path)
        self._paths.hear(path, beat, now_ns)
        self._paths.learn(beat)
        self._election.hear(beat.generation)
        self._deaths.hear(now_ns)
        self._hear_instead(now_ns)
        effects += self._tell_about_peer(beat)
        effects += self._judge_paths(now_ns)
        match self._election.role:
            case Role.INIT:
                if beat.role is Role.PRIMARY and not beat.leaving:
                    self._receiver.hear(beat)
                    effects += self._follow(now_ns)
            case Role.BACKUP:
                effects += self._hear_as_backup(beat, now_ns)
            case Role.PRIMARY:
                effects += self._hear_as_primary(beat, now_ns)
            case Role.FAULT:
                effects += self._come_back(now_ns)
        if fresh_boot:
            # Whoever is new is answered at once, so that both know each other within one round trip.
            effects += self._beat(now_ns)
        return effects + self._settle(now_ns)

    def refuse_stream(self) -> bytes | None:
        """A connection was accepted: None, and `receive_stream_accepted` is to follow (it replaces a
        stream that is still open); or one frame to write before closing it, and nothing is to follow.
        """
        listens = self._settings.sync_enabled and self._election.role in (Role.INIT, Role.BACKUP)
        return None if listens and not self._handover.leaving else encode_frame(Refuse("role"))

    def receive_stream_accepted(self, now_ns: int) -> list[Effect]:
        """The peer has connected to us."""
        effects = self._wake(now_ns)
        refusal = self.refuse_stream()
        if refusal is not None:
            return [*effects, WriteStream(refusal), CloseStream("refused: role", flush=True)]
        self._reader = FrameReader()
        self._receiver.closed()
        self._receiver.accept(now_ns)
        return effects

    def receive_stream_opened(self, now_ns: int) -> list[Effect]:
        """`ConnectStream` has succeeded."""
        effects = self._wake(now_ns)
        self._reader = FrameReader()
        return effects + self._sender.open(self._log, self._receiver.seed, now_ns)

    def receive_stream_data(self, data: bytes, now_ns: int) -> list[Effect]:
        """Bytes of the stream, in any chunking."""
        effects = self._wake(now_ns)
        if self._sender.phase is Phase.IDLE and self._receiver.phase is Phase.IDLE:
            return effects  # the rest of a stream that we have closed
        reader = self._reader
        try:
            for body in reader.feed(data):
                effects += self._receive_frame(decode_frame(body), now_ns)
                if self._reader is not reader:
                    break
            self._receiver.hear_bytes(self._reader.unfinished, now_ns)
            self._sender.hear_bytes(now_ns)
        except Rejected as rejected:
            effects += self._reject_stream(rejected.name, now_ns)
        except StreamRefused as refused:
            effects += self._refuse_peer(refused, now_ns)
        effects += self._consider_handover(now_ns)
        return effects + self._settle(now_ns)

    def receive_stream_closed(self, now_ns: int) -> list[Effect]:
        """The peer (or the kernel) has ended the stream, or `ConnectStream` has failed. Everything that
        had arrived on it was delivered before.
        """
        effects = self._wake(now_ns)
        self._reader = FrameReader()
        role = self._election.role
        if role is Role.PRIMARY and self._sender.phase is not Phase.IDLE:
            established = self._sender.phase is Phase.STREAMING
            self._sender.closed(now_ns)
            effects.append(StopDeltas())
            if established:
                self._deaths.begin(now_ns)
        elif role is Role.BACKUP and self._receiver.phase is not Phase.IDLE:
            established = self._receiver.greeted
            left = self._timers.leave_at_ns is not None and self._receiver.left is None
            self._receiver.closed()
            if left and self._timers.trusts(now_ns):
                effects += self._promote(Event.PEER_LEFT, "the primary has left", now_ns)
            elif established:
                self._deaths.begin(now_ns)
        else:
            self._receiver.closed()
        if self._deaths.take_probe(now_ns):
            effects.append(ProbePeerPort())
        return effects + self._settle(now_ns)

    def receive_port_refused(self, now_ns: int) -> list[Effect]:
        """The attempt of `ProbePeerPort` was refused."""
        effects = self._wake(now_ns)
        if not self._deaths.refuse():
            return effects
        self._deaths.cancel()
        if self._election.role is Role.BACKUP:
            effects += self._promote(Event.PEER_DEAD, "the primary's process is dead", now_ns)
        elif self._election.role is Role.PRIMARY:
            effects += self._go_solo("the backup's process is dead", now_ns, proven=True)
        return effects + self._settle(now_ns)

    # --- inputs: the table -----------------------------------------------------------------------

    def receive_log_state(
        self,
        head_sequence: int,
        flow_count: int,
        digest: int,
        oldest_sequence: int,
        at_risk: int,
        at_risk_oldest_ns: int,
        now_ns: int,
    ) -> list[Effect]:
        """Fresh numbers of our own table and log (rule 4): the fields of `LogState`."""
        effects = self._wake(now_ns)
        self._log = LogState(head_sequence, flow_count, digest, oldest_sequence, at_risk, at_risk_oldest_ns)
        if self._election.role is not Role.PRIMARY:
            self._receiver.table_is(flow_count, digest)
        self._deadline_known = not effects  # numbers of the table are no deadlines
        return effects

    def receive_installed(
        self, installed_count: int, rejection: str | None, flow_count: int, digest: int, now_ns: int
    ) -> list[Effect]:
        """`InstallRecords` was performed: how many records, what stopped it, and the table after it."""
        effects = self._wake(now_ns)
        try:
            news = self._receiver.installed(installed_count, rejection, flow_count, digest)
        except Rejected as rejected:
            if self._receiver.take_unsaid():
                effects += self._beat(now_ns)
            return effects + self._reject_stream(rejected.name, now_ns) + self._settle(now_ns)
        effects += self._consider_handover(now_ns)
        if news and self._election.role is Role.BACKUP:
            effects += self._beat(now_ns)
        return effects + self._settle(now_ns)

    def receive_bucket_digests(self, digests: bytes, now_ns: int) -> list[Effect]:
        """`DigestBuckets` was performed."""
        effects = self._wake(now_ns)
        return effects + self._receiver.reply(digests) + self._settle(now_ns)

    def receive_suspects(self, suspects: bytes, sequence: int, flow_count: int, now_ns: int) -> list[Effect]:
        """`CompareBuckets` was performed: the buckets that differed when `sequence` was the log's head."""
        effects = self._wake(now_ns)
        effects += self._sender.compared(suspects, sequence, flow_count, self._log, now_ns)
        return effects + self._settle(now_ns)

    def receive_sync_swept(
        self, flow_count: int, digest: int, findings: Findings, now_ns: int
    ) -> list[Effect]:
        """`EndSync` was performed: the table after it, and what the sync has changed."""
        effects = self._wake(now_ns)
        try:
            news = self._receiver.swept(flow_count, digest, findings, now_ns)
        except Rejected as rejected:
            return effects + self._reject_stream(rejected.name, now_ns) + self._settle(now_ns)
        if news:
            effects += [*news, *self._beat(now_ns)]
            if self._timers.wait_until_ns is not None:  # pair.md §4b: nothing is to be waited for any more
                self._timers.wait_until_ns = now_ns
        return effects + self._settle(now_ns)

    def receive_vip_states(self, states: tuple[VipState, ...], now_ns: int) -> list[Effect]:
        """`LookAtVips` was performed: one state a VIP."""
        effects = self._wake(now_ns)
        effects += self._holding.learn(states, now_ns)
        finding = self._inquiry.conclude(states, now_ns)
        if finding is not None:
            effects += self._judge_finding(finding, now_ns)
        return effects + self._time_of_vips(now_ns) + self._settle(now_ns)

    def receive_witness_answer(self, number: int, answer: Answer, now_ns: int) -> list[Effect]:
        """`AskWitness` was performed: the answer to the request of this number."""
        effects = self._wake(now_ns)
        return effects + self._hear_witness(number, answer, now_ns) + self._settle(now_ns)

    def receive_snapshot_finished(
        self, sequence: int, flow_count: int, digest: int, flows_sent: int, refreshed: int, now_ns: int
    ) -> list[Effect]:
        """The cursor is through; everything up to `sequence` is on the stream. It has appended `flows_sent` ADDs
        and `refreshed` UPDATEs."""
        effects = self._wake(now_ns)
        effects += self._sender.finish_snapshot(sequence, flow_count, digest, flows_sent, refreshed)
        return effects + self._settle(now_ns)

    def receive_log_overrun(self, now_ns: int) -> list[Effect]:
        """Unacknowledged records were overwritten, or a stream was to begin with one the log no longer holds."""
        effects = self._wake(now_ns)
        effects += [ReportEvent("log_overrun"), *self._sender.overrun(now_ns)]
        return effects + self._settle(now_ns)

    def receive_log_flushed(self, head_sequence: int, now_ns: int) -> list[Effect]:
        """`FlushLog` is done: everything up to `head_sequence` is on the stream."""
        effects = self._wake(now_ns)
        if not self._handover.flushing:
            return effects
        cause = self._handover.cause
        effects += self._sender.leave(head_sequence, handover=True)
        effects += [StopDeltas(), CloseStream("handed over", flush=True)]
        self._sender.begin(self._election.generation)
        self._handover.said(now_ns)
        # The next number is the peer's now: should both promote unheard, each has its own (P4).
        self._election.hear(self._election.generation + 1)
        self._election.step(cause)
        effects += self._leave_role("handed over", now_ns)
        effects.append(self._report(Role.PRIMARY, HANDOVER_REASONS[cause]))
        return effects + self._beat(now_ns) + self._settle(now_ns)

    # --- what the shell and `status` ask -------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self._election.role

    @property
    def generation(self) -> int:
        return self._election.generation

    @property
    def seed(self) -> bytes:
        """What keys the table now."""
        return self._receiver.seed

    def encode_deltas(self, first: int, count: int, records: bytes) -> bytes:
        """One whole DELTAS frame for records `first` … `first + count - 1`."""
        return self._sender.encode_deltas(first, count, records)

    def view(self, now_ns: int) -> NodeView:
        role = self._election.role
        beat = self._liveness.beat
        alive = self._liveness.living_peer(now_ns) is not None
        match role:
            case Role.PRIMARY:
                state = self._sender.state(peer_alive=alive)
                match_ = True if self._sender.ready else None
            case Role.BACKUP:
                state, match_ = self._receiver.state(), self._receiver.digest_match
            case _:
                state, match_ = SyncState.NONE, None
        peer = PeerView(
            self._liveness.state(now_ns), self._liveness.last_heard_ns,
            beat.node if beat else None, beat.role if beat else None, beat.generation if beat else None,
            beat.config_hash == self._config_hash if beat else None,
            beat.at_risk if beat and beat.role is Role.PRIMARY else None,
            beat.at_risk_oldest_ms if beat and beat.role is Role.PRIMARY else None,
            beat.ring_generations if beat else (),
            tuple(PathView(path.name, path.up is True, path.heard_ns) for path in self._paths),
            self._versions.pair, self._versions.fitness_of(beat) if beat else None,
            beat.flow_count if beat else None, beat.ready if beat else None,
            beat.tables == self._voice.tables if beat and self._versions.tells_tables else None,
        )  # fmt: skip
        half = self._sender if role is Role.PRIMARY else self._receiver
        streaming = half.phase in (Phase.BEGIN, Phase.STREAMING)
        reason = f"refused: {half.refused}" if half.refused and state is SyncState.DEGRADED else None
        if state is SyncState.DEGRADED and self._paths.is_down(SYNC):
            reason = f"path_down: {SYNC}"
        # A solo primary holds no commit (`_settle`): what its peer has is safe, what comes next is promised nothing.
        if state is SyncState.READY and role is Role.PRIMARY and self._lease.solo:
            state, reason = SyncState.DEGRADED, "solo"
        # The flows are safe: what is not alike is what would become of them, and of new ones (proto/sync.md §4.3).
        if state is SyncState.READY and peer.config_matches is False:
            state, reason = SyncState.DEGRADED, "config_skew"
        sync = SyncView(
            state, self._receiver.history.installed, self._sender.acked, self._log.head_sequence,
            match_, self._sender.report.full_syncs + self._receiver.report.full_syncs,
            self._sender.report.least_syncs + self._receiver.report.least_syncs, reason,
            half.protocol if streaming else None, half.features if streaming else None, half.report.last,
            self._sender.merging.report if role is Role.PRIMARY else self._offering.report,
        )  # fmt: skip
        return NodeView(
            role, self._election.generation, self._lease.solo and role is Role.PRIMARY, self._lease.armed,
            self._lease.until_ns, self._says_leaving(), self._commit_held, peer, sync, self._certificate,
            self._reason, dict(self._rejections), self._holding.views(), self._tracks.fitness, self._tracks.views(),
            self._witness.view(),
        )  # fmt: skip
