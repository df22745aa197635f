"""What a node does in each role, and when: hearing the peer, frames, time.

1. `node.py` is the interface on top of it; `giving_way.py` beneath says when a fitter peer takes over, `alone.py` asks
   before a node acts alone, and `role_changes.py` holds the state and how roles change.
2. Nothing is said or armed here but through the methods beneath, so that their order holds.
"""

from __future__ import annotations

from hasyncd.core.effects import AnnounceVips, Effect, ReportEvent, Stop, WriteGeneration
from hasyncd.core.election import Event, judge_listening
from hasyncd.core.giving_way import GivingWay
from hasyncd.core.liveness import has_slept
from hasyncd.core.messages import Frame, Heartbeat, Hello, Resume, SyncBegin
from hasyncd.core.paths import SYNC
from hasyncd.core.replication import Phase
from hasyncd.core.types import MILLISECOND_NS, Role
from hasyncd.core.versions import PROTOCOL_OF_YOUTH
from hasyncd.core.vip_watch import Intention, Purpose
from hasyncd.core.wire import Rejected


class Conduct(GivingWay):
    def next_deadline_ns(self) -> int | None:
        """When `handle_timer` wants to be called; None before `start`."""
        if not self._deadline_known:
            self._deadline_ns, self._deadline_known = self._earliest_deadline_ns(), True
        return self._deadline_ns

    def _earliest_deadline_ns(self) -> int | None:
        earliest = None
        for deadline in (
            *self._timers.deadlines(),
            self._silence_deadline_ns(),
            self._paths.next_deadline_ns(),
            *self._inquiry.deadlines(),
            *self._holding.deadlines(),
            *self._witness.deadlines(),
            self._deaths.probe_at_ns,
            self._sender.next_deadline_ns(),
            self._receiver.next_deadline_ns(),
            self._handover.deadline_ns,
            self._advantage.deadline_ns,
            self._aside_deadline_ns(),
        ):  # asked at every input: no list, no generator
            if deadline is not None and (earliest is None or deadline < earliest):
                earliest = deadline
        return earliest

    # --- hearing -----------------------------------------------------------------------------------

    def _hear_as_backup(self, beat: Heartbeat, now_ns: int) -> list[Effect]:
        if beat.role is Role.PRIMARY:
            self._receiver.hear(beat)
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
            rank = (self._election.generation, self._settings.priority, self._settings.node)
            young = self._young and beat.protocol >= PROTOCOL_OF_YOUTH  # what one cannot say, neither weighs
            if beat.standing > (not young, *rank) and not beat.leaving:
                self._receiver.hear(beat)
                return self._step_down(now_ns)
            # It will disarm when it hears us; until then its echo is no licence.
            return []
        effects: list[Effect] = []
        if beat.leaving and not self._timers.trusts(now_ns):
            return effects
        if beat.leaving:
            return effects + self._go_solo("the peer is leaving", now_ns, proven=True)
        if self._election.adopt(beat.generation):
            # A peer with a longer history would refuse our stream: its number is taken, without + 1,
            # because a promotion of that peer takes the next one.
            effects += [WriteGeneration(beat.generation), *self._sender.close("generation", now_ns)]
            self._sender.begin(beat.generation)
        if beat.echo_boot_id == self._boot_id:
            until = self._liveness.echoed_lease_ns()
            if self._lease.echo(until, now_ns):
                effects += [*self._lease.pair(until), ReportEvent("paired", beat.node)]
                effects += self._announce_again(now_ns)
                self._witness.end_alone()
            else:
                effects += self._lease.extend(until)
        effects += self._sender.hear(beat, self._log, now_ns)
        if self._peer_takes_streams(now_ns):
            self._sender.want_stream(now_ns)
            effects += self._time_of_streams(now_ns)
        return effects + self._judge_fitness(now_ns)

    def _announce_again(self, now_ns: int) -> list[Effect]:
        """Whoever was silent may have had the VIPs, too, and hosts may still send to it: proto/pair.md §7."""
        if not self._lease.armed:
            return []
        self._timers.start_train(now_ns)
        return [AnnounceVips()]

    def _tell_about_peer(self, beat: Heartbeat) -> list[Effect]:
        effects = self._versions.hear(beat)
        if self._silence_told:
            self._silence_told = False
            self._timers.wait_until_ns = None
            self._witness.tell_anew()
            effects.append(ReportEvent("peer_heard", beat.node))
        matches = beat.config_hash == self._config_hash
        if self._config_told is not matches:
            self._config_told = matches
            if not matches:
                effects.append(
                    ReportEvent("config_skew", f"{beat.node} runs another configuration: sync.md §4.3")
                )
        return effects

    def _judge_paths(self, now_ns: int) -> list[Effect]:
        """proto/pair.md §5b: changes are told; a stream without its path would only stall."""
        changes = self._paths.judge(now_ns)
        effects: list[Effect] = [
            ReportEvent("path_up", change.name) if change.up
            else ReportEvent("path_down", f"{change.name}: {change.why}")
            for change in changes
        ]  # fmt: skip
        lost = any(change.name == SYNC and not change.up for change in changes)
        # Where the peer is silent everywhere, or leaves, that decides; what the stream still holds may count.
        if lost and self._liveness.living_peer(now_ns) is not None and self._timers.leave_at_ns is None:
            effects += self._close_streams("path_down: sync", now_ns)
        return effects

    # --- frames ----------------------------------------------------------------------------------

    def _receive_frame(self, frame: Frame, now_ns: int) -> list[Effect]:
        if self._election.role is Role.PRIMARY:
            return self._sender.receive_frame(frame, self._log, now_ns)
        if self._receiver.phase is not Phase.HELLO or not isinstance(frame, Hello):
            if self._offering.under_way and self._receiver.phase is Phase.BEGIN:
                raise Rejected("unexpected_frame")
            effects = self._receiver.receive_frame(frame, now_ns)
            begins = isinstance(frame, Resume | SyncBegin)
            return self._offering.judged() + effects if begins else effects
        if frame.node == self._settings.node:
            raise Rejected("own_node")
        self._election.hear(frame.generation)
        effects = self._follow(now_ns) if self._election.role is Role.INIT else []
        greeting = self._receiver.greet(frame, self._election.generation, now_ns)
        if self._receiver.greeted:
            self._deaths.cancel()
            if self._election.adopt(frame.generation):
                effects.append(WriteGeneration(frame.generation))
            greeting = self._offering.before(greeting, frame)
        return effects + greeting

    # --- time --------------------------------------------------------------------------------------

    def _wake(self, now_ns: int) -> list[Effect]:
        """Own lateness, judged at every input: the timer may not be the first to run after a sleep."""
        deadline = self.next_deadline_ns()
        self._deadline_known = False  # whatever the input is, it may move it
        if deadline is None or not has_slept(deadline, now_ns, self._settings):
            return []
        late_ms = (now_ns - deadline) // MILLISECOND_NS
        self._liveness.listen_from(now_ns)
        self._paths.listen_from(now_ns)
        rearms = self._intends(Purpose.REARM)
        self._drop_intention()
        self._witness.forget_request()
        self._timers.postpone(now_ns, self._settings.dead_after_ns)
        self._deaths.void()
        self._advantage.forget()
        self._receiver.listen_from(now_ns)
        effects: list[Effect] = [ReportEvent("slept", f"{late_ms} ms late")]
        if self._lease.solo and self._lease.armed and now_ns >= self._lease.until_ns:
            effects += self._lease.suspend()
            self._witness.end_alone()
            self._holding.end()
            rearms = True
        if rearms:
            self._timers.rearm_at_ns = now_ns + self._settings.dead_after_ns
        return effects

    def _silence_deadline_ns(self) -> int | None:
        """When the peer's silence has consequences that it did not have yet."""
        role = self._election.role
        if self._silence_told or self._handover.stop or self._timers.heartbeat_ns is None:
            return None
        if self._inquiry.intention is not None:
            return None
        held = self._inquiry.hold_until_ns or 0
        if role is Role.BACKUP:
            return max(self._liveness.silent_at_ns, held)
        if role is Role.PRIMARY and not self._lease.solo:
            return max(self._liveness.silent_for_primary_at_ns, held)
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
        if event is Event.LISTENED_ALONE:
            # Judged again should the answer never come.
            patience_ns = self._settings.probe_ns + 3 * self._settings.dead_after_ns
            self._timers.listen_until_ns = now_ns + patience_ns
            return effects + self._intend(Intention(Purpose.PROMOTE, event.value, event), now_ns)
        return effects + self._promote(event, event.value, now_ns)

    def _time_in_backup(self, now_ns: int) -> list[Effect]:
        if self._timers.leave_at_ns is not None and now_ns >= self._timers.leave_at_ns:
            if self._receiver.handed_over:
                return self._promote(Event.HANDED_OVER, "the primary handed over", now_ns)
            return self._promote(Event.PEER_LEFT, "the primary has left", now_ns)
        waited = self._timers.wait_until_ns is not None and now_ns >= self._timers.wait_until_ns
        silent_at = self._silence_deadline_ns()
        if waited or (silent_at is not None and now_ns >= silent_at):
            if self._settings.acts_alone and (waited or not self._is_worth_waiting()):
                # From here on it is the answer that is waited for; where somebody has the VIPs, the next one.
                self._timers.wait_until_ns, self._silence_told = None, False
                silence = (now_ns - (self._liveness.last_heard_ns or now_ns)) // MILLISECOND_NS
                reason = f"the primary is silent for {silence} ms"
                return self._intend(Intention(Purpose.PROMOTE, reason, Event.PEER_SILENT), now_ns)
            self._silence_told = True
            if self._settings.acts_alone:
                return self._wait_for_the_silent(now_ns)
            self._election.step(Event.PEER_SILENT_UNSURE)
            return [ReportEvent("peer_silent", "prefer = safety: waiting for proof or an operator")]
        if self._timers.nobody_leads_at_ns is not None and now_ns >= self._timers.nobody_leads_at_ns:
            self._timers.nobody_leads_at_ns = None
            if self._election.step(Event.NOBODY_LEADS) is not None:
                self._listen(now_ns)
                return [*self._close_incoming("nobody leads"), self._report(Role.BACKUP, "nobody leads")]
        return []

    def _is_worth_waiting(self) -> bool:
        """pair.md §4b: somebody silent may come back, and has what we lack."""
        waited = self._inquiry.hold_until_ns is not None
        return self._settings.wait_ns > 0 and not waited and not self._receiver.history.synced

    def _wait_for_the_silent(self, now_ns: int) -> list[Effect]:
        self._election.step(Event.PEER_SILENT_WAITING)
        self._timers.wait_until_ns = now_ns + self._settings.wait_ns
        patience = self._settings.wait_ns // MILLISECOND_NS
        return [
            ReportEvent(
                "promotion_waits", f"the primary is silent and our copy is not complete: {patience} ms more"
            )
        ]

    def _time_in_primary(self, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._timers.rearm_at_ns is not None and now_ns >= self._timers.rearm_at_ns:
            self._timers.rearm_at_ns = None
            effects += self._intend(Intention(Purpose.REARM, "slept"), now_ns)
        if self._timers.take_announcement(now_ns):
            effects.append(AnnounceVips())
        silent_at = self._silence_deadline_ns()
        if silent_at is not None and now_ns >= silent_at:
            if self._settings.acts_alone:
                replaced = self._liveness.may_be_replaced(now_ns)
                intention = Intention(Purpose.SOLO, "the peer is silent")
                effects += self._intend(intention, now_ns, ask_lans=replaced)
            else:
                self._silence_told = True
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
            self._settings.sync_enabled and not self._handover.active and not self._paths.is_down(SYNC)
            and peer is not None and not peer.leaving and peer.role in (Role.INIT, Role.BACKUP)
        )  # fmt: skip
