"""Who has the VIPs on the LANs: asked before a node acts alone on silence (`Inquiry`), and again once it has taken
them (`Holding`). proto/pair.md §4c, §4d.

The shell asks (`ProbeVips`) and tells what it heard (`LookAtVips`, answered by `Node.receive_vip_states`): the newest
claim of each VIP with its moment. Whatever is older than the question counts for nothing here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hasyncd.core.effects import ReportEvent
from hasyncd.core.election import Event
from hasyncd.core.timers import GARP_TRAIN_NS
from hasyncd.core.types import MILLISECOND_NS, SECOND_NS, PairSettings, VipState, VipView

UNVERIFIED_EVERY_NS = SECOND_NS
VERIFIED_EVERY_NS = 10 * SECOND_NS


class Purpose(enum.Enum):
    PROMOTE = "promote"
    SOLO = "solo"
    """A paired primary whose peer is silent, and which may have been replaced."""
    REARM = "rearm"
    """A solo primary that slept."""


@dataclass(frozen=True, slots=True)
class Intention:
    """What a node does if nobody else has the VIPs."""

    purpose: Purpose
    reason: str
    event: Event | None = None
    """Of a promotion."""


@dataclass(frozen=True, slots=True)
class Finding:
    intention: Intention
    owned: tuple[VipState, ...]
    """By somebody else."""
    is_news: bool
    """Other owners than those that were found before."""


class Inquiry:
    def __init__(self, settings: PairSettings) -> None:
        self._settings = settings
        self.intention: Intention | None = None
        """What waits for an answer."""
        self.vips_free = False
        """Nobody else has them: the intention waits for the witness alone."""
        self.hold_until_ns: int | None = None
        """Somebody else had the VIPs: when to ask again."""
        self._asked_ns: int | None = None
        self._ask_at: list[int] = []
        self._look_at_ns: int | None = None
        self._owners: tuple[str, ...] = ()

    def begin(self, intention: Intention, now_ns: int) -> None:
        """`take_question` says at once that it is time for the first one."""
        probe_ns = self._settings.probe_ns
        self.intention, self.hold_until_ns, self.vips_free = intention, None, False
        self._asked_ns = now_ns
        self._ask_at = [now_ns, now_ns + probe_ns // 3, now_ns + 2 * probe_ns // 3]
        self._look_at_ns = now_ns + probe_ns

    def skip(self, intention: Intention) -> None:
        """As `begin`, where the VIPs are nobody else's for sure."""
        self.cancel()
        self.intention, self.vips_free, self._asked_ns = intention, True, None

    def hold(self, now_ns: int) -> None:
        """Not now: it is asked again in dead_after."""
        self.cancel()
        self.hold_until_ns = now_ns + self._settings.dead_after_ns

    def is_old(self, now_ns: int) -> bool:
        """The answers were so long ago that somebody may have come since."""
        return self._asked_ns is not None and now_ns - self._asked_ns > 2 * self._settings.probe_ns

    def cancel(self) -> None:
        """The peer was heard, the role has changed, or we slept: what was asked is void."""
        self.intention = self.hold_until_ns = self._look_at_ns = None
        self.vips_free = False
        self._ask_at = []

    def take_question(self, now_ns: int) -> bool:
        """True when it is time for a question."""
        due = bool(self._ask_at) and now_ns >= self._ask_at[0]
        self._ask_at = [at for at in self._ask_at if at > now_ns]
        return due

    def take_look(self, now_ns: int) -> bool:
        """True when it is time to look at the answers."""
        if self._look_at_ns is None or now_ns < self._look_at_ns:
            return False
        self._look_at_ns = None
        self._ask_at = []
        return True

    def conclude(self, states: tuple[VipState, ...], now_ns: int) -> Finding | None:
        """The answers; None where they answer nothing that is still asked."""
        if self.intention is None or self._look_at_ns is not None or self.vips_free:
            return None
        asked_ns = self._asked_ns or 0
        owned = tuple(state for state in states if state.claimed_ns >= asked_ns)
        owners = tuple(f"{state.address} {state.claimant}" for state in owned)
        finding = Finding(self.intention, owned, owners != self._owners)
        self._owners, self.vips_free = owners, not owned or self._settings.takes_owned_vips
        if not self.vips_free:
            self.hold(now_ns)
        return finding

    def deadlines(self) -> tuple[int | None, int | None]:
        return (self._ask_at[0] if self._ask_at else None), self._look_at_ns


class Holding:
    """What an armed primary knows of its VIPs."""

    def __init__(self, settings: PairSettings) -> None:
        self._settings = settings
        self._armed_ns: int | None = None
        self._ask_at_ns: int | None = None
        self._look_at_ns: int | None = None
        self._looked_ns = 0
        self._states: dict[str, VipState] = {}
        self._verified_ns: dict[str, int] = {}
        self._claimants: dict[str, str] = {}
        self._told = False

    def begin(self, now_ns: int) -> None:
        """Armed: nothing is verified yet."""
        self.end()
        self._armed_ns = self._ask_at_ns = self._looked_ns = now_ns

    def end(self) -> None:
        self._armed_ns = self._ask_at_ns = self._look_at_ns = None
        self._states, self._verified_ns, self._claimants = {}, {}, {}
        self._told = False

    def take_question(self, now_ns: int) -> bool:
        if self._ask_at_ns is None or now_ns < self._ask_at_ns:
            return False
        self._ask_at_ns, self._look_at_ns = None, now_ns + self._settings.probe_ns
        return True

    def take_look(self, now_ns: int) -> bool:
        if self._look_at_ns is None or now_ns < self._look_at_ns:
            return False
        self._look_at_ns = None
        return True

    def learn(self, states: tuple[VipState, ...], now_ns: int) -> list[ReportEvent]:
        """What was heard since the last look; what an operator wants to know of it."""
        if self._armed_ns is None:
            return []
        events = []
        for state in states:
            self._states[state.address] = state
            events += self._learn_one(state, now_ns, self._armed_ns)
        self._looked_ns = now_ns
        if self._look_at_ns is None and self._ask_at_ns is None:
            self._ask_at_ns = self._next_round(now_ns, self._armed_ns)
        return events + self._tell(now_ns, self._armed_ns)

    def _learn_one(self, state: VipState, now_ns: int, armed_ns: int) -> list[ReportEvent]:
        before = self._claimants.get(state.address)
        if state.claimed_ns >= self._looked_ns:
            self._claimants[state.address] = state.claimant
            self._verified_ns.pop(state.address, None)
            return [] if before == state.claimant else [ReportEvent("vip_conflict", state.describe())]
        if state.seen_ns >= armed_ns:
            self._verified_ns.setdefault(state.address, now_ns)
        if before is None:
            return []
        del self._claimants[state.address]
        return [ReportEvent("vip_conflict_over", f"{state.address} ({state.interface})")]

    def _tell(self, now_ns: int, armed_ns: int) -> list[ReportEvent]:
        """Once: that everything has come here, or what has not when the train has left."""
        missing = [address for address in self._states if address not in self._verified_ns]
        if self._told or (missing and now_ns < armed_ns + GARP_TRAIN_NS[-1]):
            return []
        self._told = True
        took_ms = (now_ns - armed_ns) // MILLISECOND_NS
        if missing:
            return [ReportEvent("vip_unverified", f"{', '.join(missing)}: after {took_ms} ms")]
        return [ReportEvent("converged", f"every VIP is verified after {took_ms} ms")]

    def _next_round(self, now_ns: int, armed_ns: int) -> int:
        in_train = [armed_ns + after for after in GARP_TRAIN_NS[:-1] if armed_ns + after > now_ns]
        whole = len(self._verified_ns) == len(self._states)
        if in_train and not whole:
            return in_train[0]
        return now_ns + (VERIFIED_EVERY_NS if whole else UNVERIFIED_EVERY_NS)

    def views(self) -> tuple[VipView, ...]:
        armed_ns = self._armed_ns
        if armed_ns is None:
            return ()
        return tuple(
            VipView(
                address,
                (self._verified_ns[address] - armed_ns) // MILLISECOND_NS
                if address in self._verified_ns
                else None,
                self._claimants.get(address),
            )
            for address in self._states
        )

    def deadlines(self) -> tuple[int | None, int | None]:
        return self._ask_at_ns, self._look_at_ns
