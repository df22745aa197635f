"""What becomes of a service's flows with their backends (native/core/backend_flows.h), on the extension."""

from __future__ import annotations

import struct
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.native.engines import BACKENDS, CLIENT, OUTSIDE_VIP, drops, flows, make_engine, now_ns, send
from tests.native.frames import ACK, RST, SYN, TCP, checksum, ethernet, ipv4, number, pseudo_header, udp

UP, DRAINING, DOWN, REMOVED, FOREIGN = range(5)
SILENTLY, BY_RESET, RESELECTED = range(3)
TCP_SERVICE, UDP_SERVICE = 0, 1
ALL: Final = 1 << 16


def tcp(
    source: str, sport: int, target: str, dport: int, flags: int, *, sequence: int = 1, acknowledged: int = 2
) -> bytes:
    """A segment with numbers of its own."""
    head = struct.pack("!HHIIBBHHH", sport, dport, sequence, acknowledged, 0x50, flags, 1000, 0, 0)
    total = checksum(pseudo_header(source, target, TCP, 20) + head)
    return ethernet(ipv4(source, target, TCP, head[:16] + struct.pack("!H", total) + head[18:]))


def publish(
    engine: Engine, states: dict[int, int], index: int = TCP_SERVICE, *, panics: bool = False
) -> None:
    """Backends with their states; those that are not named are not listed."""
    rows = [(server, number(BACKENDS[server]), 8080, 1, state) for server, state in states.items()]
    members = [(server, 1) for server, state in states.items() if state == UP or (panics and state == DOWN)]
    engine.publish(index, rows, BackendTable("maglev", members, 2))


def open_flow(engine: Engine, sport: int = 5000, sequence: int = 1000) -> int:
    """A connection as far as both ends have data; whose it is."""
    (there,) = send(engine, OUTSIDE, tcp(CLIENT, sport, OUTSIDE_VIP, 80, SYN, sequence=sequence))
    send(engine, INSIDE, tcp(there.target, 8080, CLIENT, sport, SYN | ACK, sequence=7000))
    send(engine, OUTSIDE, tcp(CLIENT, sport, OUTSIDE_VIP, 80, ACK, sequence=sequence + 1))
    return next(server for server, host in BACKENDS.items() if host == there.target)


def mirror(engine: Engine, backup: Engine) -> None:
    _, count, records = engine.drain(1 << 22)
    assert backup.install(records, now_ns()) == (count, None)


@given(state=st.sampled_from([UP, DRAINING, DOWN, REMOVED]), copy=st.booleans())
@settings(max_examples=40, deadline=None)
def test_f2_a_syn_on_a_live_tuple_reselects_only_where_its_backend_is_not_up(state: int, copy: bool) -> None:
    engine = make_engine()
    mine = open_flow(engine)
    other = 3 - mine
    publish(engine, {other: UP} | ({} if state == REMOVED else {mine: state}))
    (sent,) = send(
        engine, OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN, sequence=1000 if copy else 9_000_000)
    )
    stays = state == UP or (copy and state != REMOVED)
    assert sent.target == BACKENDS[mine if stays else other]
    assert engine.counters()["flows_reselected"] == (not stays)


@pytest.mark.parametrize("side", [OUTSIDE, INSIDE])
def test_f3_nothing_goes_to_or_from_a_removed_backend(side: int) -> None:
    engine = make_engine()
    mine = open_flow(engine)
    publish(engine, {3 - mine: UP})
    ends = (CLIENT, 5000, OUTSIDE_VIP, 80) if side == OUTSIDE else (BACKENDS[mine], 8080, CLIENT, 5000)
    assert send(engine, side, tcp(*ends, ACK, sequence=1001)) == []
    assert drops(engine) == {"drop_backend_removed": 1}
    assert len(flows(engine)) == 1, "it is Python's to end"


def test_a_down_backend_in_the_table_is_taken_for_up() -> None:
    engine = make_engine()
    mine = open_flow(engine)
    publish(engine, {1: DOWN, 2: DOWN}, panics=True)
    (sent,) = send(engine, OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN, sequence=9_000_000))
    assert sent.target == BACKENDS[mine]
    assert engine.end_backend_flows(TCP_SERVICE, mine, SILENTLY, 0, ALL) == (-1, 0)


def test_what_cannot_be_published_changes_nothing() -> None:
    engine = make_engine()
    table = BackendTable("maglev", [(1, 1)], 2)
    row = (1, number(BACKENDS[1]), 8080, 1)
    bad = ([(*row, DRAINING)], [(*row, UP), (2, *row[1:], UP)], [(*row, UP)] * 2, [(*row, 3)], [])
    for rows in bad:
        with pytest.raises(ValueError, match=r"backend|twice|draining"):
            engine.publish(TCP_SERVICE, rows, table)
    assert {each[1] for each in engine.backend_counters(TCP_SERVICE)} == {UP}


@pytest.mark.parametrize("how", [SILENTLY, BY_RESET])
@pytest.mark.parametrize("state", [DRAINING, DOWN, REMOVED])
def test_flows_of_a_backend_end_on_both_nodes(how: int, state: int) -> None:
    engine, backup = make_engine(), make_engine(armed=False)
    servers = [open_flow(engine, 5000 + i) for i in range(40)]
    mirror(engine, backup)
    publish(engine, {2: UP} | ({} if state == REMOVED else {1: state}))
    slot, ended = 0, 0
    while slot >= 0:
        slot, some = engine.end_backend_flows(TCP_SERVICE, 1, how, slot, 7)
        ended += some
    assert ended == servers.count(1) > 0
    assert {flow.server_id for flow in flows(engine)} == {2}
    mirror(engine, backup)
    assert engine.digest() == backup.digest()


def test_resets_have_the_numbers_that_their_receivers_wait_for() -> None:
    engine = make_engine()
    mine = open_flow(engine)
    publish(engine, {3 - mine: UP, mine: DOWN})
    assert engine.end_backend_flows(TCP_SERVICE, mine, BY_RESET, 0, ALL) == (-1, 1)
    told = {}
    for side, frame in engine.take_sent():
        segment = frame[34:]
        told[side] = int.from_bytes(segment[4:8], "big"), int.from_bytes(segment[8:12], "big"), segment[13]
    assert told == {OUTSIDE: (7001, 1001, RST | ACK), INSIDE: (1001, 7001, RST | ACK)}
    engine.inject(OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, ACK, sequence=1001), now_ns())
    ((side, frame),) = engine.take_sent()
    assert (side, frame[47]) == (OUTSIDE, RST), "whoever goes on is told again"


def test_udp_flows_are_reselected_and_the_backup_agrees() -> None:
    engine, backup = make_engine(), make_engine(armed=False)
    for sport in range(5000, 5040):
        send(engine, OUTSIDE, udp(CLIENT, sport, OUTSIDE_VIP, 80))
    for each in (engine, backup):
        publish(each, {1: DOWN, 2: UP}, UDP_SERVICE)
    slot, ended = engine.end_backend_flows(UDP_SERVICE, 1, RESELECTED, 0, ALL)
    assert slot == -1
    assert ended > 0
    assert [flow.server_id for flow in flows(engine)] == [2] * 40
    originals, replies = ({flow.original for flow in flows(engine)}, {flow.reply for flow in flows(engine)})
    assert len(originals) == len(replies) == 40, "N1"
    mirror(engine, backup)
    assert engine.digest() == backup.digest()


def test_a_node_that_does_not_write_the_table_ends_nothing() -> None:
    engine, backup = make_engine(), make_engine(armed=False)
    mine = open_flow(engine)
    mirror(engine, backup)
    publish(backup, {3 - mine: UP})
    assert backup.end_backend_flows(TCP_SERVICE, mine, SILENTLY, 0, ALL) == (-1, 0)
    assert engine.digest() == backup.digest()


def test_f4_a_flow_of_a_backend_that_the_backup_does_not_know_goes_on_there() -> None:
    """Configurations differ for a while when they are reloaded one node after the other."""
    engine = make_engine()
    mine = open_flow(engine)
    rows = [(9, number("10.0.1.39"), 8080, 1, UP)]
    backup = make_engine(armed=False)
    backup.set_service(TCP_SERVICE, number(OUTSIDE_VIP), 80, 6, [(0, 0)])
    backup.publish(TCP_SERVICE, rows, BackendTable("maglev", [(9, 1)], 1))
    mirror(engine, backup)
    backup.arm(now_ns())
    backup.set_lease(1 << 62)
    (sent,) = send(backup, OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, ACK, sequence=1001))
    assert sent.target == BACKENDS[mine]


def test_an_empty_pool_drops_or_refuses() -> None:
    engine = make_engine()
    for index in (TCP_SERVICE, UDP_SERVICE):
        publish(engine, {1: DRAINING, 2: DOWN}, index)
    syn = tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN, sequence=1000)
    assert send(engine, OUTSIDE, syn) == []
    for index in (TCP_SERVICE, UDP_SERVICE):
        engine.set_balance(index, "tuple", 0, "reject")
    (answer,) = send(engine, OUTSIDE, syn)
    assert (answer.source, answer.target) == (OUTSIDE_VIP, CLIENT)
    (error,) = send(engine, OUTSIDE, udp(CLIENT, 5000, OUTSIDE_VIP, 80))
    assert (error.icmp_type, error.packet[21]) == (3, 3)
    assert drops(engine) == {"drop_no_backend": 3}
    assert engine.counters()["no_backend_refused"] == 2


def test_what_backends_do_is_counted() -> None:
    engine = make_engine()
    (sent,) = send(engine, OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN, sequence=1000))
    for _ in range(2):
        send(engine, OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN, sequence=1000))
    send(engine, INSIDE, tcp(sent.target, 8080, CLIENT, 5000, RST | ACK, acknowledged=1001))
    totals = [
        sum(column) for column in zip(*(row[3:] for row in engine.backend_counters(TCP_SERVICE)), strict=True)
    ]
    assert (totals[0], totals[1], totals[3:]) == (1, 4, [1, 1, 1])
