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

from collections import Counter

from hasyncd.core.effects import (
    AnnounceVips,
    CloseStream,
    Effect,
    FlushLog,
    ProbePeerPort,
    ReportEvent,
    ReportRole,
    SendDatagram,
    SetCommit,
    Stop,
    StopDeltas,
    WriteGeneration,
    WriteStream,
)
from hasyncd.core.election import Election, Event, judge_listening
from hasyncd.core.handover import Handover
from hasyncd.core.lease import Lease
from hasyncd.core.liveness import DeathWatch, Liveness, has_slept
from hasyncd.core.messages import PROTOCOL, Frame, Heartbeat, Hello, Refuse
from hasyncd.core.replication import Phase, Receiver, Sender, StreamRefused
from hasyncd.core.timers import Timers
from hasyncd.core.types import (
    MILLISECOND_NS,
    Certificate,
    LogState,
    NodeView,
    PairSettings,
    PeerView,
    Role,
    SyncState,
    SyncView,
)
from hasyncd.core.wire import (
    FrameReader,
    Rejected,
    decode_frame,
    decode_heartbeat,
    encode_frame,
    encode_heartbeat,
)


class Node:
    """proto/pair.md and proto/sync.md as one object without a clock or a socket."""

    def __init__(
        self, settings: PairSettings, boot_id: int, generation: int, seed: bytes, now_ns: int
    ) -> None:
        """`boot_id` is a random u64 other than 0; `generation` comes from the state directory, 0 when there
        is none; `seed` is 16 random bytes, already the table's.
        """
        self._settings = settings
        self._boot_id = boot_id
        self._election = Election(generation)
        self._liveness = Liveness(settings, boot_id, now_ns)
        self._deaths = DeathWatch(settings)
        self._lease = Lease(settings)
        self._sender = Sender(settings, boot_id)
        self._receiver = Receiver(settings, boot_id, seed)
        self._handover = Handover(settings)
        self._reader = FrameReader()
        self._log = LogState()
        self._rings: tuple[int, ...] = ()
        self._counter = 0
        self._timers = Timers()
        self._silence_told = False
        self._commit_held = False
        self._config_told: bool | None = None
        self._certificate: Certificate | None = None
        self._reason = "started"
        self._rejections: Counter[str] = Counter()

    # --- inputs: time and orders -------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Effect]:
        """Begins to listen and to be heard. Call once, before any other input."""
        self._liveness.listen_from(now_ns)
        self._listen(now_ns)
        return self._beat(now_ns, on_schedule=True)

    def next_deadline_ns(self) -> int | None:
        """When `handle_timer` wants to be called; None before `start`."""
        deadlines = [
            *self._timers.deadlines(),
            self._silence_deadline_ns(),
            self._deaths.probe_at_ns,
            self._sender.next_deadline_ns(),
            self._receiver.next_deadline_ns(),
            self._handover.deadline_ns,
        ]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

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
                pass
        if self._deaths.take_probe(now_ns):
            effects.append(ProbePeerPort())
        effects += self._time_of_streams(now_ns)
        effects += self._time_of_handover(now_ns)
        if self._timers.heartbeat_ns is not None and now_ns >= self._timers.heartbeat_ns:
            if self._lease.solo and self._lease.armed:
                effects += self._lease.act_alone(now_ns)
            effects += self._beat(now_ns, on_schedule=True)
        return effects + self._settle(now_ns)

    def receive_fault(self, reason: str, now_ns: int) -> list[Effect]:
        """This machine is unfit: an interface is gone, the generation could not be written."""
        previous = self._election.role
        effects = self._lease.disarm()
        self._election.step(Event.FAULT)
        effects += self._leave_role(reason, now_ns)
        self._receiver.forget()
        if previous is not Role.FAULT:
            effects.append(self._report(previous, f"fault: {reason}"))
        return effects + self._beat(now_ns) + self._settle(now_ns)

    def clear_fault(self, now_ns: int) -> list[Effect]:
        """The machine is fit again: listen, as after a start."""
        effects = self._wake(now_ns)
        previous = self._election.role
        if self._election.step(Event.FAULT_CLEARED) is None:
            return effects
        self._listen(now_ns)
        return [*effects, self._report(previous, "fault cleared"), *self._beat(now_ns)]

    def command_switchover(self, force: bool, now_ns: int) -> tuple[bool, str, list[Effect]]:
        """An operator wants the other node to be primary (or, with `force`, this one)."""
        effects = self._wake(now_ns)
        role = self._election.role
        if role is Role.PRIMARY:
            if self._handover.active:
                return False, "already handing over", effects
            if not self._sender.ready:
                return False, "the peer is not ready: flows would be lost", effects
            return True, "handing over to the peer", effects + self._begin_handover(now_ns, stop=False)
        if role is Role.FAULT:
            return False, "this node is in fault", effects
        if not force:
            return False, f"this node is {role.value}: ask the primary, or use --force", effects
        effects += self._promote(Event.FORCED, "an operator forced it", now_ns)
        return True, "promoted by force", effects + self._settle(now_ns)

    def command_resync(self, now_ns: int) -> tuple[bool, str, list[Effect]]:
        """A full sync from the first slot, begun by whichever side is asked."""
        effects = self._wake(now_ns)
        if self._election.role is Role.PRIMARY:
            if self._sender.phase is not Phase.STREAMING:
                return False, "no stream to the peer", effects
            effects += self._sender.full_sync(self._log)
            return True, "full sync begun", effects + self._settle(now_ns)
        if self._election.role is Role.BACKUP and self._receiver.greeted:
            self._receiver.distrust()
            effects += self._close_incoming("resync")
            return True, "full sync asked for", effects + self._settle(now_ns)
        return False, f"this node is {self._election.role.value} without a stream", effects

    def command_stop(self, now_ns: int) -> list[Effect]:
        """SIGTERM: hands over where it can, then says `Stop`."""
        effects = self._wake(now_ns)
        if self._handover.active:
            self._handover.stop = True
            return effects
        if self._election.role is Role.PRIMARY and self._sender.ready:
            return effects + self._begin_handover(now_ns, stop=True)
        return effects + self._stop_now(now_ns)

    # --- inputs: the peer ----------------------------------------------------------------------------

    def receive_datagram(self, payload: bytes, now_ns: int) -> list[Effect]:
        """One datagram from the peer's heartbeat address."""
        effects = self._wake(now_ns)
        try:
            beat = decode_heartbeat(payload)
            fresh_boot = self._liveness.accept(beat, now_ns)
        except Rejected as rejected:
            self._rejections[rejected.name] += 1
            return effects
        self._election.hear(beat.generation)
        self._deaths.hear(now_ns)
        effects += self._tell_about_peer(beat)
        match self._election.role:
            case Role.INIT:
                if beat.role is Role.PRIMARY and not beat.leaving:
                    effects += self._follow(now_ns)
            case Role.BACKUP:
                effects += self._hear_as_backup(beat, now_ns)
            case Role.PRIMARY:
                effects += self._hear_as_primary(beat, now_ns)
            case Role.FAULT:
                pass
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
        reader = self._reader
        try:
            for body in reader.feed(data):
                effects += self._receive_frame(decode_frame(body), now_ns)
                if self._reader is not reader:
                    break
        except Rejected as rejected:
            effects += self._reject_stream(rejected.name, now_ns)
        except StreamRefused as refused:
            effects += [
                ReportEvent("stream_refused", refused.reason),
                *self._close_streams("refused", now_ns),
            ]
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
            self._receiver.closed()
            if self._timers.leave_at_ns is not None and self._receiver.left is None:
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
            effects += self._go_solo("the backup's process is dead", now_ns)
        return effects + self._settle(now_ns)

    # --- inputs: the table -----------------------------------------------------------------------

    def receive_log_state(
        self, head_sequence: int, flow_count: int, digest: int, oldest_sequence: int, now_ns: int
    ) -> list[Effect]:
        """Fresh numbers of our own table and log (rule 4)."""
        effects = self._wake(now_ns)
        self._log = LogState(head_sequence, flow_count, digest, oldest_sequence)
        if self._election.role is Role.BACKUP:
            self._receiver.table_is(flow_count, digest)
        return effects

    def receive_installed(
        self, installed_count: int, rejection: str | None, flow_count: int, digest: int, now_ns: int
    ) -> list[Effect]:
        """`InstallRecords` was performed: how many records, what stopped it, and the table after it."""
        effects = self._wake(now_ns)
        try:
            news = self._receiver.installed(installed_count, rejection, flow_count, digest)
        except Rejected as rejected:
            return effects + self._reject_stream(rejected.name, now_ns) + self._settle(now_ns)
        effects += self._consider_handover(now_ns)
        if news and self._election.role is Role.BACKUP:
            effects += self._beat(now_ns)
        return effects + self._settle(now_ns)

    def receive_sync_swept(self, flow_count: int, digest: int, now_ns: int) -> list[Effect]:
        """`EndSync` was performed: the table after it."""
        effects = self._wake(now_ns)
        try:
            proven = self._receiver.swept(flow_count, digest)
        except Rejected as rejected:
            return effects + self._reject_stream(rejected.name, now_ns) + self._settle(now_ns)
        if proven:
            effects += [ReportEvent("sync_ready", f"{flow_count} flows"), *self._beat(now_ns)]
        return effects + self._settle(now_ns)

    def receive_snapshot_finished(
        self, sequence: int, flow_count: int, digest: int, now_ns: int
    ) -> list[Effect]:
        """The cursor is through; everything up to `sequence` is on the stream."""
        effects = self._wake(now_ns)
        return effects + self._sender.finish_snapshot(sequence, flow_count, digest) + self._settle(now_ns)

    def receive_log_overrun(self, now_ns: int) -> list[Effect]:
        """Unacknowledged records were overwritten, or `SendFrom` names one the log no longer holds."""
        effects = self._wake(now_ns)
        effects += [ReportEvent("log_overrun"), *self._sender.overrun(self._log, now_ns)]
        return effects + self._settle(now_ns)

    def receive_log_flushed(self, head_sequence: int, now_ns: int) -> list[Effect]:
        """`FlushLog` is done: everything up to `head_sequence` is on the stream."""
        effects = self._wake(now_ns)
        if not self._handover.flushing:
            return effects
        stop = self._handover.stop
        effects += self._sender.leave(head_sequence, handover=True)
        effects += [StopDeltas(), CloseStream("handed over", flush=True)]
        self._sender.begin(self._election.generation)
        self._handover.said(now_ns)
        self._election.step(Event.STOP if stop else Event.SWITCHOVER)
        effects += self._leave_role("handed over", now_ns)
        effects.append(self._report(Role.PRIMARY, "stopping" if stop else "an operator's switchover"))
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

    def set_ring_generations(self, rings: tuple[int, ...]) -> None:
        """One a service, in order of configuration; the next heartbeat carries them."""
        self._rings = rings

    def reject(self, name: str) -> None:
        """Counts a rejection that the shell met before the core did."""
        self._rejections[name] += 1

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
            beat.config_hash == self._settings.config_hash if beat else None,
            beat.ring_generations if beat else (),
        )  # fmt: skip
        sync = SyncView(
            state, self._receiver.history.installed, self._sender.acked, self._log.head_sequence,
            match_, self._sender.full_syncs + self._receiver.full_syncs,
        )  # fmt: skip
        return NodeView(
            role, self._election.generation, self._lease.solo and role is Role.PRIMARY, self._lease.armed,
            self._lease.until_ns, self._says_leaving(), self._commit_held, peer, sync, self._certificate,
            self._reason, dict(self._rejections),
        )  # fmt: skip

    # --- hearing -----------------------------------------------------------------------------------

    def _hear_as_backup(self, beat: Heartbeat, now_ns: int) -> list[Effect]:
        if beat.leaving:
            # The stream may still hold what came before LEAVING, and LEAVING itself: they go first.
            if self._receiver.phase is not Phase.IDLE and not self._handover.stop:
                if self._timers.leave_at_ns is None:
                    self._timers.leave_at_ns = now_ns + self._settings.dead_after_ns
                return []
            return self._promote(Event.PEER_LEFT, "the peer has left", now_ns)
        self._timers.leave_at_ns = None
        if beat.role is Role.INIT:
            # Its process was replaced, or cleared a fault: whoever was primary there is no more.
            return self._promote(Event.PEER_DEAD, "the peer has started anew", now_ns)
        if beat.role is not Role.PRIMARY:
            if self._timers.nobody_leads_at_ns is None:
                self._timers.nobody_leads_at_ns = now_ns + self._settings.dead_after_ns
            return []
        self._timers.nobody_leads_at_ns = None
        effects: list[Effect] = []
        if self._handover.finish():
            effects.append(Stop())
        if self._receiver.greeted and self._receiver.compare(beat):
            self._rejections["drift"] += 1
            effects += [ReportEvent("drift", "two digests in a row differ"), *self._close_incoming("drift")]
        # The answer follows the primary's beat, so that the echo its lease counts from is young.
        return effects + self._beat(now_ns, on_schedule=True)

    def _hear_as_primary(self, beat: Heartbeat, now_ns: int) -> list[Effect]:
        if beat.role is Role.PRIMARY:
            own = (self._election.generation, self._settings.priority, self._settings.node)
            if beat.rank > own and not beat.leaving:
                return self._step_down(now_ns)
            # It will disarm when it hears us; until then its echo is no licence.
            return []
        effects: list[Effect] = []
        if beat.leaving:
            return effects + self._go_solo("the peer is leaving", now_ns)
        if self._election.adopt(beat.generation):
            # A peer with a longer history would refuse our stream: its number is taken, without + 1,
            # because a promotion of that peer takes the next one.
            effects += [WriteGeneration(beat.generation), *self._sender.close("generation", now_ns)]
            self._sender.begin(beat.generation)
        if beat.echo_boot_id == self._boot_id:
            until = self._liveness.echoed_lease_ns()
            if self._lease.echo(until, now_ns):
                effects += [*self._lease.pair(until), ReportEvent("paired", beat.node)]
            else:
                effects += self._lease.extend(until)
        effects += self._sender.hear(beat, self._log, now_ns)
        if self._peer_takes_streams(now_ns):
            self._sender.want_stream(now_ns)
            effects += self._time_of_streams(now_ns)
        return effects

    def _tell_about_peer(self, beat: Heartbeat) -> list[Effect]:
        effects: list[Effect] = []
        if self._silence_told:
            self._silence_told = False
            effects.append(ReportEvent("peer_heard", beat.node))
        matches = beat.config_hash == self._settings.config_hash
        if self._config_told is not matches:
            self._config_told = matches
            if not matches:
                effects.append(ReportEvent("config_differs", f"{beat.node} runs another configuration"))
        return effects

    # --- frames ----------------------------------------------------------------------------------

    def _receive_frame(self, frame: Frame, now_ns: int) -> list[Effect]:
        if self._election.role is Role.PRIMARY:
            return self._sender.receive_frame(frame, self._log)
        if self._receiver.phase is not Phase.HELLO or not isinstance(frame, Hello):
            return self._receiver.receive_frame(frame)
        if frame.node == self._settings.node:
            raise Rejected("own_node")
        self._election.hear(frame.generation)
        effects = self._follow(now_ns) if self._election.role is Role.INIT else []
        greeting = self._receiver.greet(frame, self._election.generation, now_ns)
        if self._receiver.greeted:
            self._deaths.cancel()
            if self._election.adopt(frame.generation):
                effects.append(WriteGeneration(frame.generation))
        return effects + greeting

    def _reject_stream(self, name: str, now_ns: int) -> list[Effect]:
        self._rejections[name] += 1
        return [ReportEvent("stream_rejected", name), *self._close_streams(name, now_ns)]

    def _close_streams(self, reason: str, now_ns: int) -> list[Effect]:
        return self._sender.close(reason, now_ns) + self._close_incoming(reason)

    def _close_incoming(self, reason: str) -> list[Effect]:
        if self._receiver.phase is Phase.IDLE:
            return []
        self._receiver.closed()
        self._reader = FrameReader()
        return [CloseStream(reason)]

    # --- time --------------------------------------------------------------------------------------

    def _wake(self, now_ns: int) -> list[Effect]:
        """Own lateness, judged at every input: the timer may not be the first to run after a sleep."""
        deadline = self.next_deadline_ns()
        if deadline is None or not has_slept(deadline, now_ns, self._settings):
            return []
        late_ms = (now_ns - deadline) // MILLISECOND_NS
        self._liveness.listen_from(now_ns)
        self._timers.postpone(now_ns, self._settings.dead_after_ns)
        effects: list[Effect] = [ReportEvent("slept", f"{late_ms} ms late")]
        if self._lease.solo and self._lease.armed and now_ns >= self._lease.until_ns:
            effects += self._lease.suspend()
            self._timers.rearm_at_ns = now_ns + self._settings.dead_after_ns
        return effects

    def _silence_deadline_ns(self) -> int | None:
        """When the peer's silence has consequences that it did not have yet."""
        role = self._election.role
        if self._silence_told or self._handover.stop or self._timers.heartbeat_ns is None:
            return None
        if role is Role.BACKUP or (role is Role.PRIMARY and not self._lease.solo):
            return self._liveness.silent_at_ns
        return None

    def _time_in_init(self, now_ns: int) -> list[Effect]:
        if self._timers.listen_until_ns is None or now_ns < self._timers.listen_until_ns:
            return []
        own = (self._election.generation, self._settings.priority, self._settings.node)
        peer = self._liveness.living_peer(now_ns)
        event = judge_listening(own, peer, acts_alone=self._settings.acts_alone)
        if event is Event.HEARD_PRIMARY:
            return self._follow(now_ns)
        effects: list[Effect] = []
        if event is Event.LISTENED_UNSURE and not self._silence_told:
            self._silence_told = True
            effects.append(ReportEvent("unsure", "nobody heard, and prefer = safety: an operator decides"))
        if event in (Event.LISTENED_UNSURE, Event.LISTENED_RANKED_LOWER):
            self._election.step(event)
            self._timers.listen_until_ns = now_ns + self._settings.dead_after_ns
            return effects
        return effects + self._promote(event, event.value, now_ns)

    def _time_in_backup(self, now_ns: int) -> list[Effect]:
        if self._timers.leave_at_ns is not None and now_ns >= self._timers.leave_at_ns:
            return self._promote(Event.PEER_LEFT, "the peer has left", now_ns)
        silent_at = self._silence_deadline_ns()
        if silent_at is not None and now_ns >= silent_at:
            if self._settings.acts_alone:
                silence = (now_ns - (self._liveness.last_heard_ns or now_ns)) // MILLISECOND_NS
                return self._promote(Event.PEER_SILENT, f"the primary is silent for {silence} ms", now_ns)
            self._silence_told = True
            self._election.step(Event.PEER_SILENT_UNSURE)
            return [ReportEvent("peer_silent", "prefer = safety: waiting for proof or an operator")]
        if self._timers.nobody_leads_at_ns is not None and now_ns >= self._timers.nobody_leads_at_ns:
            self._timers.nobody_leads_at_ns = None
            if self._election.step(Event.NOBODY_LEADS) is not None:
                self._listen(now_ns)
                return [*self._close_incoming("nobody leads"), self._report(Role.BACKUP, "nobody leads")]
        return []

    def _time_in_primary(self, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._timers.rearm_at_ns is not None and now_ns >= self._timers.rearm_at_ns:
            self._timers.rearm_at_ns = None
            effects += [*self._arm(now_ns, solo=self._lease.solo), AnnounceVips()]
        if self._timers.take_announcement(now_ns):
            effects.append(AnnounceVips())
        silent_at = self._silence_deadline_ns()
        if silent_at is not None and now_ns >= silent_at:
            self._silence_told = True
            if self._settings.acts_alone:
                effects += self._go_solo("the peer is silent", now_ns)
            else:
                effects += self._sender.close("the peer is silent", now_ns)
                effects.append(ReportEvent("peer_silent", "prefer = safety: the lease ends"))
        return effects

    def _time_of_streams(self, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._election.role is Role.PRIMARY:
            effects += self._sender.handle_timer(now_ns, reachable=self._peer_takes_streams(now_ns))
        if self._receiver.handshake_expired(now_ns):
            effects += self._close_incoming("handshake timeout")
        return effects

    def _time_of_handover(self, now_ns: int) -> list[Effect]:
        deadline = self._handover.deadline_ns
        if deadline is None or now_ns < deadline:
            return []
        if self._handover.flushing:
            return self._abort_handover("the log could not be flushed in time", now_ns)
        # SIGTERM, and the peer has not shown itself as primary: it hears `leaving` for the last time.
        self._handover.finish()
        return [*self._beat(now_ns), Stop()]

    def _peer_takes_streams(self, now_ns: int) -> bool:
        peer = self._liveness.living_peer(now_ns)
        return (
            self._settings.sync_enabled and not self._handover.active
            and peer is not None and not peer.leaving and peer.role in (Role.INIT, Role.BACKUP)
        )  # fmt: skip

    # --- changing role -------------------------------------------------------------------------------

    def _promote(self, event: Event, reason: str, now_ns: int) -> list[Effect]:
        """proto/pair.md §4, step by step. A stopping node promotes no more."""
        previous = self._election.role
        if self._handover.stop:
            return []
        outcome = self._election.step(event)
        if outcome is None or outcome.solo is None:
            return []
        effects = self._close_incoming("promoted")
        self._certificate = self._receiver.certify() if previous is Role.BACKUP else None
        self._receiver.forget()
        self._leave_role(reason, now_ns)
        generation = self._election.next_generation()
        self._sender.begin(generation)
        effects += [WriteGeneration(generation), SetCommit(False)]
        effects += self._arm(now_ns, solo=outcome.solo)
        self._timers.start_train(now_ns)
        effects += [AnnounceVips(), *self._beat(now_ns, on_schedule=True)]
        return [*effects, self._report(previous, reason, self._certificate)]

    def _arm(self, now_ns: int, *, solo: bool) -> list[Effect]:
        return self._lease.arm(now_ns, solo=solo, echoed_until_ns=self._liveness.echoed_lease_ns())

    def _follow(self, now_ns: int) -> list[Effect]:
        """`init` has heard a primary."""
        self._election.step(Event.HEARD_PRIMARY)
        self._leave_role("", now_ns)
        return [self._report(Role.INIT, "heard a primary"), *self._beat(now_ns)]

    def _step_down(self, now_ns: int) -> list[Effect]:
        """P4: the higher rank stays. Disarm first."""
        effects = self._lease.disarm()
        self._election.step(Event.HEARD_HIGHER_PRIMARY)
        effects += self._leave_role("heard a primary of higher rank", now_ns)
        return [*effects, self._report(Role.PRIMARY, "heard a primary of higher rank"), *self._beat(now_ns)]

    def _go_solo(self, reason: str, now_ns: int) -> list[Effect]:
        """A primary whose peer is gone renews its own lease."""
        self._deaths.cancel()
        effects = self._sender.close(reason, now_ns)
        if self._handover.flushing:
            effects += self._abort_handover(reason, now_ns)
        if self._lease.solo or self._handover.leaving:
            return effects
        effects += [*self._lease.act_alone(now_ns), ReportEvent("solo", reason)]
        return effects + self._beat(now_ns)

    def _leave_role(self, reason: str, now_ns: int) -> list[Effect]:
        """What every change of role ends: streams, evidence, trains and patience of the role before."""
        self._deaths.cancel()
        self._timers.end_role()
        self._silence_told = False
        self._liveness.listen_from(now_ns)
        if self._election.role is Role.PRIMARY:
            self._handover.end()
            return []
        if self._election.role is Role.FAULT:
            self._handover.end()
        effects = self._close_streams(reason, now_ns) if reason else []
        self._sender.begin(self._election.generation)
        return effects

    def _listen(self, now_ns: int) -> None:
        self._leave_role("", now_ns)
        self._timers.listen_until_ns = now_ns + self._settings.listen_ns

    # --- handing over ----------------------------------------------------------------------------------

    def _begin_handover(self, now_ns: int, *, stop: bool) -> list[Effect]:
        """Disarm, flush the log; LEAVING follows in `receive_log_flushed`."""
        self._handover.begin(now_ns, stop=stop)
        self._timers.end_role()
        return [*self._lease.suspend(), FlushLog(), *self._settle(now_ns)]

    def _abort_handover(self, reason: str, now_ns: int) -> list[Effect]:
        """Nothing was said yet, so this node is still the primary: it goes on, or stops in the plain way."""
        stop = self._handover.stop
        self._handover.end()
        effects: list[Effect] = [ReportEvent("switchover_aborted", reason)]
        if stop:
            return effects + self._stop_now(now_ns)
        return effects + self._arm(now_ns, solo=self._lease.solo)

    def _stop_now(self, now_ns: int) -> list[Effect]:
        """Leaves without a hand-over: the flag tells the peer."""
        effects: list[Effect] = []
        if self._election.role is Role.PRIMARY:
            effects += self._lease.disarm()
            if self._sender.phase is Phase.STREAMING and not self._sender.syncing:
                effects += self._sender.leave(self._log.head_sequence, handover=False)
        effects += self._sender.close("stopping", now_ns, flush=True) + self._close_incoming("stopping")
        self._timers.end_role()
        self._handover.leave()
        return [*effects, *self._beat(now_ns), *self._settle(now_ns), Stop()]

    def _consider_handover(self, now_ns: int) -> list[Effect]:
        """LEAVING has come: promote when everything before it is installed."""
        left = self._receiver.left
        if left is None or self._election.role is not Role.BACKUP:
            return []
        if self._receiver.handed_over:
            return self._promote(Event.HANDED_OVER, "the primary handed over", now_ns)
        if not left.handover or not self._receiver.history.synced:
            return self._promote(Event.PEER_LEFT, "the primary has left", now_ns)
        if self._timers.leave_at_ns is None:
            self._timers.leave_at_ns = now_ns + self._settings.dead_after_ns
        return []

    # --- saying ----------------------------------------------------------------------------------------

    def _says_leaving(self) -> bool:
        return self._handover.leaving or self._election.role is Role.FAULT

    def _beat(self, now_ns: int, *, on_schedule: bool = False) -> list[Effect]:
        """One heartbeat; `on_schedule` moves the next one a whole interval away."""
        if on_schedule:
            self._timers.heartbeat_ns = now_ns + self._settings.heartbeat_ns
        self._counter += 1
        role = self._election.role
        primary, held = role is Role.PRIMARY, self._receiver.history
        mirrors = role is Role.BACKUP and held.boot_id != 0
        peer = self._liveness.beat
        beat = Heartbeat(
            protocol=PROTOCOL,
            node=self._settings.node,
            boot_id=self._boot_id,
            counter=self._counter,
            role=role,
            generation=self._election.generation,
            priority=self._settings.priority,
            leaving=self._says_leaving(),
            ready=self._sender.ready if primary else role is Role.BACKUP and held.synced,
            solo=primary and self._lease.solo,
            sent_ns=now_ns,
            echo_boot_id=peer.boot_id if peer else 0,
            echo_sent_ns=peer.sent_ns if peer else 0,
            heard_ms=self._liveness.heard_ms(now_ns),
            ack_boot_id=held.boot_id if mirrors else 0,
            ack_sequence=held.installed if mirrors else 0,
            head_sequence=self._log.head_sequence,
            flow_count=self._log.flow_count,
            digest_sequence=self._log.head_sequence if primary else 0,
            digest=self._log.digest if primary else 0,
            config_hash=self._settings.config_hash,
            ring_generations=self._rings,
        )
        return [SendDatagram(encode_heartbeat(beat))]

    def _report(self, previous: Role, reason: str, certificate: Certificate | None = None) -> ReportRole:
        self._reason = reason
        return ReportRole(previous, self._election.role, self._election.generation, reason, certificate)

    def _settle(self, now_ns: int) -> list[Effect]:
        """What follows from the state, whatever the input was: commit holds only while the peer is ready."""
        if self._handover.flushing and self._sender.phase is not Phase.STREAMING:
            return [*self._abort_handover("the stream was lost", now_ns), *self._settle(now_ns)]
        hold = (
            self._election.role is Role.PRIMARY and self._sender.ready
            and not self._lease.solo and not self._handover.active
        )  # fmt: skip
        if hold is self._commit_held:
            return []
        self._commit_held = hold
        return [SetCommit(hold)]
