"""Any order of connections, states of backends, ends of flows and takeovers, beside a model of a few lines.

What must hold after every packet is F1 to F4 of README.md: a flow keeps its backend while that is listed; nothing but
the reset that ends a flow goes to a backend that is removed; a first packet goes to one that is up; and both nodes have
the same table whenever the log was delivered.
"""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native import gateway6
from tests.native.engines import now_ns
from tests.native.frames import ACK, RST, SYN
from tests.native.frames6 import number6
from tests.native.test_backend_flows import mirror
from tests.native.test_balance_invariants import IPv4, IPv6

UP, DRAINING, DOWN = range(3)
SILENTLY, BY_RESET, RESELECTED = range(3)
SERVERS = st.integers(1, 6)
SPORTS = st.integers(5000, 5015)
ALL_SLOTS = 1 << 16


class Machine(RuleBasedStateMachine):
    """A pair of engines; the model says who has which flow, and who is what."""

    family: ClassVar[type[IPv4]] = IPv4
    hosts: ClassVar[dict[int, str]]

    def __init__(self) -> None:
        super().__init__()
        self.active, self.passive = self.family.make(), self.family.make(armed=False)
        self.whose: dict[int, int] = {}
        self.sequences: dict[int, int] = {}
        self.seen: set[int] = set()  # whose client's numbers the active node knows: they are not synced
        self.once_seen: dict[
            Engine, set[int]
        ] = {}  # and what each knew when it was active before: it may still
        self.states: dict[int, int] = {}
        self.used: set[int] = set()
        self.generation = 1
        self.publish(dict.fromkeys((1, 2, 3), UP), "maglev", panics=False)

    # --- what happens -----------------------------------------------------------------------------------

    @rule(
        states=st.dictionaries(SERVERS, st.sampled_from([UP, UP, DRAINING, DOWN])),
        algorithm=st.sampled_from(["consistent-hash", "maglev", "ecmp", "round-robin"]),
        panics=st.booleans(),
    )
    def publish(self, states: dict[int, int], algorithm: str, panics: bool) -> None:
        """On both nodes, which know the same flows: else one of them is of a backend that the other never listed."""
        self.deliver()
        self.generation += 1
        used = {server for server, state in states.items() if state == UP or (panics and state == DOWN)}
        number = self.family.number
        rows = [(server, number(self.hosts[server]), 8080, 1, state) for server, state in states.items()]
        table = BackendTable(algorithm, [(server, 1) for server in used], self.generation, 16)
        for engine in (self.active, self.passive):
            engine.publish(self.family.service, rows, table, now_ns() + 10**12)
        self.states, self.used = states, used

    @rule(sport=SPORTS, again=st.booleans())
    def syn(self, sport: int, again: bool) -> None:
        """`again`: a copy of the SYN that opened the flow, or the beginning of another connection."""
        mine = self.whose.get(sport)
        if not again:
            self.sequences[sport] = (self.sequences.get(sport, 0) + (1 << 30)) % (1 << 32)
        sent = self.sent(OUTSIDE, self.tcp(sport, SYN))
        late_copy = again and sport in self.seen and self.states.get(mine or 0) in (DRAINING, DOWN)
        known_before = again and sport in self.once_seen.get(self.active, ())
        if mine is not None and (mine in self.used or late_copy):
            assert self.served(sent) == mine, "F2: it never hops"
        elif known_before and mine in self.states and sent and self.served(sent) == mine:
            pass  # a late copy too, by what this node remembers
        elif not sent:
            assert not self.used
            self.whose.pop(sport, None)
            return
        else:
            self.whose[sport] = self.served(sent)
            assert self.whose[sport] in self.used, "F2"
        self.seen.add(sport)
        self.sent(INSIDE, self.back(sport, SYN | ACK))
        self.sent(OUTSIDE, self.tcp(sport, ACK))

    @rule(sport=SPORTS, side=st.sampled_from([INSIDE, OUTSIDE]))
    def data(self, sport: int, side: int) -> None:
        mine = self.whose.get(sport)
        if mine is None:
            return
        sent = self.sent(side, self.tcp(sport, ACK) if side == OUTSIDE else self.back(sport, ACK))
        if mine not in self.states:
            assert sent == [], "F3"
        elif side == OUTSIDE:
            self.seen.add(sport)
            assert self.served(sent) == mine, "F1"
        else:
            assert [seen.target for seen in sent] == [self.family.client]

    @rule(sport=SPORTS)
    def error(self, sport: int) -> None:
        mine = self.whose.get(sport)
        if mine is None:
            return
        quoted = (self.family.vip, 80, self.family.client, sport)
        sent = self.sent(OUTSIDE, self.family.error(self.family.router, self.family.vip, quoted))
        assert [seen.target for seen in sent] == ([self.hosts[mine]] if mine in self.states else []), "T11"

    @rule(server=SERVERS, how=st.sampled_from([SILENTLY, BY_RESET]))
    def end(self, server: int, how: int) -> None:
        theirs = {sport for sport, mine in self.whose.items() if mine == server and server not in self.used}
        slot, ended = self.active.end_backend_flows(self.family.service, server, how, 0, ALL_SLOTS)
        assert (slot, ended) == (-1, len(theirs))
        for seen in self.family.read(self.active.take_sent()):
            assert how == BY_RESET
            assert self.flags(seen) & RST
            assert seen.target in (self.family.client, self.hosts[server])
        for sport in theirs:
            del self.whose[sport]

    @rule()
    def take_over(self) -> None:
        """After a delivery of the log: a planned change of roles."""
        self.deliver()
        self.active.disarm()
        self.active, self.passive = self.passive, self.active
        self.active.arm(now_ns())
        self.active.set_lease(1 << 62)
        self.once_seen.setdefault(self.passive, set()).update(self.seen)
        self.seen.clear()

    @rule()
    def deliver(self) -> None:
        mirror(self.active, self.passive)
        assert self.active.digest() == self.passive.digest(), "F4"
        _, following, *_ = self.active.log_state()
        self.active.acknowledge(following - 1)

    # --- what holds -------------------------------------------------------------------------------------

    @invariant()
    def the_table_is_the_models(self) -> None:
        _, rows = self.active.list_flows(0, 1000, now_ns())
        held: dict[Any, Any] = {row[2]: row[12] for row in rows}
        assert held == self.whose, "F1"

    @invariant()
    def counts_are_those_of_the_table(self) -> None:
        counted = self.active.backend_flow_counts(self.family.service)
        for server in range(1, 7):
            assert counted.get(server, 0) == list(self.whose.values()).count(server)

    @invariant()
    def explanations_agree(self) -> None:
        number = self.family.number
        for sport, mine in list(self.whose.items())[:3]:
            said = self.active.explain(
                6, number(self.family.client), sport, number(self.family.vip), 80, now_ns()
            )
            assert said["flow"]["backend"]["id"] == mine
            assert said["flow"]["given_up"] == (mine not in self.states)

    @precondition(lambda self: not self.used)
    @invariant()
    def an_empty_pool_has_nobody(self) -> None:
        number = self.family.number
        said = self.active.explain(6, number(self.family.client), 4999, number(self.family.vip), 80, now_ns())
        assert said["decision"]["dropped"] == "drop_no_backend"

    # --- how ------------------------------------------------------------------------------------------------

    def sent(self, side: int, frame: bytes) -> list[Any]:
        self.active.inject(side, frame, now_ns())
        seen = self.family.read(self.active.take_sent())
        removed = {host for server, host in self.hosts.items() if server not in self.states}
        assert not [each for each in seen if each.target in removed], "F3"
        return list(seen)

    def served(self, sent: list[Any]) -> int:
        (seen,) = sent
        return next(server for server, host in self.hosts.items() if host == seen.target)

    def tcp(self, sport: int, flags: int) -> bytes:
        sequence = self.sequences.get(sport, 0) + (flags != SYN)
        return self.family.tcp(self.family.client, sport, self.family.vip, 80, flags, sequence)

    def back(self, sport: int, flags: int) -> bytes:
        return self.family.tcp(self.hosts[self.whose[sport]], 8080, self.family.client, sport, flags)

    def flags(self, seen: Any) -> int:
        return int(seen.packet[self.family.header + 13])


class Machine4(Machine):
    hosts: ClassVar = {server: f"10.0.1.{20 + server}" for server in range(1, 7)}


class SixBackends6(IPv6):
    """Six whose MACs are known."""

    @staticmethod
    def make(armed: bool = True) -> Engine:
        engine = IPv6.make(armed)
        known = [*gateway6.NEIGHBOURS, *((INSIDE, host) for host in Machine6.hosts.values())]
        engine.set_neighbours([(side, number6(host), gateway6.mac6_of(side, host)) for side, host in known])
        return engine


class Machine6(Machine):
    family: ClassVar = SixBackends6
    hosts: ClassVar = {server: f"2001:db8:1::{20 + server}" for server in range(1, 7)}


SETTINGS = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestBackendsOfIPv4 = Machine4.TestCase
TestBackendsOfIPv4.settings = SETTINGS
TestBackendsOfIPv6 = Machine6.TestCase
TestBackendsOfIPv6.settings = SETTINGS
