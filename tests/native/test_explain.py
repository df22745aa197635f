"""Engine.explain: what it says of a packet is what that packet meets, and to ask changes nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native import engines, gateway6
from tests.native.engines import CLIENT, OUTSIDE_VIP, PRIVATE, drops, make_engine, now_ns, send
from tests.native.frames import ACK, SYN, echo, number, tcp, udp
from tests.native.frames6 import number6, tcp6, udp6
from tests.native.test_backend_flows import open_flow, publish
from tests.native.test_backend_flows import tcp as numbered

UP, DRAINING, DOWN = range(3)
TCP, UDP, ICMP = 6, 17, 1
WORLD = "198.51.100.9"
OWN, PUBLIC_OWN, EXEMPT = "10.0.1.8", "203.0.113.77", "198.51.100.200"
BACKENDS = {server: f"10.0.1.{20 + server}" for server in range(1, 6)}
CACHES = {"nat_blocks_built", "nat_blocks"}
"""What a search for a port may remember."""


def address(text: str) -> int | bytes:
    return number6(text) if ":" in text else number(text)


def ask(
    engine: Engine, proto: int, src: str, sport: int, dst: str, dport: int, at_ns: int | None = None
) -> dict[str, Any]:
    at_ns = now_ns() if at_ns is None else at_ns
    return engine.explain(proto, address(src), sport, address(dst), dport, at_ns)


def gateway(algorithm: str, states: list[int], *, limit: int = 0, ports: tuple[int, int]) -> Engine:
    """Services over five backends, a pool with few ports, ways in, a host with an address of its own."""
    engine = make_engine(ports=ports, capacity=64)
    engine.set_nat_options(
        0, exempt=[(number(EXEMPT), 32)], max_flows_per_source=12, icmp_on_exhaustion=True, hold_down_s=0
    )
    engine.set_forwards(
        [
            (number(OUTSIDE_VIP), 8022, TCP, number(PRIVATE), 22, [(0, 0)]),
            (number(PUBLIC_OWN), 0, 0, number(OWN), 0, [(number("203.0.113.0"), 24)]),
        ]
    )
    members = [(server, server) for server, state in enumerate(states, 1) if state == UP]
    rows = [(server, number(BACKENDS[server]), 8080, server, state) for server, state in enumerate(states, 1)]
    for index in (0, 1):
        engine.set_balance(index, "tuple", limit, "reject")
        engine.publish(index, rows, BackendTable(algorithm, members, 7), now_ns() + 10**12)
    return engine


@dataclass
class Packet:
    """One first packet, and what asks for it."""

    side: int
    proto: int
    src: str
    sport: int
    dst: str
    dport: int
    frame: bytes = field(init=False)

    def __post_init__(self) -> None:
        if self.proto == ICMP:
            self.dport = 0
            self.frame = echo(self.src, self.dst, self.sport)
        else:
            flags = (SYN,) if self.proto == TCP else ()
            make = tcp if self.proto == TCP else udp
            self.frame = make(self.src, self.sport, self.dst, self.dport, *flags)  # type: ignore[operator]

    @property
    def ends(self) -> tuple[int, str, int, str, int]:
        return self.proto, self.src, self.sport, self.dst, self.dport


FROM_OUTSIDE = st.builds(
    Packet,
    st.just(OUTSIDE),
    st.sampled_from([TCP, UDP, ICMP]),
    st.sampled_from([CLIENT, WORLD, OUTSIDE_VIP]),
    st.integers(1, 5),
    st.sampled_from([OUTSIDE_VIP, PUBLIC_OWN, "203.0.113.99"]),
    st.sampled_from([80, 81, 8022]),
)
FROM_INSIDE = st.builds(
    Packet,
    st.just(INSIDE),
    st.sampled_from([TCP, UDP, ICMP]),
    st.sampled_from([PRIVATE, OWN, "10.2.0.9", "10.0.1.30"]),
    st.integers(1, 5),
    st.sampled_from([WORLD, OUTSIDE_VIP, EXEMPT, PUBLIC_OWN, "127.0.0.1", "10.0.1.255"]),
    st.sampled_from([80, 443, 8022]),
)


def happened(engine: Engine, packet: Packet) -> tuple[str | None, bool, tuple[int | bytes, ...] | None]:
    """(why it was dropped, whether it was answered by the gateway, the reply tuple of the flow that it made)."""
    before, were = engine.counters(), set(engines.flows(engine))
    engine.inject(packet.side, packet.frame, now_ns())
    engine.take_sent()
    moved = engines.moved(engine.counters(), before)
    made = [flow.reply for flow in engines.flows(engine) if flow not in were]
    reason = next((name for name in moved if name.startswith("drop_")), None)
    return reason, bool(moved.get("echo_answered")), made[0] if made else None


@settings(max_examples=150, deadline=None)
@given(
    algorithm=st.sampled_from(["consistent-hash", "maglev", "ecmp", "weighted-round-robin"]),
    states=st.lists(st.sampled_from([UP, UP, DRAINING, DOWN]), min_size=5, max_size=5),
    limit=st.sampled_from([0, 110]),
    few_ports=st.booleans(),
    packets=st.lists(FROM_OUTSIDE | FROM_INSIDE, max_size=40),
)
def test_what_is_explained_is_what_happens(
    algorithm: str, states: list[int], limit: int, few_ports: bool, packets: list[Packet]
) -> None:
    """Of new flows: reason, backend and port; of all of them, that asking left no trace."""
    engine = gateway(algorithm, states, limit=limit, ports=(40000, 40003) if few_ports else (1024, 65535))
    for packet in packets:
        before, digest = engine.counters(), engine.digest()
        moment = now_ns()
        said = ask(engine, *packet.ends, moment)
        assert said == ask(engine, *packet.ends, moment), "asking changes nothing, turns included"
        assert set(engines.moved(engine.counters(), before)) <= CACHES
        assert (engine.digest(), engine.take_sent()) == (digest, [])
        if said["side"] != packet.side:
            continue  # it would come from elsewhere: a forged one
        decision, flow = said["decision"], said["flow"]
        reason, answered, reply = happened(engine, packet)
        if flow is not None and not flow["begins_anew"]:
            assert reply is None
            continue
        assert (decision["dropped"], decision["answered"], decision["reply"]) == (reason, answered, reply)
        if flow is None and reply is not None:
            again = ask(engine, *packet.ends)
            assert again["flow"]["reply"] == reply
            if algorithm != "weighted-round-robin" and not limit:
                assert again["decision"]["reply"] == reply, "it would be decided alike"


@given(state=st.sampled_from([UP, DRAINING, DOWN, None]))
@settings(max_examples=10, deadline=None)
def test_a_flow_whose_backend_is_not_up_says_what_a_syn_would_do(state: int | None) -> None:
    engine = make_engine()
    mine = open_flow(engine)
    publish(engine, {3 - mine: UP} | ({} if state is None else {mine: state}))
    ends = (TCP, CLIENT, 5000, OUTSIDE_VIP, 80)
    said = ask(engine, *ends)
    assert said["flow"]["backend"]["id"] == mine
    assert said["flow"]["backend"]["state"] == (3 if state is None else state)
    assert said["flow"]["begins_anew"] == (state != UP)
    assert said["flow"]["given_up"] == (state is None)
    reversed_ = ask(engine, TCP, engines.BACKENDS[mine], 8080, CLIENT, 5000)
    assert reversed_["flow"]["is_reply"]
    assert (reversed_["choice"], reversed_["decision"]) == (said["choice"], said["decision"])
    (sent,) = send(engine, OUTSIDE, numbered(*ends[1:], SYN, sequence=9_000_000))
    leads_to = mine if state == UP else said["choice"]["backend"]["id"]
    assert sent.target == engines.BACKENDS[leads_to]


def test_a_key_is_explained_by_the_vnode_and_the_slot_that_have_it() -> None:
    engine = make_engine()
    ring = BackendTable("consistent-hash", [(1, 1), (2, 1)], 1)
    for sport in range(1, 50):
        choice = ask(engine, TCP, CLIENT, sport, OUTSIDE_VIP, 80)["choice"]
        point, server, *_ = ring.ring()[choice["place"]]
        assert (choice["point"], choice["owner"]["id"]) == (point, server)
        assert ring.find(choice["key"]) == server
        assert (choice["digest"], choice["places"]) == (ring.digest, 320)
    slots = BackendTable("maglev", [(1, 1), (2, 1)], 2)
    engine.publish(0, [(1, number("10.0.1.21"), 8080, 1, UP), (2, number("10.0.1.22"), 8080, 1, UP)], slots)
    choice = ask(engine, TCP, CLIENT, 7, OUTSIDE_VIP, 80)["choice"]
    assert slots.slots()[choice["place"]] == choice["owner"]["id"] == choice["backend"]["id"]
    assert (choice["generation"], choice["places"]) == (2, 65537)


def test_a_connection_under_way_goes_by_the_table_before() -> None:
    engine = make_engine()
    engine.set_policy(loose=True)
    rows = [(server, number(engines.BACKENDS[server]), 8080, 1, UP) for server in (1, 2)]
    engine.publish(0, [rows[0]], BackendTable("maglev", [(1, 1)], 1))
    engine.publish(0, rows, BackendTable("maglev", [(1, 1), (2, 1)], 2), now_ns() + 10**12)
    sport = next(
        port
        for port in range(1, 100)
        if ask(engine, TCP, CLIENT, port, OUTSIDE_VIP, 80)["choice"]["backend"]["id"] == 2
    )
    choice = ask(engine, TCP, CLIENT, sport, OUTSIDE_VIP, 80)["choice"]
    assert choice["before"]["id"] == 1
    (sent,) = send(engine, OUTSIDE, tcp(CLIENT, sport, OUTSIDE_VIP, 80, ACK))
    assert sent.target == engines.BACKENDS[1]


def test_a_table_without_room_is_told_for_new_flows_only() -> None:
    engine = make_engine(capacity=16)
    for sport in range(1, 20):
        send(engine, INSIDE, udp(PRIVATE, sport, WORLD, 53))
    assert set(drops(engine)) == {"drop_table_full"}
    assert ask(engine, UDP, PRIVATE, 100, WORLD, 53)["decision"]["dropped"] == "drop_table_full"
    assert ask(engine, UDP, PRIVATE, 1, WORLD, 53)["decision"]["passes"]


def test_a_node_that_does_not_forward_says_so_and_explains_all_the_same() -> None:
    engine = make_engine(armed=False)
    said = ask(engine, TCP, CLIENT, 1, OUTSIDE_VIP, 80)
    assert (said["armed"], said["decision"]["passes"]) == (False, True)


@settings(max_examples=60, deadline=None)
@given(
    proto=st.sampled_from([TCP, UDP]),
    side=st.sampled_from([INSIDE, OUTSIDE]),
    sport=st.integers(1, 5),
    dport=st.sampled_from([53, 80, 443]),
    others=st.integers(0, 5),
)
def test_ipv6_is_explained_as_it_happens(proto: int, side: int, sport: int, dport: int, others: int) -> None:
    engine = gateway6.make_engine()
    ends = {
        OUTSIDE: (gateway6.CLIENT, sport, gateway6.OUTSIDE_VIP6, dport),
        INSIDE: (gateway6.HOST, sport, gateway6.SERVER, dport),
    }[side]
    for other in range(others):
        engine.inject(OUTSIDE, tcp6(gateway6.CLIENT, 1 + other, gateway6.OUTSIDE_VIP6, 80, SYN), now_ns())
    engine.take_sent()
    said = ask(engine, proto, *ends)
    if said["flow"] is None:
        before, were = engine.counters(), set(engines.flows(engine))
        engine.inject(side, tcp6(*ends, SYN) if proto == TCP else udp6(*ends), now_ns())
        moved = engines.moved(engine.counters(), before)
        made = [flow.reply for flow in engines.flows(engine) if flow not in were]
        assert said["decision"]["reply"] == (made[0] if made else None)
        assert said["decision"]["dropped"] == next((n for n in moved if n.startswith("drop_")), None)
    again = ask(engine, proto, *ends)
    if again["flow"] is not None:
        assert again["flow"]["reply"] == again["decision"]["reply"]


@pytest.mark.parametrize(
    ("proto", "src", "dst"),
    [(47, CLIENT, OUTSIDE_VIP), (1, "::1", "::2"), (58, CLIENT, OUTSIDE_VIP), (6, CLIENT, "::2")],
)
def test_what_is_no_packet_is_an_error(proto: int, src: str, dst: str) -> None:
    with pytest.raises(ValueError, match=r"TCP|family"):
        ask(make_engine(), proto, src, 1, dst, 1)


@given(src=st.ip_addresses(), dst=st.ip_addresses(), sport=st.integers(0, 65535), dport=st.integers(0, 65535))
@settings(max_examples=200, deadline=None)
def test_any_ends_are_explained_or_refused(src: Any, dst: Any, sport: int, dport: int) -> None:
    if src.version != dst.version:
        src = ipaddress.ip_address(str(dst))
    said = ask(gateway6.make_engine(), UDP, str(src), sport, str(dst), dport)
    decision = said["decision"]
    assert decision["passes"] == (decision["dropped"] is None)
