"""The worked examples of the mission's documents, each by name, through the extension.

The ring's and the port's are also in test_ring.c and test_nat.c, with points and ports chosen exactly as written there.
"""

from __future__ import annotations

import hashlib

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native import frames
from tests.native.engines import (
    ANYONE,
    CLIENT,
    OUTSIDE_VIP,
    PRIVATE,
    PRIVATE_NET,
    SEED,
    arm,
    bare_engine,
    flows,
    make_engine,
    moved,
    now_ns,
    publish_ring,
    send,
    take,
)
from tests.native.frames import ACK, PSH, SYN, number

MINUTE_NS = 60 * 10**9


def server_of(ring: list[tuple[int, int, int, int]], key: int) -> int:
    return next((server for point, server, _, _ in ring if point >= key), ring[0][1])


def test_ring_an_insertion_moves_only_the_keys_of_its_arcs() -> None:
    """… 30 (C) …, insert D at 45: only keys in (30, 45] move, to D. Here with every point of a real ring."""
    members = [(server_id, 1) for server_id in (1, 2, 3)]
    before = BackendTable("consistent-hash", members, 7).ring()
    after = BackendTable("consistent-hash", [*members, (4, 1)], 8).ring()
    assert {generation for *_, generation in before} == {7}
    assert {generation for *_, generation in after} == {8}
    assert [vnode[:3] for vnode in after if vnode[1] != 4] == [vnode[:3] for vnode in before]
    points = [point for point, *_ in after]
    for index, (point, server, *_) in enumerate(after):
        previous = points[index - 1]
        for key in (point, (previous + 1) % 2**32, previous):
            was, now = server_of(before, key), server_of(after, key)
            assert now == was or now == 4
        if server == 4 and previous < point:
            assert server_of(before, point) != 4
            assert server_of(after, previous) == after[index - 1][1]


def seed_that_prefers(port: int, first: int, last: int) -> bytes:
    """A seed under which 10.0.1.7:51515 -> 8.8.8.8:53 gets `port` in an empty table."""
    for attempt in range(100_000):
        seed = hashlib.md5(attempt.to_bytes(4, "big"), usedforsecurity=False).digest()
        engine = make_engine(seed=seed, ports=(first, last), capacity=16, log_records=16)
        (sent,) = send(engine, INSIDE, frames.udp(PRIVATE, 51515, "8.8.8.8", 53))
        if sent.sport == port:
            return seed
    raise AssertionError("no seed found")


def test_nat_40002_and_40003_are_taken_so_the_flow_gets_40004() -> None:
    first, last = 40000, 40007
    seed = seed_that_prefers(40002, first, last)
    engine = make_engine(seed=seed, ports=(first, last))
    # Neighbours of the example take 40002 and 40003 for the same server.
    sport, taken = 1, dict[int, int]()
    while not {40002, 40003} <= set(taken):
        (sent,) = send(engine, INSIDE, frames.udp("10.0.1.8", sport, "8.8.8.8", 53))
        if sent.sport in (40002, 40003):
            taken[sent.sport] = sport
        else:
            engine = make_engine(seed=seed, ports=(first, last))
            for port in taken.values():
                send(engine, INSIDE, frames.udp("10.0.1.8", port, "8.8.8.8", 53))
        sport += 1
    engine.set_commit("ack", MINUTE_NS, False)
    assert send(engine, INSIDE, frames.udp(PRIVATE, 51515, "8.8.8.8", 53)) == []
    # Held: the packet has not left, and both tuples are in the table already.
    example = [flow for flow in flows(engine) if flow.original[0] == number(PRIVATE)]
    assert [flow.original for flow in example] == [(number(PRIVATE), 51515, number("8.8.8.8"), 53)]
    assert [flow.reply for flow in example] == [(number("8.8.8.8"), 53, number("203.0.113.5"), 40004)]
    first_record, count, _ = engine.drain()
    assert engine.acknowledge(first_record + count - 1) == 1
    (sent,) = take(engine)
    assert sent.ends == ("203.0.113.5", 40004, "8.8.8.8", 53)
    (back,) = send(engine, OUTSIDE, frames.udp("8.8.8.8", 53, "203.0.113.5", 40004))
    assert back.ends == ("8.8.8.8", 53, PRIVATE, 51515)


def example_gateway() -> Engine:
    engine = bare_engine()
    engine.set_nat_rules([([PRIVATE_NET], [], [number(OUTSIDE_VIP)], 1024, 65535)])
    engine.set_service(0, number(OUTSIDE_VIP), 80, 6, ANYONE)
    publish_ring(engine, 0, [(9, number("10.2.0.9"), 8080, 1)], 1)
    return engine


def move_log(source: Engine, target: Engine, at_ns: int) -> list[bytes]:
    """Installs everything unsent; the records, apart."""
    _, count, records = source.drain()
    assert target.install(records, at_ns) == (count, None)
    sizes, apart, at = {1: 32, 2: 12, 3: 12, 4: 36}, [], 0
    while at < len(records):
        apart.append(records[at : at + sizes[records[at]]])
        at += sizes[records[at]]
    assert len(apart) == count
    return apart


def test_sync_the_backup_forwards_the_next_segment_to_10_2_0_9() -> None:
    """A new TCP flow goes to 10.2.0.9; the ADD precedes the packet; UPDATEs carry timeouts; the primary dies."""
    for mode in ("ack", "emit"):
        primary, backup, now = example_gateway(), example_gateway(), now_ns()
        arm(primary)
        primary.set_commit(mode, MINUTE_NS, False)

        syn = frames.tcp(CLIENT, 51000, OUTSIDE_VIP, 80, SYN)
        assert send(primary, OUTSIDE, syn, now) == [], "the packet waits for its ADD"
        (add,) = move_log(primary, backup, now)
        assert add[0] == 1
        assert send(primary, OUTSIDE, syn, now) == [], "and so do those behind it"
        release = primary.emitted if mode == "emit" else primary.acknowledge
        assert release(0) == 0
        assert release(1) == 2
        assert [sent.ends for sent in take(primary)] == [(CLIENT, 51000, "10.2.0.9", 8080)] * 2

        (answer,) = send(primary, INSIDE, frames.tcp("10.2.0.9", 8080, CLIENT, 51000, SYN | ACK), now)
        assert answer.ends == (OUTSIDE_VIP, 80, CLIENT, 51000)
        assert len(send(primary, OUTSIDE, frames.tcp(CLIENT, 51000, OUTSIDE_VIP, 80, ACK), now)) == 1
        updates = move_log(primary, backup, now)
        assert [(record[0], record[1]) for record in updates] == [(2, 2), (2, 3)], "SYN_RECV, ESTABLISHED"
        assert [int.from_bytes(record[10:12], "big") for record in updates] == [240, 7440]
        assert backup.digest() == primary.digest()

        before = backup.counters()
        del primary  # it dies
        segment = frames.tcp(CLIENT, 51000, OUTSIDE_VIP, 80, ACK | PSH, b"next")
        assert send(backup, OUTSIDE, segment) == [], "not before it is armed"
        arm(backup)
        (sent,) = send(backup, OUTSIDE, segment)
        assert (sent.ends, sent.payload) == ((CLIENT, 51000, "10.2.0.9", 8080), b"next")
        (back,) = send(backup, INSIDE, frames.tcp("10.2.0.9", 8080, CLIENT, 51000, ACK | PSH, b"back"))
        assert (back.ends, back.payload) == ((OUTSIDE_VIP, 80, CLIENT, 51000), b"back")
        counted = moved(backup.counters(), before)
        assert {name for name in counted if name.startswith(("drop", "flows"))} == {"drop_no_lease"}


def test_generation_another_history_gets_a_full_sync_never_deltas() -> None:
    """Deltas of another history are refused by name; a full sync makes the tables equal, leftovers swept."""
    primary, backup, now = make_engine(), make_engine(seed=b"another history!"), now_ns()
    for port in range(1000, 1030):
        send(primary, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", 53))
        send(backup, INSIDE, frames.udp("10.0.1.9", port, "9.9.9.9", 53))
    backup.disarm()
    primary.drain()
    send(primary, OUTSIDE, frames.udp("8.8.8.8", 53, OUTSIDE_VIP, flows(primary)[0].reply[3]))
    _, count, update = primary.drain()
    assert count == 1
    send(primary, OUTSIDE, frames.tcp(CLIENT, 1, OUTSIDE_VIP, 80, SYN))
    _, _, add = primary.drain()
    backup.reset(SEED)
    assert backup.install(update, now) == (0, "unknown_handle")

    backup.begin_sync()
    assert primary.start_log(primary.log_state()[2])
    primary.start_snapshot(b"", False)
    assert primary.append_snapshot(1 << 20) == (31, True)
    first, count, records = primary.drain()
    assert backup.install(records, now) == (count, None)
    assert backup.end_sync() == 0
    assert backup.digest() == primary.digest()
    assert flows(backup) == flows(primary)
    assert primary.acknowledge(first + count - 1) == 0
    assert primary.count_at_risk() == (0, 0)
    assert backup.install(add, now) == (1, None), "the same life again is an upsert"
