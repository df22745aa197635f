"""What a node is, and how it becomes something else: changes of role, handing over, being heard.

1. `conduct.py` stands on top of it and says when: it hears the peer and the clock. This file holds the state.
2. Roles change in `_promote`, `_follow`, `_step_down`, in the inputs for faults and hand-overs (`node.py`) and where
   nobody leads (`conduct.py`), always through `Election.step`, and each change ends what its role had begun
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
    ReportEvent,
    ReportRole,
    SetCommit,
    SetSolo,
    Stop,
    WriteGeneration,
)
from hasyncd.core.election import Election, Event
from hasyncd.core.fitness import Advantage, Tracks
from hasyncd.core.handover import RELAY_NS, Handover
from hasyncd.core.lease import Lease
from hasyncd.core.liveness import DeathWatch, Liveness
from hasyncd.core.merge import Offering
from hasyncd.core.messages import Heartbeat
from hasyncd.core.paths import Paths
from hasyncd.core.receiver import Receiver
from hasyncd.core.replication import Phase, StreamRefused
from hasyncd.core.sender import Sender
from hasyncd.core.timers import Timers
from hasyncd.core.types import Certificate, LogState, PairSettings, Role
from hasyncd.core.versions import Versions
from hasyncd.core.vip_watch import Holding, Inquiry
from hasyncd.core.voice import Voice
from hasyncd.core.wire import FrameReader
from hasyncd.core.witness import Witness

_PROOFS = (Event.PEER_DEAD, Event.PEER_LEFT, Event.LISTENED_PEER_LEFT)
"""What speaks of a process of the peer's that is not primary any more."""


class RoleChanges:
    def __init__(
        self, settings: PairSettings, boot_id: int, generation: int, seed: bytes, now_ns: int
    ) -> None:
        """`boot_id` is a random u64 other than 0; `generation` comes from the state directory, 0 when there
        is none; `seed` is 16 random bytes, already the table's.
        """
        self._settings = settings
        self._boot_id = boot_id
        self._config_hash = settings.config_hash
        self._election = Election(generation)
        self._liveness = Liveness(settings, boot_id, now_ns)
        self._paths = Paths(settings, now_ns)
        self._deaths = DeathWatch(settings)
        self._lease = Lease(settings)
        self._inquiry = Inquiry(settings)
        self._holding = Holding(settings)
        self._witness = Witness(settings, boot_id)
        self._sender = Sender(settings, boot_id)
        self._receiver = Receiver(settings, boot_id, seed)
        self._offering = Offering()
        self._handover = Handover(settings)
        self._reader = FrameReader()
        self._log = LogState()
        self._voice = Voice(settings, boot_id)
        self._versions = Versions(settings)
        self._tracks = Tracks(settings)
        self._advantage = Advantage(settings)
        self._sampled_good: dict[str, bool] = {}
        """What the last sample of a track said, whatever its row of samples says."""
        self._stepped_aside = False
        """In fault by its own decision: proto/pair.md §4e."""
        self._timers = Timers()
        # Between two inputs no deadline moves: the shell's question after one is answered for the next one, too.
        self._deadline_ns: int | None = None
        self._deadline_known = False
        self._silence_told = False
        self._commit_held = self._solo_told = False
        self._young = False
        """Of a primary: its table began empty, and no backup has completed a sync of it."""
        self._config_told: bool | None = None
        self._certificate: Certificate | None = None
        self._reason = "started"
        self._rejections: Counter[str] = Counter()

    # --- streams -------------------------------------------------------------------------------------

    def _reject_stream(self, name: str, now_ns: int) -> list[Effect]:
        self._rejections[name] += 1
        return [ReportEvent("stream_rejected", name), *self._close_streams(name, now_ns)]

    def _refuse_peer(self, refused: StreamRefused, now_ns: int) -> list[Effect]:
        return [ReportEvent("stream_refused", refused.reason), *self._close_streams("refused", now_ns)]

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

    # --- changing role -------------------------------------------------------------------------------

    def _promote(self, event: Event, reason: str, now_ns: int, *, granted: bool = False) -> list[Effect]:
        """proto/pair.md §4, step by step. A stopping node promotes no more. `granted`: by the witness."""
        previous = self._election.role
        if self._handover.stop:
            return []
        outcome = self._election.step(event)
        if outcome is None or outcome.solo is None:
            return []
        effects = self._close_incoming("promoted")
        self._certificate = self._receiver.certify() if previous is Role.BACKUP else None
        self._young = previous is Role.INIT and not self._log.flow_count
        self._receiver.forget()
        self._offering.drop()
        self._leave_role(reason, now_ns)
        generation = self._election.next_generation()
        self._sender.begin(generation)
        over = self._liveness.gone_boots() if event in _PROOFS else ()
        self._witness.begin_alone(granted=granted, over=over, forced=event is Event.FORCED)
        effects += [WriteGeneration(generation), SetCommit(False), *self._be_solo(outcome.solo)]
        effects += self._arm(now_ns, solo=outcome.solo)
        self._timers.start_train(now_ns)
        effects += [AnnounceVips(), *self._beat(now_ns, on_schedule=True)]
        return [*effects, self._report(previous, reason, self._certificate), *self._tell_missing()]

    def _tell_missing(self) -> list[Effect]:
        """Whoever takes over without everything says so, loudly: proto/pair.md §4a."""
        certificate = self._certificate
        if certificate is None or certificate.complete:
            return []
        missing = certificate.flows_missing
        how_many = (
            "nobody knows how many flows are missing"
            if missing is None
            else f"at most {missing} flows are missing"
        )
        return [ReportEvent("promoted_incomplete", f"{how_many}; {certificate.flows_held} are held")]

    def _arm(self, now_ns: int, *, solo: bool) -> list[Effect]:
        self._holding.begin(now_ns)
        echoed_until_ns, lent = self._liveness.echoed_lease_ns(), not self._witness.licenses
        return self._lease.arm(now_ns, solo=solo, echoed_until_ns=echoed_until_ns, lent=lent)

    def _drop_intention(self) -> None:
        """What was to be done alone is not, or is done."""
        self._inquiry.cancel()
        self._witness.abandon()

    def _follow(self, now_ns: int) -> list[Effect]:
        """`init` has heard a primary."""
        self._election.step(Event.HEARD_PRIMARY)
        self._leave_role("", now_ns)
        return [self._report(Role.INIT, "heard a primary"), *self._beat(now_ns)]

    def _be_solo(self, solo: bool) -> list[Effect]:
        """P20: before a packet can come that would be given a port."""
        if solo is self._solo_told:
            return []
        self._solo_told = solo
        return [SetSolo(solo)]

    def _step_down(self, now_ns: int) -> list[Effect]:
        """P4, P11: the higher rank stays, an old history before a young one. Disarm first."""
        effects = self._lease.disarm()
        own, beat = self._election.generation, self._liveness.beat
        if beat is not None:
            how = f"{beat.node} is primary of generation {beat.generation}, this node was of {own}"
            effects.append(ReportEvent("split_healed", f"{how}: what only this node has is offered to it"))
        self._offering.want()
        self._election.step(Event.HEARD_HIGHER_PRIMARY)
        effects += self._leave_role("heard a primary of higher rank", now_ns)
        return [*effects, self._report(Role.PRIMARY, "heard a primary of higher rank"), *self._beat(now_ns)]

    def _go_solo(
        self, reason: str, now_ns: int, *, granted: bool = False, proven: bool = False
    ) -> list[Effect]:
        """A primary whose peer is gone renews its own lease: `granted` by the witness, or `proven` (§6, `leaving`)."""
        self._deaths.cancel()
        effects = self._sender.close(reason, now_ns)
        if self._handover.flushing:
            effects += self._abort_handover(reason, now_ns)
        if self._lease.solo or self._handover.leaving:
            return effects
        self._witness.begin_alone(granted=granted, over=self._liveness.gone_boots() if proven else ())
        lent = not self._witness.licenses
        effects += [
            *self._be_solo(True),
            *self._lease.act_alone(now_ns, lent=lent),
            ReportEvent("solo", reason),
        ]
        return effects + self._beat(now_ns)

    def _leave_role(self, reason: str, now_ns: int) -> list[Effect]:
        """What every change of role ends: streams, evidence, trains and patience of the role before."""
        self._deaths.cancel()
        self._drop_intention()
        self._witness.end_alone()
        self._witness.tell_anew()
        self._holding.end()
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

    def _fail(self, reason: str, now_ns: int) -> list[Effect]:
        """This machine is unfit: it owns nothing, and its peer hears that it has left."""
        previous = self._election.role
        effects = self._lease.disarm()
        if previous is Role.PRIMARY:
            self._election.hear(self._election.generation + 1)  # the peer's, as when handing over
        self._election.step(Event.FAULT)
        effects += self._leave_role(reason, now_ns)
        self._receiver.forget()
        if previous is not Role.FAULT:
            effects.append(self._report(previous, f"fault: {reason}"))
        return effects + self._beat(now_ns) + self._settle(now_ns)

    def _clear_fault(self, now_ns: int) -> list[Effect]:
        """Listens, as after a start."""
        previous, self._stepped_aside = self._election.role, False
        if self._election.step(Event.FAULT_CLEARED) is None:
            return []
        self._listen(now_ns)
        return [self._report(previous, "fault cleared"), *self._beat(now_ns)]

    def _listen(self, now_ns: int) -> None:
        self._leave_role("", now_ns)
        self._timers.listen_until_ns = now_ns + self._settings.listen_ns

    # --- handing over ----------------------------------------------------------------------------------

    def _begin_handover(self, now_ns: int, *, cause: Event) -> list[Effect]:
        """Disarm, relay what arrives, flush the log; LEAVING follows in `receive_log_flushed`."""
        self._handover.begin(now_ns, cause)
        self._holding.end()
        self._timers.end_role()
        return [*self._lease.suspend(now_ns + RELAY_NS), FlushLog(), *self._settle(now_ns)]

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
        self._drop_intention()
        self._witness.end_alone()
        self._holding.end()
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

    def _beat(
        self,
        now_ns: int,
        *,
        on_schedule: bool = False,
        echo: Heartbeat | None = None,
        path: str | None = None,
    ) -> list[Effect]:
        """One heartbeat; `on_schedule` moves the next one a whole interval away. It echoes the newest one
        heard, or `echo`, which has to prove itself, on the `path` by which that came."""
        if on_schedule:
            self._timers.heartbeat_ns = now_ns + self._settings.heartbeat_ns
        role, held = self._election.role, self._receiver.history
        ready = self._sender.ready if role is Role.PRIMARY else role is Role.BACKUP and held.synced
        solo = role is Role.PRIMARY and self._lease.solo
        return [
            self._voice.beat(
                now_ns,
                self._election,
                self._liveness,
                held,
                self._log,
                leaving=self._says_leaving(),
                ready=ready,
                solo=solo,
                hears=self._paths.hears(),
                young=self._young,
                echo=echo,
                path=path,
            )
        ]

    def _report(self, previous: Role, reason: str, certificate: Certificate | None = None) -> ReportRole:
        self._reason = reason
        return ReportRole(previous, self._election.role, self._election.generation, reason, certificate)

    def _settle(self, now_ns: int) -> list[Effect]:
        """What follows from the state, whatever the input was: commit holds only while the peer is ready."""
        self._young = self._young and not self._sender.ready
        if self._handover.flushing and self._sender.phase is not Phase.STREAMING:
            return [*self._abort_handover("the stream was lost", now_ns), *self._settle(now_ns)]
        hold = (
            self._election.role is Role.PRIMARY and self._sender.ready
            and not self._lease.solo and not self._handover.active
        )  # fmt: skip
        effects = self._be_solo(self._election.role is Role.PRIMARY and self._lease.solo)
        if hold is not self._commit_held:
            self._commit_held = hold
            effects.append(SetCommit(hold))
        return effects
