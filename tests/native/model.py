"""What the engine does with a packet, written to be read: no hash, no wheel, no checksum, every choice a set.

`Model.receive` takes a packet and says what becomes of it: dropped for a named reason, or sent on as another packet.
Where the engine is free to choose, the answer is a `Birth`: the reply tuples that a new flow may get. `Model.bear`
notes what it chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from hasyncd._native import INSIDE
from tests.native.frames import ACK, FIN, ICMP, SYN, TCP, UDP
from tests.native.model_rules import (
    CLOSE,
    ESTABLISHED,
    HALF_OPEN,
    IGNORED,
    INVALID,
    ORIGINAL,
    OVER,
    REPLY,
    STATES,
    SYN_SENT,
    TIME_WAIT,
    Ends,
    Forward,
    Packet,
    Rules,
    tcp_class,
    tcp_next,
)

SECOND: Final = 10**9
TIMEOUT_S: Final = {UDP: 300, ICMP: 60}
ESTABLISHED_S, TRANSITORY_S, HALF_OPEN_S = 7440, 240, 30
LATE_SYN: Final = 65535
TOLD_LATE_S: Final = 31
"""A refreshed timeout may be told to the peer so much later."""

# --- flows --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Flow:
    tuples: tuple[Ends, Ends]
    state: int
    service: int = -1
    server: int = 0
    rule: int = -1
    earliest: int = 0
    """It does not age out before (ns)."""
    latest: int = 0
    refreshed: int = 0
    """When its timeout began anew (ns)."""
    pressed: bool = False
    """It began so while many were half-open."""
    both_seen: bool = False
    unseen: set[int] = field(default_factory=set)
    """Imported: directions not yet seen here. While there are any, TCP is judged liberally."""
    sequence: int | None = None
    spoken: bool = False
    """TCP: something other than a reset came back, and passed here."""

    @property
    def proto(self) -> int:
        return self.tuples[ORIGINAL].proto

    @property
    def is_half_open(self) -> bool:
        return self.proto == TCP and self.state in HALF_OPEN

    @property
    def hides_source(self) -> bool:
        return self.tuples[REPLY].dst != self.tuples[ORIGINAL].src

    @property
    def is_hairpin(self) -> bool:
        return self.hides_source and self.tuples[REPLY].src != self.tuples[ORIGINAL].dst

    @property
    def owner(self) -> tuple[int, str, int]:
        return self.tuples[ORIGINAL][:3]


@dataclass
class Birth:
    """A flow that may come into being, and what the engine may choose."""

    ends: Ends
    sequence: int
    service: int = -1
    rule: int = -1
    hairpin: bool = False
    allowed: dict[Ends, int] = field(default_factory=dict)
    """Reply tuples, and the server of each (0: none)."""
    eligible: dict[Ends, int] = field(default_factory=dict)
    """Of a pool: every reply tuple of the rule, taken or not, and its server."""
    held: set[Ends] = field(default_factory=set)
    """Of those: freed by another a moment ago."""
    evictable: dict[Ends, Flow] = field(default_factory=dict)
    victims: list[Flow] = field(default_factory=list)
    """A full table: of these one is dropped early."""


@dataclass(frozen=True)
class Fate:
    """What becomes of a packet: one of the three."""

    drop: str = ""
    sent: tuple[int, Packet] | None = None
    birth: Birth | None = None


def dropped(reason: str) -> Fate:
    return Fate(drop=f"drop_{reason}")


class Model:
    def __init__(self, rules: Rules, capacity: int, now: int) -> None:
        self.rules, self.capacity, self.now = rules, capacity, now
        self.flows: list[Flow] = []
        self.by_tuple: dict[Ends, tuple[Flow, int]] = {}
        self.rings: dict[int, set[int]] = {}
        self.holds: dict[Ends, tuple[tuple[int, str, int], int]] = {}
        """Freed reply tuples: who had it, and when it was freed (s)."""
        self.freed: list[Flow] = []
        """Since the peer was last told."""
        self.grace_until = 0

    def told(self, before: Model | None) -> Model:
        """What a backup knows that was told everything, and knew `before` (None: from a snapshot, which goes by the
        real clock). A refreshed timeout may not have been told."""
        backup = Model(self.rules, self.capacity, self.now)
        backup.rings = self.rings
        for flow in self.flows:
            latest = self.now + ((self.usual_timeout_s(flow) if before else ESTABLISHED_S) + 1) * SECOND
            if before and (known := before.find(flow.tuples[ORIGINAL])):
                latest = max(latest, known[0].latest)
            earliest = flow.earliest - TOLD_LATE_S * SECOND
            backup._add(
                replace(
                    flow,
                    unseen={ORIGINAL, REPLY},
                    sequence=None,
                    earliest=earliest,
                    latest=latest,
                    refreshed=0,
                )
            )
        backup.holds = dict(before.holds) if before else {}
        backup.holds.update((flow.tuples[REPLY], (flow.owner, self.now // SECOND)) for flow in self.freed)
        self.freed.clear()
        return backup

    # --- a packet ---------------------------------------------------------------------------------------

    def find(self, ends: Ends) -> tuple[Flow, int] | None:
        return next(
            ((flow, way) for flow in self.flows for way in (ORIGINAL, REPLY) if flow.tuples[way] == ends),
            None,
        )

    def receive(self, side: int, packet: Packet) -> Fate:
        ends = packet.ends
        if ends.proto == ICMP and not packet.answers and ends.dst in self.rules.vips:
            return Fate(sent=(side, Packet(ends.inverted, answers=True)))
        found = self.find(ends)
        if found and self._reopens(side, *found, packet):
            self.end(found[0], freed=False)
            found = None
        if found:
            return self._hit(side, packet, *found)
        return self._miss(side, packet)

    def _reopens(self, side: int, flow: Flow, way: int, packet: Packet) -> bool:
        """A SYN begins anew where the connection is over (RFC 1122 4.2.2.13), and where its backend drains, unless it
        is a late copy of the one that opened the flow, or comes from where its sender is not."""
        if way != ORIGINAL or flow.proto != TCP or not packet.is_first:
            return False
        left = flow.service >= 0 and flow.server not in self.rings[flow.service]
        if flow.state in (TIME_WAIT, CLOSE):
            return True
        copy = flow.sequence is not None and 0 <= flow.sequence - packet.sequence - 1 <= LATE_SYN
        return left and self.rules.side_of(packet.ends.src) == side and (flow.state == SYN_SENT or not copy)

    def _hit(self, side: int, packet: Packet, flow: Flow, way: int) -> Fate:
        state, ignored = flow.state, False
        if flow.proto == ICMP and packet.answers != (way == REPLY):
            return dropped("no_flow")
        if flow.proto == TCP:
            letter = tcp_next(way, packet.flags, flow.state, liberal=bool(flow.unseen))
            if letter == INVALID:
                return dropped("tcp_invalid")
            if self._is_guessed(flow, way, packet):
                letter = IGNORED
            ignored = letter == IGNORED
            state = flow.state if ignored else STATES.index(letter)
        elif way == REPLY:
            state = 2
        flow.unseen.discard(way)
        flow.both_seen |= way == REPLY and not ignored
        flow.state = state
        if flow.proto == TCP and tcp_class(packet.flags) != "RST":
            flow.spoken |= way == REPLY
            if way == ORIGINAL:
                self._note_sequence(flow, packet)
        if not ignored:
            self._refresh(flow)
        onward = flow.tuples[1 - way].inverted
        if (self.rules.side_of(onward.dst) == side) != flow.is_hairpin:
            return dropped("same_side")
        return Fate(sent=(self.rules.side_of(onward.dst), replace(packet, ends=onward)))

    @staticmethod
    def _is_guessed(flow: Flow, way: int, packet: Packet) -> bool:
        """A refusal that does not acknowledge the SYN. (Sequence numbers far off are test_tcp_sequence's.)"""
        refuses = way == REPLY and flow.state == SYN_SENT and tcp_class(packet.flags) == "RST"
        return refuses and not packet.flags & ACK and flow.sequence is not None and not flow.spoken

    def _note_sequence(self, flow: Flow, packet: Packet) -> None:
        end = packet.sequence + bool(packet.flags & SYN) + bool(packet.flags & FIN)
        if flow.sequence is None or end > flow.sequence:
            flow.sequence = end

    @staticmethod
    def usual_timeout_s(flow: Flow) -> int:
        if flow.proto != TCP:
            return TIMEOUT_S[flow.proto]
        return ESTABLISHED_S if flow.state == ESTABLISHED else TRANSITORY_S

    def timeout_s(self, flow: Flow) -> int:
        if flow.is_half_open and sum(other.is_half_open for other in self.flows) > self.capacity // 8:
            return HALF_OPEN_S
        return self.usual_timeout_s(flow)

    def _refresh(self, flow: Flow) -> None:
        flow.refreshed, flow.pressed = self.now, self.timeout_s(flow) == HALF_OPEN_S
        flow.earliest = flow.latest = self.now + self.timeout_s(flow) * SECOND

    # --- the first packet of a flow -----------------------------------------------------------------------

    def _miss(self, side: int, packet: Packet) -> Fate:
        ends, rules = packet.ends, self.rules
        birth = Birth(ends, packet.sequence, service=rules.service_at(ends.proto, ends.dst, ends.dport))
        way_in = next((way for way in rules.forwards if birth.service < 0 and way.takes(ends)), None)
        inbound = birth.service >= 0 or way_in is not None
        leaves = side == INSIDE and (inbound or ends.dst not in rules.vips)
        own = rules.own_public(ends.src) if leaves else None
        birth.rule = 0 if leaves and rules.side_of(ends.src) == INSIDE else -1
        if not (inbound or own or birth.rule >= 0) or ends.src in rules.vips:
            return dropped("no_rule")
        if not packet.is_first:
            return dropped("no_flow")
        if ends.proto == TCP and (reason := self._refuses_half_open(ends.src)):
            return dropped(reason)
        if rules.side_of(ends.src) != side or (way_in and not ends.src.startswith(way_in.allow)):
            return dropped("not_allowed")
        targets = self._targets(birth, way_in)
        if not targets:
            return dropped("no_backend")
        stays = {rules.side_of(target.dst) == side for target in targets}
        birth.hairpin = side == INSIDE and inbound and stays == {True}
        if stays != {birth.hairpin}:
            return dropped("same_side")
        reason = self._choose_replies(birth, targets, own, keeps_source=inbound and not birth.hairpin)
        if inbound or own:
            birth.rule = -1
        return dropped(reason) if reason else self._find_room(birth)

    def _refuses_half_open(self, source: str) -> str:
        half_open = [flow.tuples[ORIGINAL].src for flow in self.flows if flow.is_half_open]
        if len(half_open) >= self.capacity // 4:
            return "half_open_limit"
        return "half_open_source" if half_open.count(source) >= self.rules.half_open_per_source else ""

    def _targets(self, birth: Birth, way_in: Forward | None) -> dict[Ends, int]:
        """The packet with its destination translated, and the server that it goes to."""
        ends = birth.ends
        if birth.service >= 0:
            live = {server: self.rules.backends[server] for server in self.rings.get(birth.service, ())}
            return {ends._replace(dst=host, dport=port): server for server, (host, port) in live.items()}
        if way_in:
            port = way_in.inside_port if way_in.proto else ends.dport
            return {ends._replace(dst=way_in.inside, dport=port): 0}
        return {ends: 0}

    def _choose_replies(
        self, birth: Birth, targets: dict[Ends, int], own: str | None, *, keeps_source: bool
    ) -> str:
        """Fills what the engine may choose; the reason when that is nothing."""
        for target, server in targets.items():
            back = target.inverted
            if keeps_source or (not birth.hairpin and target.dst.startswith(self.rules.exempt) and not own):
                birth.allowed[back] = server
            elif own:
                birth.allowed[back._replace(dst=own)] = server
            elif self._has_quota_left(birth.ends.src):
                self._choose_port(birth, target, server)
            else:
                return "nat_quota"
        taken = {reply for reply in birth.allowed if self.find(reply)}
        if taken:
            return "no_backend" if birth.service >= 0 or keeps_source else "nat_exhausted"
        return "" if birth.allowed or birth.evictable else "nat_exhausted"

    def _has_quota_left(self, source: str) -> bool:
        own = [flow for flow in self.flows if flow.hides_source and flow.tuples[ORIGINAL].src == source]
        return len(own) < self.rules.quota

    def pool(self, target: Ends) -> Iterator[list[Ends]]:
        """Reply tuples of each public address, the host's own first."""
        first = self.rules.publics.index(self.rules.homes[target.src])
        for public in self.rules.publics[first:] + self.rules.publics[:first]:
            back = target.inverted._replace(dst=public)
            ports = self.rules.eligible(public, target)
            if target.proto == ICMP:
                yield [back._replace(sport=port) for port in ports]
            else:
                yield [back._replace(dport=port) for port in ports]

    def is_held(self, reply: Ends, owner: tuple[int, str, int]) -> bool:
        held = self.holds.get(reply)
        return held is not None and held[0] != owner and self.now // SECOND - held[1] < self.rules.hold_down_s

    def _choose_port(self, birth: Birth, target: Ends, server: int) -> None:
        """N3: any port that nobody has; N6: of another address only when the host's own has none."""
        for replies in self.pool(target):
            birth.eligible.update(dict.fromkeys(replies, server))
            birth.held.update(reply for reply in replies if self.is_held(reply, birth.ends[:3]))
            free = [reply for reply in replies if not self.find(reply) and reply not in birth.held]
            if free:
                birth.allowed.update(dict.fromkeys(free, server))
                return
        if target.proto == TCP:
            birth.evictable.update(
                (flow.tuples[REPLY], flow)
                for flow in self.flows
                if flow.tuples[REPLY] in birth.eligible and flow.state in (TIME_WAIT, CLOSE)
                and flow.sequence is not None and birth.sequence > flow.sequence
            )  # fmt: skip

    def _find_room(self, birth: Birth) -> Fate:
        if len(self.flows) == self.capacity and birth.allowed:
            if self.rules.early_drop:
                birth.victims = [flow for flow in self.flows if not flow.both_seen or self.is_over(flow)]
            if not birth.victims:
                return dropped("table_full")
        return Fate(birth=birth)

    @staticmethod
    def is_over(flow: Flow) -> bool:
        return flow.proto == TCP and flow.state in OVER

    def bear(self, birth: Birth, reply: Ends) -> Flow:
        """The engine chose this one."""
        if reply not in birth.allowed:
            self.end(birth.evictable[reply], freed=False)
        made = Flow((birth.ends, reply), state=1, service=birth.service, rule=birth.rule)
        made.server = {**birth.eligible, **birth.allowed}[reply]
        if birth.ends.proto == TCP:
            made.sequence = birth.sequence + 1
        self._add(made)
        self._refresh(made)
        return made

    def _add(self, flow: Flow) -> None:
        self.flows.append(flow)
        self.by_tuple.update({ends: (flow, way) for way, ends in enumerate(flow.tuples)})

    # --- ends -------------------------------------------------------------------------------------------

    def end(self, flow: Flow, *, freed: bool) -> None:
        """The flow is gone; `freed`: its port comes free, and is held down unless both ends had closed."""
        self.flows.remove(flow)
        for ends in flow.tuples:
            del self.by_tuple[ends]
        if freed and flow.hides_source and not (flow.proto == TCP and flow.state == TIME_WAIT):
            self.holds[flow.tuples[REPLY]] = flow.owner, self.now // SECOND
            self.freed.append(flow)

    def age(self, is_alive: Callable[[Flow], bool]) -> list[str]:
        """Time has passed: what the engine may and must have done, given what lives; what is wrong with that."""
        wrong = []
        for flow in list(self.flows):
            if is_alive(flow):
                if self.now > max(flow.latest, self.grace_until) + 2 * SECOND:
                    wrong.append(f"{flow} outlived its time")
                continue
            if self.now < max(flow.earliest, self.grace_until):
                wrong.append(f"{flow} aged out before its time")
            self.end(flow, freed=True)
        return wrong
