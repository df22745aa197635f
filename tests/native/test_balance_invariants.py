"""T8, T9, T11, F3, F4 and F5 (README.md) on the packet engine: packets in, packets out, tables published meanwhile."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native import engines, gateway6
from tests.native.engines import CLIENT, OUTSIDE_VIP, ROUTER, make_engine, now_ns, send
from tests.native.frames import ACK, SYN, Seen, error, ipv4, number, segment, tcp
from tests.native.frames6 import Seen6, error6, ethernet6, ipv6, number6, read6, segment6, summed
from tests.native.test_backend_flows import mirror
from tests.native.test_backend_flows import tcp as numbered

UP, DRAINING, DOWN = range(3)
GONE = None
HASHING = ("consistent-hash", "maglev", "ecmp")
FAR_NS = 10**13
WEIGHTS = st.dictionaries(st.integers(1, 8), st.integers(1, 9), min_size=1, max_size=8)


def host(server: int) -> str:
    return f"10.0.1.{20 + server}"


def publish(
    engine: Engine, weights: dict[int, int], algorithm: str = "maglev", generation: int = 2, grace_ns: int = 0
) -> BackendTable:
    table = BackendTable(algorithm, list(weights.items()), generation, 16)
    rows = [(server, number(host(server)), 8080, weight, UP) for server, weight in weights.items()]
    engine.publish(0, rows, table, grace_ns)
    return table


def flows_by_server(engine: Engine) -> dict[int, int]:
    return {row[0]: row[2] for row in engine.backend_counters(0)}


@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS, percent=st.integers(110, 400), clients=st.lists(st.integers(0, 40), max_size=80))
def test_t8_no_backend_has_more_than_its_bounded_share(
    weights: dict[int, int], percent: int, clients: list[int]
) -> None:
    """At every moment; and with a limit that nobody reaches it is the plain ring."""
    engine, plain = make_engine(), make_engine()
    for each, limit in ((engine, percent), (plain, 10**8)):
        each.set_balance(0, "source", limit)
        ring = publish(each, weights, "consistent-hash")
    total = sum(weights.values())
    for sport, which in enumerate(clients, 1):
        source = f"203.0.113.{100 + which % 20}"
        for each in (engine, plain):
            send(each, OUTSIDE, tcp(source, sport, OUTSIDE_VIP, 80, SYN))
        for server, flows in flows_by_server(engine).items():
            assert flows <= ceil(Fraction(percent * sport * weights[server], 100 * total))
        choice = plain.explain(6, number(source), sport, number(OUTSIDE_VIP), 80, now_ns())["choice"]
        assert choice["backend"]["id"] == ring.find(choice["key"])
    assert sum(flows_by_server(engine).values()) == len(clients), "somebody has room"


@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS, rounds=st.integers(1, 3))
def test_f5_in_turn_everybody_has_exactly_his_weight(weights: dict[int, int], rounds: int) -> None:
    """In each round of sum(weights) picks; and at no moment of it a whole turn more than his share so far."""
    engine = make_engine(capacity=4096)
    publish(engine, weights, "weighted-round-robin")
    order = []
    for sport in range(1, rounds * sum(weights.values()) + 1):
        (sent,) = send(engine, OUTSIDE, tcp(CLIENT, sport, OUTSIDE_VIP, 80, SYN))
        order.append(int(sent.target.rpartition(".")[2]) - 20)
    total = sum(weights.values())
    for start in range(0, len(order), total):
        turns = order[start : start + total]
        assert Counter(turns) == weights
        had: Counter[int] = Counter()
        for picks, one in enumerate(turns, 1):
            had[one] += 1
            assert had[one] < Fraction(picks * weights[one], total) + 1


@pytest.mark.parametrize("algorithm", HASHING)
def test_t9_a_reader_sees_one_generation_and_never_a_mixture(algorithm: str) -> None:
    """Tables are published by one thread while another makes flows: each is where one whole table puts it, that of the
    moment before or after, and generations only grow. (Under the sanitizers, too: an old table is freed when its last
    reader is through.)"""
    engine = make_engine(capacity=1 << 14)
    tables = [
        BackendTable(algorithm, [(server, 1) for server in range(1, 3 + n % 5)], n, 4) for n in range(1, 41)
    ]
    rows = [(server, number(host(server)), 8080, 1, UP) for server in range(1, 8)]
    engine.publish(0, rows, tables[0])
    begun, published = [1], [1]

    def change() -> None:
        for table in tables[1:]:
            begun[0] = table.generation
            engine.publish(0, rows, table)
            published[0] = table.generation

    writer = threading.Thread(target=change)
    writer.start()
    last, sport = 0, 0
    while writer.is_alive() or sport < 100:
        sport += 1
        earliest = published[0]
        said = engine.explain(6, number(CLIENT), sport, number(OUTSIDE_VIP), 80, now_ns())["choice"]
        assert last <= earliest <= said["generation"] <= begun[0]
        last = said["generation"]
        table = tables[last - 1]
        assert (said["digest"], said["owner"]["id"]) == (table.digest, table.find(said["key"]))
        (sent,) = send(engine, OUTSIDE, tcp(CLIENT, sport, OUTSIDE_VIP, 80, SYN))
        may_be = {host(each.find(said["key"]) or 0) for each in tables[last - 1 : begun[0]]}
        assert sent.target in may_be
        if sport >= 60_000:
            break
    writer.join()
    assert (
        engine.explain(6, number(CLIENT), 1, number(OUTSIDE_VIP), 80, now_ns())["choice"]["generation"] == 40
    )


# --- both families ------------------------------------------------------------------------------------------------


class IPv4:
    """A service, a client and how they speak."""

    client, vip, router = CLIENT, OUTSIDE_VIP, ROUTER
    backends = engines.BACKENDS
    service = 0
    header, number = 20, staticmethod(number)

    @staticmethod
    def make(armed: bool = True) -> Engine:
        return make_engine(armed=armed)

    @staticmethod
    def tcp(source: str, sport: int, target: str, dport: int, flags: int, sequence: int = 1) -> bytes:
        return numbered(source, sport, target, dport, flags, sequence=sequence)

    @staticmethod
    def error(source: str, target: str, ends: tuple[str, int, str, int]) -> bytes:
        src, sport, dst, dport = ends
        return error(source, target, ipv4(src, dst, 6, segment(src, sport, dst, dport, ACK)))

    @staticmethod
    def read(frames: list[tuple[int, bytes]]) -> list[Seen] | list[Seen6]:
        return [engines.read(frame) for _, frame in frames]


class IPv6(IPv4):
    """The same in IPv6."""

    client, vip, router = gateway6.CLIENT, gateway6.OUTSIDE_VIP6, "2001:db8:2::101"
    backends = gateway6.BACKENDS6
    service = gateway6.WEB6
    header, number = 40, staticmethod(number6)

    @staticmethod
    def make(armed: bool = True) -> Engine:
        return gateway6.make_engine(armed=armed)

    @staticmethod
    def tcp(source: str, sport: int, target: str, dport: int, flags: int, sequence: int = 1) -> bytes:
        body = struct.pack("!HHIIBBHHH", sport, dport, sequence, 2, 0x50, flags, 1000, 0, 0)
        return ethernet6(ipv6(source, target, 6, summed(source, target, 6, body, 16)))

    @staticmethod
    def error(source: str, target: str, ends: tuple[str, int, str, int]) -> bytes:
        src, sport, dst, dport = ends
        return error6(source, target, ipv6(src, dst, 6, segment6(src, sport, dst, dport)))

    @staticmethod
    def read(frames: list[tuple[int, bytes]]) -> list[Seen] | list[Seen6]:
        return [read6(frame) for _, frame in frames]


FAMILIES = pytest.mark.parametrize("family", [IPv4, IPv6])
STATE = st.sampled_from([UP, DRAINING, DOWN, GONE])


def set_states(family: type[IPv4], engine: Engine, states: dict[int, int | None]) -> None:
    listed = {server: state for server, state in states.items() if state is not None}
    rows = [
        (server, family.number(family.backends[server]), 8080, 1, state) for server, state in listed.items()
    ]
    members = [(server, 1) for server, state in listed.items() if state == UP]
    engine.publish(family.service, rows, BackendTable("maglev", members, 2), now_ns() + FAR_NS)


def crossing(family: type[IPv4], engine: Engine, side: int, frame: bytes) -> list[Seen] | list[Seen6]:
    engine.inject(side, frame, now_ns())
    return family.read(engine.take_sent())


def open_flow(family: type[IPv4], engine: Engine, sport: int) -> int:
    """A connection with a handshake; whose it is."""
    (sent,) = crossing(family, engine, OUTSIDE, family.tcp(family.client, sport, family.vip, 80, SYN))
    crossing(family, engine, INSIDE, family.tcp(sent.target, 8080, family.client, sport, SYN | ACK))
    crossing(family, engine, OUTSIDE, family.tcp(family.client, sport, family.vip, 80, ACK))
    return next(server for server, address in family.backends.items() if address == sent.target)


@FAMILIES
@settings(max_examples=40, deadline=None)
@given(state=STATE, sport=st.integers(1, 65535), direct=st.booleans())
def test_t11_an_icmp_error_goes_to_its_flows_backend(
    family: type[IPv4], state: int | None, sport: int, direct: bool
) -> None:
    """Whatever the table says now: to the one that has the flow, drained or down; to one that is removed nothing."""
    engine = family.make()
    mine = open_flow(family, engine, sport)
    set_states(family, engine, {3 - mine: UP, mine: state})
    quoted = (family.vip, 80, family.client, sport)  # what the client's side saw of the backend's answer
    source = family.client if direct else family.router
    sent = crossing(family, engine, OUTSIDE, family.error(source, family.vip, quoted))
    if state is GONE:
        assert sent == []
        return
    (seen,) = sent
    assert (seen.source, seen.target) == (source, family.backends[mine])
    inner = family.number(family.backends[mine])
    quoted_source = inner.to_bytes(4, "big") if isinstance(inner, int) else inner
    assert quoted_source in seen.packet[family.header :], "it quotes what the backend sent"


@FAMILIES
@settings(max_examples=40, deadline=None)
@given(
    states=st.lists(STATE, min_size=1, max_size=5),
    side=st.sampled_from([INSIDE, OUTSIDE]),
    flags=st.sampled_from([ACK, SYN]),
)
def test_f3_no_packet_reaches_a_removed_backend(
    family: type[IPv4], states: list[int | None], side: int, flags: int
) -> None:
    """Through any history of states: nothing to it and nothing from it, while the others' flows go on (F1)."""
    engine = family.make()
    whose = {sport: open_flow(family, engine, sport) for sport in range(5000, 5008)}
    for state in states:
        set_states(family, engine, {1: state, 2: UP})
    removed = states[-1] is GONE
    for sport, mine in whose.items():
        ends = (family.client, sport, family.vip, 80)
        if side == INSIDE:
            ends = (family.backends[mine], 8080, family.client, sport)
        sent = crossing(family, engine, side, family.tcp(*ends, ACK if side == INSIDE else flags))
        if removed and mine == 1:
            assert all(seen.target != family.backends[1] for seen in sent)
            assert bool(sent) == (side == OUTSIDE and flags == SYN), "but a SYN begins anew"
        elif flags == ACK:
            (seen,) = sent
            assert seen.target == (family.backends[mine] if side == OUTSIDE else family.client)


@FAMILIES
@settings(max_examples=30, deadline=None)
@given(state=STATE, synced=st.integers(0, 12))
def test_f4_a_takeover_is_as_if_one_node_had_gone_on(
    family: type[IPv4], state: int | None, synced: int
) -> None:
    """Flows that were synced are where they were, whatever became of their backend. Flows that were not are led where
    the table of both nodes puts their keys: where they were, too."""
    engine, backup = family.make(), family.make(armed=False)
    whose = {}
    for n, sport in enumerate(range(5000, 5012)):
        if n == synced:
            mirror(engine, backup)
        whose[sport] = open_flow(family, engine, sport)
    if synced == 12:
        mirror(engine, backup)
    states: dict[int, int | None] = {1: UP if synced < 12 else state, 2: UP}
    for each in (engine, backup):
        set_states(family, each, states)
        each.set_policy(loose=True)
    assert backup.flow_counts()[0] == synced
    backup.arm(now_ns())
    backup.set_lease(1 << 62)
    for sport in whose:
        frame = family.tcp(family.client, sport, family.vip, 80, ACK)
        alone, after = (crossing(family, each, OUTSIDE, frame) for each in (engine, backup))
        assert [seen.target for seen in alone] == [seen.target for seen in after]
