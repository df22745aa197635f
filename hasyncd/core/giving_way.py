"""When a primary gives its place to a fitter peer: proto/pair.md §4e.

1. Only a primary acts on fitness, and only by the hand-over that loses nothing. Nobody is promoted by it.
2. The one exception forwards nothing anyhow: cut off from a LAN, with a peer that is not ready, it steps aside as a
   faulty node does, and is a node again as soon as the peer leads, or is no more.
"""

from __future__ import annotations

from hasyncd.core.effects import AnnounceVips, Effect, ReportEvent
from hasyncd.core.election import Event
from hasyncd.core.fitness import LANS
from hasyncd.core.messages import FITNESS_FULL, Heartbeat
from hasyncd.core.role_changes import RoleChanges
from hasyncd.core.types import Role
from hasyncd.core.versions import PROTOCOL_OF_FITNESS


class GivingWay(RoleChanges):
    def _take_sample(self, name: str, good: bool, why: str, now_ns: int) -> list[Effect]:
        """A check has ended."""
        effects: list[Effect] = []
        returned = name in LANS and good and not self._sampled_good.get(name, True)
        self._sampled_good[name] = good
        if returned and self._election.role is Role.PRIMARY and self._lease.armed:
            # Announcements of a promotion in the meantime never left.
            self._timers.start_train(now_ns)
            effects.append(AnnounceVips())
        changed = self._tracks.record(name, good, why)
        if changed is not None:
            self._voice.fitness = self._tracks.fitness
            event = "track_recovered" if changed.good else "track_failed"
            detail = f"{name}: {why}, the fitness is {self._tracks.fitness}"
            effects += [ReportEvent(event, detail), *self._beat(now_ns)]
        return effects + self._judge_fitness(now_ns)

    def _fitter_peer(self, now_ns: int) -> Heartbeat | None:
        """The peer where it is heard, may follow, and is fitter by more than the margin."""
        peer = self._liveness.living_peer(now_ns)
        if peer is None or peer.leaving or peer.role is not Role.BACKUP:
            return None
        return peer if self._advantage_of(peer) > self._settings.fitness_margin else None

    def _advantage_of(self, peer: Heartbeat) -> int:
        """By how much it is fitter than this node. Without a LAN there is nothing to weigh, whatever the peer can weigh
        (proto/pair.md §5): of version 1 it would be in fault, were it cut off, too."""
        weighs = (self._versions.pair or 0) >= PROTOCOL_OF_FITNESS or self._tracks.cut_off is not None
        return self._versions.fitness_of(peer) - (self._tracks.fitness if weighs else FITNESS_FULL)

    def _judge_fitness(self, now_ns: int) -> list[Effect]:
        """Gives way where the peer has been fitter for long enough."""
        leads = self._election.role is Role.PRIMARY and self._lease.armed and not self._handover.active
        peer = self._fitter_peer(now_ns) if leads and self._timers.trusts(now_ns) else None
        if peer is None:
            self._advantage.forget()
            return []
        cut_off = self._tracks.cut_off
        long, very_long = self._advantage.lasts(now_ns, cut_off=cut_off is not None)
        against = f"{self._tracks.fitness} against {self._versions.fitness_of(peer)} of {peer.node}"
        if long and self._sender.ready:
            self._advantage.note_handover(now_ns)
            report = ReportEvent("handover_by_fitness", f"{against}; {self._tracks.failing()}")
            return [report, *self._begin_handover(now_ns, cause=Event.FITTER)]
        if very_long:
            self._advantage.note_handover(now_ns)
            effects = self._fail(f"{cut_off} is down, and {peer.node}, not ready, can forward", now_ns)
            self._stepped_aside = True
            return effects
        return []

    def _why_not_to_hand_over(self, now_ns: int) -> str | None:
        """Why an operator's switchover would soon be undone."""
        peer = self._liveness.living_peer(now_ns)
        if peer is None:
            return None
        if -self._advantage_of(peer) <= self._settings.fitness_margin:
            return None
        theirs, ours = self._versions.fitness_of(peer), self._tracks.fitness
        return (
            f"the peer is less fit ({theirs}, this node {ours}) and would hand back; --force does it anyhow"
        )

    # --- stepped aside -------------------------------------------------------------------------------

    def _aside_deadline_ns(self) -> int | None:
        """When a node that stepped aside has waited in vain for somebody to lead."""
        aside = self._stepped_aside and self._election.role is Role.FAULT
        return self._liveness.silent_at_ns if aside else None

    def _come_back(self, now_ns: int) -> list[Effect]:
        """Whoever stepped aside is a node again once the peer leads, gives up, or is silent."""
        silent_at_ns = self._aside_deadline_ns()
        if silent_at_ns is None:
            return []
        peer = self._liveness.living_peer(now_ns)
        leads = peer is not None and (peer.role is Role.PRIMARY or peer.leaving)
        return self._clear_fault(now_ns) if leads or now_ns >= silent_at_ns else []
