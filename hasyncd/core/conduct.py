"""What a node does in each role: hearing, time, changes of role, handing over, being heard.

1. `node.py` is the interface on top of it; this file holds the state and the conduct.
2. Roles change in `_promote`, `_follow`, `_step_down`, `_time_in_backup` (nobody leads) and the inputs for
   faults and hand-overs, always through `Election.step`, and each change ends what its role had begun
   (`_leave_role`).
3. Order inside a list of effects is safety: disarm before anything is said, write the generation before arming.
"""

from __future__ import annotations

from collections import Counter

from hasyncd.core.effects import (
    AnnounceVips,
    CloseStream,
    Effect,
    FlushLog,
    Relay,
    ReportEvent,
    ReportRole,
    SetCommit,
    Stop,
    WriteGeneration,
)
from hasyncd.core.election import Election, Event, judge_listening
from hasyncd.core.handover import RELAY_NS, Handover
from hasyncd.core.lease import Lease
from hasyncd.core.liveness import DeathWatch, Liveness, has_slept
from hasyncd.core.messages import Frame, Heartbeat, Hello
from hasyncd.core.receiver import Receiver
from hasyncd.core.replication import Phase
from hasyncd.core.sender import Sender
from hasyncd.core.timers import Timers
from hasyncd.core.types import MILLISECOND_NS, Certificate, LogState, PairSettings, Role
from hasyncd.core.voice import Voice
from hasyncd.core.wire import FrameReader, Rejected


class Conduct:
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
        self._voice = Voice(settings, boot_id)
        self._timers = Timers()
        self._silence_told = False
        self._commit_held = False
        self._config_told: bool | None = None
        self._certificate: Certificate | None = None
        self._reason = "started"
        self._rejections: Counter[str] = Counter()

    def next_deadline_ns(self) -> int | None:
        """When `handle_timer` wants to be called; None before `start`."""
        earliest = None
        for deadline in (
            *self._timers.deadlines(),
            self._silence_deadline_ns(),
            self._deaths.probe_at_ns,
            self._sender.next_deadline_ns(),
            self._receiver.next_deadline_ns(),
            self._handover.deadline_ns,
        ):  # asked at every input: no list, no generator
            if deadline is not None and (earliest is None or deadline < earliest):
                earliest = deadline
        return earliest

    # --- hearing -----------------------------------------------------------------------------------

    def _hear_as_backup(self, beat: Heartbeat, now_ns: int) -> list[Effect]:
        if not self._timers.trusts(now_ns) and (beat.leaving or beat.role is Role.INIT):
            return []  # if it is still so, it will be said again
        if beat.leaving:
            # The stream may still hold what came before LEAVING, and LEAVING itself: they go first.
            if self._receiver.phase is not Phase.IDLE and not self._handover.stop:
                if self._timers.leave_at_ns is None:
                    self._timers.leave_at_ns = now_ns + self._settings.dead_after_ns
                return []
            return self._promote(Event.PEER_LEFT, "the primary has left", now_ns)
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
        if self._receiver.greeted and self._receiver.compare(beat, now_ns):
            self._rejections["drift"] += 1
            effects += [
                ReportEvent("drift", "two heartbeats in a row do not fit what is held"),
                *self._close_incoming("drift"),
            ]
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
        if beat.leaving and not self._timers.trusts(now_ns):
            return effects
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
                effects.append(
                    ReportEvent("config_skew", f"{beat.node} runs another configuration: sync.md §4.3")
                )
        return effects

    # --- frames ----------------------------------------------------------------------------------

    def _receive_frame(self, frame: Frame, now_ns: int) -> list[Effect]:
        if self._election.role is Role.PRIMARY:
            return self._sender.receive_frame(frame, self._log, now_ns)
        if self._receiver.phase is not Phase.HELLO or not isinstance(frame, Hello):
            return self._receiver.receive_frame(frame, now_ns)
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
        # In fault the peer takes over what was sent: let it be sent.
        flush = self._election.role is Role.FAULT
        return self._sender.close(reason, now_ns, flush=flush) + self._close_incoming(reason)

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
        self._deaths.void()
        self._receiver.listen_from(now_ns)
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
            if self._receiver.handed_over:
                return self._promote(Event.HANDED_OVER, "the primary handed over", now_ns)
            return self._promote(Event.PEER_LEFT, "the primary has left", now_ns)
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
        late = self._receiver.late(now_ns)
        if late == "stalled":
            return effects + self._reject_stream(late, now_ns)
        return effects + (self._close_incoming(late) if late else [])

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
        """Disarm, relay what arrives, flush the log; LEAVING follows in `receive_log_flushed`."""
        self._handover.begin(now_ns, stop=stop)
        self._timers.end_role()
        relay = Relay(now_ns + RELAY_NS)
        return [*self._lease.suspend(), relay, FlushLog(), *self._settle(now_ns)]

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
        if self._timers.trusts(now_ns):
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

    def _beat(self, now_ns: int, *, on_schedule: bool = False, echo: Heartbeat | None = None) -> list[Effect]:
        """One heartbeat; `on_schedule` moves the next one a whole interval away. It echoes the newest one
        heard, or `echo`, which has to prove itself."""
        if on_schedule:
            self._timers.heartbeat_ns = now_ns + self._settings.heartbeat_ns
        role, held = self._election.role, self._receiver.history
        ready = self._sender.ready if role is Role.PRIMARY else role is Role.BACKUP and held.synced
        solo = role is Role.PRIMARY and self._lease.solo
        return [
            self._voice.beat(
                now_ns, self._election, self._liveness, held, self._log,
                leaving=self._says_leaving(), ready=ready, solo=solo, echo=echo,
            )
        ]  # fmt: skip

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
