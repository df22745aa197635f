"""Before a node acts alone on silence, and while it does: the LANs are asked who has the VIPs (proto/pair.md §4c) and
the witness whether it may (§7b).

`conduct.py` says when a node intends to; here both answers are waited for and acted on, and the witness' register is
kept as this node's state wants it.
"""

from __future__ import annotations

from hasyncd.core.effects import AnnounceVips, Effect, LookAtVips, ProbeVips, ReportEvent, WriteGeneration
from hasyncd.core.election import Event
from hasyncd.core.register import Answer, Kind, Outcome, Request
from hasyncd.core.role_changes import RoleChanges
from hasyncd.core.types import Role
from hasyncd.core.vip_watch import Finding, Intention, Purpose


class ActsAlone(RoleChanges):
    # --- intending to --------------------------------------------------------------------------------

    def _intends(self, purpose: Purpose) -> bool:
        return self._inquiry.intention is not None and self._inquiry.intention.purpose is purpose

    def _intend(self, intention: Intention, now_ns: int, *, ask_lans: bool = True) -> list[Effect]:
        """Nobody was heard, so the LANs and the witness are asked first."""
        if ask_lans:
            self._inquiry.begin(intention, now_ns)
        else:
            self._inquiry.skip(intention)
        # The primary of a pair that was cut apart asks first: whoever forwards shall go on forwarding.
        head_start_ns = self._settings.probe_ns // 3 if intention.purpose is Purpose.PROMOTE else 0
        self._witness.begin(now_ns + head_start_ns)
        return self._time_of_vips(now_ns) + self._time_of_witness(now_ns) + self._consider(now_ns)

    def _time_of_vips(self, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        inquires, holds = self._inquiry.take_question(now_ns), self._holding.take_question(now_ns)
        if inquires or holds:
            effects.append(ProbeVips())
        inquires, holds = self._inquiry.take_look(now_ns), self._holding.take_look(now_ns)
        if inquires or holds:
            effects.append(LookAtVips())
        return effects

    def _hear_instead(self, now_ns: int) -> None:
        """The peer was heard: whoever acts alone because nobody is, does not."""
        if self._inquiry.intention is not None and not self._intends(Purpose.REARM):
            if self._election.role is Role.INIT:
                self._timers.listen_until_ns = now_ns
            self._drop_intention()

    def _judge_finding(self, finding: Finding, now_ns: int) -> list[Effect]:
        """The LANs have answered, or have not."""
        effects: list[Effect] = []
        if finding.owned and finding.is_news:
            name = "vip_conflict" if self._settings.takes_owned_vips else "vip_still_owned"
            effects.append(ReportEvent(name, "; ".join(state.describe() for state in finding.owned)))
        if not self._inquiry.vips_free:
            self._stay(finding.intention)
        return effects + self._consider(now_ns)

    def _stay(self, intention: Intention) -> None:
        """As it is, until `Inquiry.hold_until_ns`."""
        self._witness.abandon()
        if intention.purpose is Purpose.REARM:
            self._timers.rearm_at_ns = self._inquiry.hold_until_ns
        elif self._election.role is Role.INIT:
            self._timers.listen_until_ns = self._inquiry.hold_until_ns

    def _consider(self, now_ns: int) -> list[Effect]:
        """Acts on an intention once nobody else has the VIPs and the witness has answered."""
        intention, verdict = self._inquiry.intention, self._witness.verdict()
        if intention is None or not self._inquiry.vips_free or verdict is None:
            return []
        effects: list[Effect] = []
        if verdict is not Outcome.GRANTED:
            lost = verdict is Outcome.UNREACHABLE
            if not lost or self._settings.prefer == "safety":
                self._election.step(Event.REFUSED)
                self._inquiry.hold(now_ns)
                self._stay(intention)
                return self._tell_stay(lost=lost)
            if self._inquiry.is_old(now_ns):
                # The answer that never came took its time: the LANs may have another one by now.
                return self._intend(intention, now_ns)
            effects += self._tell_without_witness()
        self._witness.consume()
        return effects + self._go_on(intention, now_ns, granted=verdict is Outcome.GRANTED)

    def _go_on(self, intention: Intention, now_ns: int, *, granted: bool) -> list[Effect]:
        if intention.event is not None:
            return self._promote(intention.event, intention.reason, now_ns, granted=granted)
        self._inquiry.cancel()
        if intention.purpose is Purpose.SOLO:
            self._silence_told = True
            return self._go_solo(intention.reason, now_ns, granted=granted)
        self._witness.begin_alone(granted=granted)
        return [*self._arm(now_ns, solo=self._lease.solo), AnnounceVips()]

    # --- the witness ---------------------------------------------------------------------------------

    def _settle(self, now_ns: int) -> list[Effect]:
        return super()._settle(now_ns) + self._time_of_witness(now_ns)

    def _time_of_witness(self, now_ns: int) -> list[Effect]:
        """§7b: asks what is to be asked; what is not as it should be is asked for until it is."""
        witness = self._witness
        if not witness.configured or self._timers.heartbeat_ns is None:
            return []
        intention = self._inquiry.intention
        if intention is not None and witness.wants_claim(now_ns):
            return self._claim_for(intention, now_ns)
        late = witness.take_late(now_ns)
        if late is not None and witness.request is not None:
            effects = self._hear_witness(witness.request.number, late, now_ns)
            return effects + self._time_of_witness(now_ns)
        if witness.request is not None or intention is not None:
            return []
        quiet, kind = witness.is_quiet(now_ns), self._what_is_due(now_ns)
        if kind is None or quiet:
            if quiet or not witness.wants_look(now_ns):
                return []
            kind = Kind.LOOK
        generation = self._election.generation
        if kind is Kind.RELEASE:
            generation = self._election.highest_heard  # whoever may be armed is not beyond it
        return witness.ask(kind, generation, now_ns)

    def _claim_for(self, intention: Intention, now_ns: int) -> list[Effect]:
        promotes = intention.purpose is Purpose.PROMOTE
        generation = self._election.highest_heard + 1 if promotes else self._election.generation
        return self._witness.ask(Kind.CLAIM, generation, now_ns, intends=True, promotes=promotes)

    def _what_is_due(self, now_ns: int) -> Kind | None:
        """Where the register is not as this node's state wants it: what makes it so."""
        if self._election.role is not Role.PRIMARY or self._handover.leaving:
            return Kind.RELEASE if self._witness.may_hold_alone() else None
        if self._lease.solo:
            return Kind.CLAIM if self._lease.armed and not self._witness.licensed else None
        peer = self._liveness.living_peer(now_ns)
        # Only a backup that counts our silence: one that merely answers an unproven sender does not (§8, P6).
        is_paired = (
            peer is not None and peer.role is Role.BACKUP and peer.hears and self._liveness.hears_us(now_ns)
        )
        if is_paired and not self._witness.holds(self._election.generation, alone=False):
            return Kind.NOTE
        return None

    def _hear_witness(self, number: int, answer: Answer, now_ns: int) -> list[Effect]:
        alone = self._election.role is Role.PRIMARY and self._lease.solo
        request = self._witness.take(number, answer, now_ns, hurry=alone)
        if request is None:
            return []
        effects = self._witness.judge_reach(answer)
        if self._inquiry.intention is not None:
            return effects + self._hear_of_intention(request, answer, now_ns)
        if answer.outcome is Outcome.UNREACHABLE:
            if alone and self._lease.armed and not self._witness.licensed:
                effects += self._tell_without_witness()
        elif request.kind is Kind.CLAIM:
            effects += self._hear_of_licence(answer, now_ns)
        elif request.kind is Kind.NOTE and answer.outcome is Outcome.STALE:
            register = answer.register
            if register is not None and not register.alone and self._election.role is Role.PRIMARY:
                effects += self._take_generation(register.generation + 1, now_ns)
        elif (
            alone
            and self._witness.licensed
            and not self._witness.holds(self._election.generation, alone=True)
        ):
            # It was forced by an operator, or forgotten by the witness: asked for anew.
            self._witness.licensed = False
        return effects

    def _hear_of_intention(self, request: Request, answer: Answer, now_ns: int) -> list[Effect]:
        register = answer.register
        if answer.outcome is Outcome.STALE and register is not None:
            self._election.hear(register.generation)
            intention = self._inquiry.intention
            if request.promotes and intention is not None and self._witness.may_repeat(now_ns):
                return self._claim_for(intention, now_ns)
        if request.kind is not Kind.CLAIM:
            return []
        self._witness.permission = answer.outcome
        return self._consider(now_ns)

    def _hear_of_licence(self, answer: Answer, now_ns: int) -> list[Effect]:
        """The answer to a node that acts alone without the witness' word: on proof, by force, or for want of one."""
        if self._election.role is not Role.PRIMARY or not self._lease.solo or not self._lease.armed:
            return []
        register = answer.register
        if answer.outcome is Outcome.GRANTED:
            self._witness.licensed = True
            self._witness.tell_anew()
            return self._lease.act_alone(now_ns)
        if (
            answer.outcome is Outcome.STALE
            and register is not None
            and (self._witness.over or self._witness.forced)
        ):
            # Nobody else can be armed in it, or an operator says so: the number is the next one.
            self._witness.hurry()
            return self._take_generation(register.generation + 1, now_ns)
        self._witness.end_alone()
        self._holding.end()
        self._timers.rearm_at_ns = now_ns + self._settings.dead_after_ns
        return [*self._lease.suspend(), *self._tell_stay(lost=False)]

    def _take_generation(self, generation: int, now_ns: int) -> list[Effect]:
        """A primary goes on with another number: its stream begins anew in it."""
        self._election.adopt(generation)
        self._witness.hurry()
        effects: list[Effect] = [WriteGeneration(generation), *self._sender.close("generation", now_ns)]
        self._sender.begin(generation)
        return effects

    # --- telling -------------------------------------------------------------------------------------

    def _tell_stay(self, *, lost: bool) -> list[Effect]:
        if not lost:
            return self._witness.tell("witness_refused", self._witness.describe_holder())
        return self._tell_without_witness()

    def _tell_without_witness(self) -> list[Effect]:
        if self._witness.licenses:
            return self._witness.tell(
                "solo_without_witness", "nobody has confirmed that the peer does not act alone"
            )
        return self._witness.tell(
            "muted_without_witness", "prefer = safety: neither peer nor witness is heard"
        )
