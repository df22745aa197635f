"""A real engine against the model of model.py, packet by packet, through exhaustion, pressure, ageing and take-overs.

Both get the same packets. After each the frames that left, the reason of a drop, the flow list and the invariants of
invariants.py are compared. `tests/run soak` runs it for longer (`HS_MODEL_EXAMPLES`).

private .7 .8 .9, ssh and https at .20, backends .21-.23, 1:1 .30 ── engine ── clients .100, servers 198.51.100.1 …
"""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native import frames, invariants
from tests.native.engines import now_ns
from tests.native.frames import ACK, FIN, ICMP, PSH, RST, SYN, TCP, UDP, number
from tests.native.invariants import Moment
from tests.native.model import SECOND, Birth, Flow, Model
from tests.native.model_frames import frame_of, packet_of
from tests.native.model_rules import ORIGINAL, REPLY, Ends, Forward, Packet, Rules

SEED: Final = b"the model's seed"
CAPACITY: Final = 64
INSIDE_VIP, OUTSIDE_VIP = "10.0.1.1", "203.0.113.5"
PUBLICS, OWN = ("203.0.113.6", "203.0.113.7"), "203.0.113.9"
HOSTS, SERVERS, CLIENTS = (
    ("10.0.1.7", "10.0.1.8", "10.0.1.9"),
    ("198.51.100.1", "198.51.100.2"),
    ("203.0.113.100", "203.0.113.101"),
)
MAPPED, EXEMPT_SERVER = "10.0.1.30", "192.0.2.9"
BACKENDS = {1: ("10.0.1.21", 8080), 2: ("10.0.1.22", 8080), 3: ("10.0.1.23", 8080)}
MACS = (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")
FORWARDS = (
    Forward(PUBLICS[0], 8443, TCP, "10.0.1.20", 443),
    Forward(PUBLICS[0], 40003, TCP, "10.0.1.20", 22, (CLIENTS[0],)),
    Forward(OWN, 0, 0, MAPPED, 0),
)
FLAGS = [SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN | FIN, FIN, 0]


def make_rules(quota: int, hold_down_s: int, early_drop: bool) -> Rules:
    return Rules(
        inside="10.0.1.", vips=(INSIDE_VIP, OUTSIDE_VIP), publics=PUBLICS, ports=(40000, 40007), reserved=(40000,),
        exempt="192.0.2.", quota=quota, hold_down_s=hold_down_s, half_open_per_source=6, early_drop=early_drop,
        forwards=FORWARDS, services=((TCP, OUTSIDE_VIP, 80), (UDP, OUTSIDE_VIP, 53)), backends=BACKENDS, homes={},
    )  # fmt: skip


def prefix_of(beginning: str) -> tuple[int, int]:
    parts = [part for part in beginning.split(".") if part]
    return number(".".join([*parts, "0", "0", "0", "0"][:4])), 8 * len(parts)


def set_options(engine: Engine, rules: Rules) -> None:
    engine.set_nat_options(
        0, exempt=[prefix_of(rules.exempt)], reserved=[(port, port) for port in rules.reserved],
        max_flows_per_source=rules.quota, hold_down_s=rules.hold_down_s, preserve_parity=True,
    )  # fmt: skip


def make_engine(rules: Rules) -> Engine:
    engine = Engine(capacity=CAPACITY, seed=SEED, log_records=4096, held_packets=16, held_bytes=65536)
    for side, mac in enumerate(MACS):
        engine.attach(side, mac, 1500)
    engine.set_vips([(INSIDE, number(INSIDE_VIP)), (OUTSIDE, number(OUTSIDE_VIP))])
    inside, router = prefix_of(rules.inside), number("203.0.113.254")
    engine.set_routes([(*inside, INSIDE, number("10.0.1.254")), (0, 0, OUTSIDE, router)])
    engine.set_neighbours([(INSIDE, number("10.0.1.254"), b"\x06" * 6), (OUTSIDE, router, b"\x08" * 6)])
    engine.set_nat_rules([([inside], [], [number(public) for public in rules.publics], *rules.ports)])
    set_options(engine, rules)
    engine.set_policy(half_open_per_source=rules.half_open_per_source, early_drop=rules.early_drop)
    engine.set_forwards(
        [
            (
                number(way.public),
                way.port,
                way.proto,
                number(way.inside),
                way.inside_port,
                [prefix_of(a) for a in way.allow],
            )
            for way in rules.forwards
        ]
    )
    for index, (proto, address, port) in enumerate(rules.services):
        engine.set_service(index, number(address), port, proto, [(0, 0)])
        publish(engine, index, set(BACKENDS), 1)
    return engine


def publish(engine: Engine, index: int, servers: set[int], generation: int) -> None:
    """All backends are listed; those that are not in `servers` drain."""
    rows = [(id, number(host), port, 1, int(id not in servers)) for id, (host, port) in BACKENDS.items()]
    members = [(server, 1) for server in sorted(servers)]
    engine.publish(index, rows, BackendTable("consistent-hash", members, generation))


def prefer(rules: Rules) -> None:
    """Asks an empty engine which public address each host has while all are free (N6)."""
    for host in (*HOSTS, *(backend for backend, _ in BACKENDS.values()), "10.0.1.20"):
        engine = make_engine(rules)
        engine.arm(0)
        engine.set_lease(1 << 62)
        engine.inject(INSIDE, frames.udp(host, 1, SERVERS[0], 9), 1000 * SECOND)
        rules.homes[host] = frames.read(engine.take_sent()[0][1]).source


HOMES: dict[str, str] = {}


class Differential(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = now_ns() // SECOND * SECOND  # append_snapshot goes by the real clock
        self.backup: Engine | None = None
        self.backup_model: Model | None = None
        self.chosen: dict[tuple[Ends, frozenset[int]], int] = {}
        self.generation = 1

    @initialize(
        quota=st.sampled_from([4, 16, 64]), hold_down_s=st.sampled_from([0, 120]), early_drop=st.booleans()
    )
    def begin(self, quota: int, hold_down_s: int, early_drop: bool) -> None:
        rules = make_rules(quota, hold_down_s, early_drop)
        if not HOMES:
            prefer(rules)
            HOMES.update(rules.homes)
        rules.homes = HOMES
        self.engine = make_engine(rules)
        self.engine.arm(self.now - 200 * SECOND)  # the grace after a promotion is over
        self.engine.set_lease(1 << 62)
        self.model = Model(rules, CAPACITY, self.now)
        self.model.rings = {index: set(BACKENDS) for index in range(len(rules.services))}
        self.moment = Moment.of(self.engine, self.now)
        self.installed = 0

    # --- one packet -----------------------------------------------------------------------------

    def send(self, side: int, packet: Packet) -> None:
        self.model.now = self.now
        fate = self.model.receive(side, packet)
        before = self.moment
        self.engine.inject(side, frame_of(packet), self.now)
        sent = [(out, packet_of(frame)) for out, frame in self.engine.take_sent()]
        self.moment = Moment.of(self.engine, self.now)
        reasons = {
            name: count - before.counters[name]
            for name, count in self.moment.counters.items()
            if name.startswith("drop_") and count != before.counters[name]
        }
        assert sum(reasons.values()) + len(sent) == 1, f"{packet}: dropped for {reasons}, sent {sent}"
        if fate.birth and not sent:
            self.explain_refusal(fate.birth, packet, reasons)
        if fate.birth:
            ((out, left),) = sent
            flow = self.settle(fate.birth)
            onward = flow.tuples[REPLY].inverted
            assert (out, left.ends) == (self.model.rules.side_of(onward.dst), onward)
            self.look_at_new(flow, before)
        elif fate.drop == "drop_nat_exhausted" and sent:
            raise AssertionError(f"N1: {packet} was given a port, and all are taken: {sent}")
        else:
            if (
                sent
                and packet.flags == SYN
                and (found := self.model.find(packet.ends))
                and found[1] == ORIGINAL
            ):
                invariants.check_f2_a_syn_leads_to_a_live_backend(self.model, found[0])
            assert (reasons, sent) == ({fate.drop: 1} if fate.drop else {}, [fate.sent] if fate.sent else [])
        self.look(before)

    def explain_refusal(self, birth: Birth, packet: Packet, reasons: dict[str, int]) -> None:
        if "drop_nat_exhausted" in reasons:
            invariants.check_n3_refused_only_when_every_port_is_taken(birth)
        raise AssertionError(f"{packet} was refused ({reasons}), and might have had one of {birth.allowed}")

    def settle(self, birth: Birth) -> Flow:
        """Which reply tuple the engine chose, and whom it dropped early."""
        reply = next(row.reply for row in self.moment.rows if row.original == birth.ends)
        forgotten = self.moment.counters["hold_down_forgotten"]
        invariants.check_n2_the_port_is_the_rules(birth, reply)
        invariants.check_n8_a_freed_port_rests(birth, reply, forgotten)
        if not (forgotten and reply in birth.held):
            invariants.check_n6_one_host_has_one_public_address(birth, reply)
            assert reply in birth.allowed or reply in birth.evictable, f"{reply} for {birth}"
        if birth.victims:
            invariants.check_c3_nobody_in_use_is_dropped_early(self.moment, self.model, birth.victims)
            there = {row.original for row in self.moment.rows}
            (victim,) = [flow for flow in self.model.flows if flow.tuples[ORIGINAL] not in there]
            self.model.end(victim, freed=False)
        return self.model.bear(birth, reply)

    def look_at_new(self, flow: Flow, before: Moment) -> None:
        invariants.check_f3_nothing_new_goes_to_an_absent_backend(self.moment, before, self.model)
        if flow.service >= 0 and not flow.is_hairpin:
            key = flow.tuples[ORIGINAL], frozenset(self.model.rings[flow.service])
            first = self.chosen.setdefault(key, flow.server)
            assert first == flow.server, f"F4: {key} once led to {first}, now to {flow.server}"

    def look(self, before: Moment) -> None:
        """Every invariant that can be seen at any moment."""
        moment, model = self.moment, self.model
        invariants.check_n1_no_tuple_is_two_flows(moment)
        invariants.check_n11_both_directions_live_and_die_together(moment, model)
        invariants.check_c1_states_are_those_of_the_reference_table(moment, model)
        invariants.check_f1_a_flow_keeps_its_backend(moment, model)
        invariants.check_n4_every_flow_is_accounted_for(moment, self.installed)
        invariants.check_n5_a_port_is_shared_only_towards_others(moment, model)
        invariants.check_n7_no_source_has_more_than_its_quota(moment, model)
        invariants.check_c2_no_refresh_shortens_a_life(moment, before, model)
        invariants.check_timeouts_are_the_models(moment, model)
        invariants.check_c7_new_timeouts_are_not_below_the_rfcs(moment, model)

    def pick(self, at: int, proto: int | None = None) -> Flow | None:
        known = [flow for flow in self.model.flows if proto in (None, flow.proto)]
        return known[at % len(known)] if known else None

    def along(self, flow: Flow, way: int, flags: int = ACK, sequence: int = 1) -> None:
        """A packet of the flow, as its sender sends it."""
        if flow not in self.model.flows:
            return
        ends = flow.tuples[way]
        packet = Packet(ends, flags if ends.proto == TCP else 0, sequence if ends.proto == TCP else 1)
        if ends.proto == ICMP and way == REPLY:
            packet = Packet(ends, answers=True)
        self.send(self.model.rules.side_of(ends.src), packet)

    # --- rules ----------------------------------------------------------------------------------

    @rule(
        host=st.sampled_from([*HOSTS, MAPPED]),
        server=st.sampled_from([*SERVERS, EXEMPT_SERVER, HOSTS[0], OUTSIDE_VIP]),
        sport=st.integers(1, 9), proto=st.sampled_from([TCP, UDP, ICMP]), sequence=st.integers(1, 5),
    )  # fmt: skip
    def open_from_inside(self, host: str, server: str, sport: int, proto: int, sequence: int) -> None:
        dport = 0 if proto == ICMP else 443
        ends = Ends(proto, host, sport, server, dport)
        tcp = proto == TCP
        self.send(INSIDE, Packet(ends, SYN if tcp else 0, sequence * 1000 if tcp else 1))

    @rule(
        client=st.sampled_from([*CLIENTS, SERVERS[0], HOSTS[0]]), sport=st.integers(1, 9),
        way=st.sampled_from([(TCP, OUTSIDE_VIP, 80), (UDP, OUTSIDE_VIP, 53), (TCP, PUBLICS[0], 8443),
                             (TCP, PUBLICS[0], 40003), (UDP, OWN, 7), (TCP, OWN, 22), (ICMP, OWN, 0),
                             (ICMP, OUTSIDE_VIP, 0), (TCP, PUBLICS[1], 8443), (UDP, PUBLICS[0], 40001)]),
        flags=st.sampled_from([SYN, SYN, SYN, ACK, RST]),
    )  # fmt: skip
    def open_from_outside(self, client: str, sport: int, way: tuple[int, str, int], flags: int) -> None:
        proto, address, port = way
        self.send(OUTSIDE, Packet(Ends(proto, client, sport, address, port), flags if proto == TCP else 0))

    @rule(
        host=st.sampled_from([*HOSTS, MAPPED]), sport=st.integers(1, 9),
        way=st.sampled_from([(TCP, PUBLICS[0], 8443), (TCP, PUBLICS[0], 40003), (UDP, OWN, 7), (ICMP, OWN, 0)]),
    )  # fmt: skip
    def hairpin(self, host: str, sport: int, way: tuple[int, str, int]) -> None:
        proto, address, port = way
        if (host, address) == (MAPPED, OWN) and (sport == port or proto == ICMP):
            return
        self.send(INSIDE, Packet(Ends(proto, host, sport, address, port), SYN if proto == TCP else 0))

    @precondition(lambda self: self.model.flows)
    @rule(at=st.integers(0, 63), way=st.sampled_from([ORIGINAL, REPLY]), flags=st.sampled_from(FLAGS))
    def go_on(self, at: int, way: int, flags: int) -> None:
        if flow := self.pick(at):
            self.along(flow, way, flags)

    @precondition(lambda self: self.model.flows)
    @rule(at=st.integers(0, 63), close=st.sampled_from(["", "fin", "rst"]), sequence=st.integers(1, 5000))
    def converse(self, at: int, close: str, sequence: int) -> None:
        """A handshake and an end, as far as the flow's state lets them."""
        if not (flow := self.pick(at, TCP)):
            return
        talk = [(ORIGINAL, SYN), (REPLY, SYN | ACK), (ORIGINAL, ACK)]
        if close == "fin":
            talk += [(ORIGINAL, FIN | ACK), (REPLY, FIN | ACK), (ORIGINAL, ACK)]
        if close == "rst":
            talk += [(REPLY, RST)]
        for way, flags in talk:
            self.along(flow, way, flags, sequence)

    @precondition(lambda self: self.model.flows)
    @rule(
        at=st.integers(0, 63),
        way=st.sampled_from([ORIGINAL, REPLY]),
        kind=st.sampled_from([(3, 1), (3, 4), (11, 0), (12, 0)]),
    )
    def complain(self, at: int, way: int, kind: tuple[int, int]) -> None:
        """Who received a packet of the flow sends an ICMP error about it: translated, and nothing else changes."""
        flow = self.pick(at)
        if not flow:
            return
        arrived = flow.tuples[1 - way].inverted
        about = Packet(arrived, ACK if arrived.proto == TCP else 0, answers=way == REPLY)
        error = frames.error(arrived.dst, arrived.src, frame_of(about)[14:], kind=kind[0], code=kind[1])
        before = self.moment
        self.engine.inject(self.model.rules.side_of(arrived.dst), error, self.now)
        ((out, frame),) = self.engine.take_sent()
        self.moment = Moment.of(self.engine, self.now)
        seen = frames.read(frame)
        quoted = packet_of(b"\0" * 12 + b"\x08\0" + seen.packet[28:])
        invariants.check_n10_an_error_speaks_its_receivers_language(flow, way, seen.target, quoted.ends)
        assert out == self.model.rules.side_of(flow.tuples[way].src)
        assert (seen.icmp_type, seen.packet[21]) == kind
        assert self.moment.rows == before.rows, "an error ends and refreshes nothing (RFC 4787 REQ-12)"

    @precondition(lambda self: self.model.flows)
    @rule(
        at=st.integers(0, 63), way=st.sampled_from([ORIGINAL, REPLY]), flags=st.sampled_from([SYN, ACK, RST])
    )
    def forge(self, at: int, way: int, flags: int) -> None:
        """A flow's packet from the side where its sender is not."""
        if flow := self.pick(at):
            ends = flow.tuples[way]
            forged = Packet(
                ends, flags if ends.proto == TCP else 0, answers=ends.proto == ICMP and way == REPLY
            )
            self.send(1 - self.model.rules.side_of(ends.src), forged)

    @rule(count=st.integers(1, 40), client=st.sampled_from(CLIENTS), first=st.integers(1000, 1080))
    def fill(self, count: int, client: str, first: int) -> None:
        for sport in range(first, first + count):
            self.send(OUTSIDE, Packet(Ends(UDP, client, sport, OUTSIDE_VIP, 53)))

    @rule(count=st.integers(1, 12), first=st.integers(2000, 2020))
    def flood(self, count: int, first: int) -> None:
        for sport in range(first, first + count):
            client = f"203.0.113.{102 + sport % 3}"
            self.send(OUTSIDE, Packet(Ends(TCP, client, sport, OUTSIDE_VIP, 80), SYN))

    @rule(seconds=st.sampled_from([1, 14, 29, 31, 61, 121, 241, 301, 7441]))
    def pass_time(self, seconds: int) -> None:
        before = self.moment
        self.now = self.model.now = self.now + seconds * SECOND
        for _ in range(4):
            self.engine.tick(self.now)
        self.moment = Moment.of(self.engine, self.now)
        there = {(row.original, row.reply) for row in self.moment.rows}
        assert not (wrong := self.model.age(lambda flow: flow.tuples in there)), wrong
        if self.moment.counters["hold_down_forgotten"]:
            self.give_up_hold_down()
        self.look(before)

    @rule(first=st.sampled_from(HOSTS), second=st.sampled_from(HOSTS), wait=st.sampled_from([301, 421]))
    def follow(self, first: str, second: str, wait: int) -> None:
        """One host's flows age out, and another wants their ports (N8)."""
        for host, seconds in ((first, wait), (second, 0)):
            for sport in range(1, 7):
                self.send(INSIDE, Packet(Ends(UDP, host, sport, SERVERS[0], 53)))
            self.pass_time(seconds)

    def give_up_hold_down(self) -> None:
        """Which ports the bounded memory had to forget (and counted) nobody can say: from here on none is held."""
        self.model.rules.hold_down_s = 0
        for engine in (self.engine, self.backup):
            if engine:
                set_options(engine, self.model.rules)

    @rule(index=st.sampled_from([0, 1]), servers=st.sets(st.sampled_from(sorted(BACKENDS))))
    def change_backends(self, index: int, servers: set[int]) -> None:
        self.generation += 1
        self.model.rings[index] = servers
        for engine in (self.engine, self.backup):
            if engine:
                publish(engine, index, servers, self.generation)

    # --- the pair -------------------------------------------------------------------------------

    @rule()
    def replicate(self) -> None:
        """The backup, new or not, is told everything."""
        self.model.now = self.now
        if self.backup is None:
            self.backup = make_engine(self.model.rules)
            for index, servers in self.model.rings.items():
                publish(self.backup, index, servers, self.generation)
            assert self.engine.start_log(self.engine.log_state()[2])
            self.backup.begin_sync()
            self.engine.start_snapshot(b"", False)
            assert self.engine.append_snapshot(1 << 20)[1]
            self.model.freed.clear()
        first, count, records = self.engine.drain(1 << 22)
        assert self.backup.install(records, self.now) == (count, None)
        self.engine.acknowledge(first + count - 1)
        if self.backup_model is None:
            self.backup.end_sync()
        self.backup_model = self.model.told(self.backup_model)
        if self.backup.counters()["hold_down_forgotten"]:
            self.give_up_hold_down()
        assert self.engine.count_at_risk()[0] == 0
        assert self.backup.digest() == self.engine.digest(), "what both hold is the same"
        self.moment = Moment.of(self.engine, self.now)

    @precondition(lambda self: self.backup)
    @rule(later=st.sampled_from([0, 5, 400]))
    def take_over(self, later: int) -> None:
        """The primary dies with what it had not yet told."""
        assert self.backup
        assert self.backup_model
        self.now += later * SECOND
        self.engine, self.model = self.backup, self.backup_model
        self.backup = self.backup_model = None
        self.model.now = self.now
        self.engine.arm(self.now)
        self.engine.set_lease(1 << 62)
        self.model.grace_until = self.now + 120 * SECOND
        self.moment = Moment.of(self.engine, self.now)
        counters = self.moment.counters
        self.installed = len(self.moment.rows) - (counters["flows_created"] - counters["flows_closed"])
        invariants.check_f4_the_table_is_a_single_nodes(self.moment, self.model)
        self.look(self.moment)

    # --- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        """When all has aged out nothing is left, and every port can be given out again."""
        if not hasattr(self, "engine"):
            return
        for _ in range(2):
            self.pass_time(7445)
        invariants.check_n4_nothing_is_left(self.engine)
        wanted = {
            reply
            for sport in (1, 2)
            for replies in self.model.pool(Ends(UDP, HOSTS[0], sport, SERVERS[1], 53))
            for reply in replies
        }
        for number_, host in enumerate(HOSTS * 5):
            for sport in range(number_ * 10, number_ * 10 + 4):
                self.send(INSIDE, Packet(Ends(UDP, host, sport, SERVERS[1], 53)))
        if self.model.rules.quota >= len(wanted):
            invariants.check_n4_every_port_is_usable_again(self.moment, wanted)


TestModel = pytest.mark.timeout(600)(Differential.TestCase)
TestModel.settings = settings(
    max_examples=int(os.environ.get("HS_MODEL_EXAMPLES", "600")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
