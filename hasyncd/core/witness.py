"""What this node asks the witness, what it may do by its word, and whether the witness answers: proto/pair.md §7b.

1. One request at a time. A newer one replaces it: an answer that comes after that is not listened to, and what it
   did to the register is found out by the next request (`known` is False until then).
2. What stands in the register is `core/register.py`'s; when to ask is `core/alone.py`'s. Here is what was said.
"""

from __future__ import annotations

from hasyncd.core.effects import AskWitness, Effect, ReportEvent
from hasyncd.core.register import Answer, Kind, Outcome, Register, Request
from hasyncd.core.types import SECOND_NS, PairSettings, WitnessView

LOOK_EVERY_NS = 5 * SECOND_NS
"""Between two looks while there is nothing to be asked."""
_PATIENCE_NS = SECOND_NS
"""For an answer that nothing waits for."""


class Witness:
    def __init__(self, settings: PairSettings, boot_id: int) -> None:
        self._settings = settings
        self._boot_id = boot_id
        self.configured = settings.witness
        self.reachable: bool | None = None
        """None: it was not asked yet."""
        self.register: Register | None = None
        self.known = False
        """`register` is what stands there, as far as this node has written it."""
        self.request: Request | None = None
        """What is being asked."""
        self.permission: Outcome | None = None
        """Of the present intention."""
        self.licensed = False
        """The register says that this node acts alone, in its generation."""
        self.over: tuple[int, ...] = ()
        """Acting alone on proof: the peer's processes that it speaks of."""
        self.forced = False
        self._number = 0
        self._intends = False
        self._ask_at_ns: int | None = None
        self._began_ns = 0
        self._give_up_ns = 0
        self._quiet_until_ns = 0
        self._look_at_ns: int | None = None
        self._told: str | None = None

    # --- before acting alone -----------------------------------------------------------------------

    def begin(self, ask_at_ns: int) -> None:
        """A node intends to act alone: it asks for that then."""
        if self.configured:
            self.abandon()
            self._ask_at_ns = self._began_ns = ask_at_ns
            self._intends = True

    def abandon(self) -> None:
        """It intends so no more; what was asked for it may be granted all the same."""
        if self._ask_at_ns is not None or self.permission is not None:
            self.known = False
        self.consume()
        self.forget_request()

    def forget_request(self) -> None:
        """Its answer is not listened to any more."""
        if self.request is not None:
            self.request, self.known = None, False

    def consume(self) -> None:
        """What was permitted is done."""
        self._ask_at_ns = self.permission = None
        self._intends = False

    def wants_claim(self, now_ns: int) -> bool:
        """True once, when it is time to ask for the intention."""
        if self._ask_at_ns is None or now_ns < self._ask_at_ns:
            return False
        self._ask_at_ns = None
        return True

    def may_repeat(self, now_ns: int) -> bool:
        """The same question with another number, for a while: a register may grow for ever."""
        return now_ns - self._began_ns < self._settings.dead_after_ns

    def verdict(self) -> Outcome | None:
        """What came of the question; None: it is waited for. Where the witness was lost before, prefer = availability
        waits for nothing.
        """
        if not self.configured:
            return Outcome.GRANTED
        hopeless = self.reachable is False and self._settings.prefer == "availability"
        return self.permission or (Outcome.UNREACHABLE if hopeless else None)

    # --- acting alone --------------------------------------------------------------------------------

    def begin_alone(self, *, granted: bool = False, over: tuple[int, ...] = (), forced: bool = False) -> None:
        self.licensed, self.over, self.forced = granted and self.configured, over, forced
        self.hurry()

    def end_alone(self) -> None:
        self.licensed, self.over, self.forced = False, (), False
        self.hurry()

    @property
    def licenses(self) -> bool:
        """Whether a node that acts alone may renew its lease by itself."""
        return not self.configured or self._settings.prefer == "availability" or self.licensed or self.forced

    # --- asking --------------------------------------------------------------------------------------

    def ask(
        self, kind: Kind, node_generation: int, now_ns: int, *, intends: bool = False, promotes: bool = False
    ) -> list[Effect]:
        """`intends`: the answer is waited for."""
        self._number += 1
        claims = kind is Kind.CLAIM and not intends
        self.request = Request(
            kind, self._settings.node, self._boot_id, self._number, node_generation, promotes,
            self.over if claims else (), self.forced and claims,
        )  # fmt: skip
        self._give_up_ns = now_ns + (self._settings.dead_after_ns if intends else _PATIENCE_NS)
        return [AskWitness(self.request)]

    def take_late(self, now_ns: int) -> Answer | None:
        """The answer that has not come in time."""
        if self.request is None or now_ns < self._give_up_ns:
            return None
        return Answer(Outcome.UNREACHABLE, None, "it does not answer")

    def take(self, number: int, answer: Answer, now_ns: int, *, hurry: bool) -> Request | None:
        """The answer to the present request, which it returns. `hurry`: ask again soon if it is not as wanted."""
        request = self.request
        if request is None or request.number != number:
            return None
        self.request = None
        reached = answer.outcome is not Outcome.UNREACHABLE
        self.known = reached
        if reached:
            self.register = answer.register
        pause_ns = self._settings.dead_after_ns if hurry else LOOK_EVERY_NS
        self._quiet_until_ns = 0 if answer.outcome is Outcome.GRANTED else now_ns + pause_ns
        self._look_at_ns = now_ns + LOOK_EVERY_NS
        return request

    def judge_reach(self, answer: Answer) -> list[Effect]:
        """Whether the witness answers, told when that changes."""
        reached = answer.outcome is not Outcome.UNREACHABLE
        before, self.reachable = self.reachable, reached
        if not reached and before is not False:
            return [ReportEvent("witness_lost", answer.detail)]
        return [ReportEvent("witness_back")] if reached and before is False else []

    def hurry(self) -> None:
        """What is due is asked at once."""
        self._quiet_until_ns = 0

    def is_quiet(self, now_ns: int) -> bool:
        """Too soon after an answer that was not as wanted."""
        if now_ns >= self._quiet_until_ns:
            self._quiet_until_ns = 0
        return self._quiet_until_ns > 0

    def wants_look(self, now_ns: int) -> bool:
        return self._look_at_ns is None or now_ns >= self._look_at_ns

    def holds(self, generation: int, *, alone: bool) -> bool:
        """The register is as this node, in this generation, would have it."""
        register = self.register
        return self.known and register is not None and (
            (register.node, register.boot_id, register.generation, register.alone)
            == (self._settings.node, self._boot_id, generation, alone)
        )  # fmt: skip

    def may_hold_alone(self) -> bool:
        """The register says that this node acts alone, or nobody knows whether it does."""
        register = self.register
        if not self.known:
            return True
        return register is not None and register.node == self._settings.node and register.alone

    # --- telling -------------------------------------------------------------------------------------

    def tell(self, name: str, detail: str) -> list[Effect]:
        """Once, until something else is to be told."""
        if self._told == f"{name} {detail}":
            return []
        self._told = f"{name} {detail}"
        return [ReportEvent(name, detail)]

    def tell_anew(self) -> None:
        self._told = None

    def describe_holder(self) -> str:
        """Whoever the register speaks of."""
        register = self.register
        if register is None:
            return "nobody"
        state = "acts alone" if register.alone else "wrote last"
        return f"{register.node} {state} in generation {register.generation}"

    def view(self) -> WitnessView | None:
        if not self.configured:
            return None
        register = self.register if self.known else None
        return WitnessView(
            self.reachable,
            self.licensed,
            register.node if register else None,
            register.generation if register else None,
            register.alone if register else None,
        )

    def deadlines(self) -> tuple[int | None, int | None]:
        if not self.configured:
            return None, None
        if self.request is not None:
            return self._give_up_ns, self._ask_at_ns
        keeps_at_ns = None if self._intends else self._quiet_until_ns or self._look_at_ns
        return keeps_at_ns, self._ask_at_ns
