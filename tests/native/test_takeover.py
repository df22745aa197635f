"""A node that takes over knows what it was told, a few packets ago perhaps: nothing established may break on that."""

from __future__ import annotations

import struct

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames, test_model
from tests.native.engines import (
    CLIENT,
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    arm,
    drops,
    flows,
    make_engine,
    now_ns,
    publish_ring,
    send,
)
from tests.native.frames import ACK, FIN, PSH, RST, SYN

SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, LAST_ACK, TIME_WAIT, CLOSE = 1, 2, 3, 4, 6, 7, 8
HANDSHAKE = [(OUTSIDE, SYN), (INSIDE, SYN | ACK), (OUTSIDE, ACK)]
BACKEND_PORT, CLIENT_PORT = 8080, 5000


def pass_on(engine: Engine, side: int, flags: int, backend: str) -> bool:
    """One segment of the client's connection; whether it left on the other side."""
    if side == OUTSIDE:
        return len(send(engine, OUTSIDE, frames.tcp(CLIENT, CLIENT_PORT, OUTSIDE_VIP, 80, flags))) == 1
    return len(send(engine, INSIDE, frames.tcp(backend, BACKEND_PORT, CLIENT, CLIENT_PORT, flags))) == 1


def taken_over_after(told: int) -> tuple[Engine, str]:
    """A connection was opened on a node that died; its peer heard of the first `told` segments, and is armed."""
    primary, backup = make_engine(), make_engine(armed=False)
    (first,) = send(primary, OUTSIDE, frames.tcp(CLIENT, CLIENT_PORT, OUTSIDE_VIP, 80, SYN))
    for number, (side, flags) in enumerate(HANDSHAKE):
        assert pass_on(primary, side, flags, first.target)
        if number + 1 == told:
            assert backup.install(primary.drain()[2], now_ns())[1] is None
    arm(backup)
    return backup, first.target


@pytest.mark.parametrize("told", [1, 2, 3])
@pytest.mark.parametrize(
    ("segments", "state"),
    [
        ([(OUTSIDE, ACK)], ESTABLISHED),
        ([(OUTSIDE, ACK | PSH), (INSIDE, ACK | PSH)], ESTABLISHED),
        ([(INSIDE, ACK | PSH), (OUTSIDE, ACK)], ESTABLISHED),
        ([(INSIDE, FIN | ACK)], FIN_WAIT),
        ([(OUTSIDE, FIN | ACK), (INSIDE, FIN | ACK)], LAST_ACK),
        ([(OUTSIDE, FIN | ACK), (INSIDE, FIN | ACK), (OUTSIDE, ACK)], TIME_WAIT),
        ([(INSIDE, RST)], CLOSE),
    ],
)
def test_a_connection_goes_on_wherever_the_backup_last_heard_of_it(
    told: int, segments: list[tuple[int, int]], state: int
) -> None:
    engine, backend = taken_over_after(told)
    assert [flow.state for flow in flows(engine)] == [told]
    for side, flags in segments:
        assert pass_on(engine, side, flags, backend)
    assert [flow.state for flow in flows(engine)] == [state]
    assert drops(engine) == {}


def test_once_both_directions_were_seen_the_table_is_strict_again() -> None:
    engine, backend = taken_over_after(3)
    assert pass_on(engine, OUTSIDE, SYN | ACK, backend), "liberal: it passes, and changes nothing"
    assert pass_on(engine, INSIDE, ACK, backend)
    assert not pass_on(engine, OUTSIDE, SYN | ACK, backend)
    assert drops(engine) == {"drop_tcp_invalid": 1}
    assert [flow.state for flow in flows(engine)] == [ESTABLISHED]


def test_no_segment_leaves_that_no_tcp_sends() -> None:
    engine, backend = taken_over_after(1)
    for flags in (0, FIN, SYN | FIN, SYN | RST, FIN | SYN | RST | PSH | ACK):
        assert not pass_on(engine, OUTSIDE, flags, backend)
    assert drops(engine) == {"drop_tcp_invalid": 5}


def test_both_ends_of_an_imported_flow_are_resolved_before_its_first_packet() -> None:
    primary, backup = make_engine(), make_engine(armed=False)
    send(primary, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53))
    for engine in (primary, backup):
        engine.used_neighbours()
    wanted = [(INSIDE, frames.number(PRIVATE)), (OUTSIDE, frames.number("203.0.113.254"))]
    backup.set_neighbours([(side, address, b"") for side, address in wanted])
    assert backup.wanted_neighbours() == []
    backup.install(primary.drain()[2], now_ns())
    assert sorted(backup.wanted_neighbours()) == sorted(wanted)


def test_the_backup_counts_the_flows_of_its_backends() -> None:
    primary, backup = make_engine(), make_engine(armed=False)
    for port in range(5000, 5020):
        send(primary, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
    backup.install(primary.drain()[2], now_ns())
    assert backup.backend_flow_counts(0) == primary.backend_flow_counts(0)
    assert flows(backup) == flows(primary)


def test_a_backup_with_another_configuration_forwards_what_it_was_told() -> None:
    primary, backup = make_engine(), make_engine(armed=False)
    (sent,) = send(primary, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    publish_ring(backup, 0, [(7, frames.number("10.0.1.39"), 1, 1)], 2)
    backup.set_nat_rules([])
    backup.reset(b"engines-in-tests")
    backup.install(primary.drain()[2], now_ns())
    arm(backup)
    (again,) = send(backup, OUTSIDE, frames.tcp(CLIENT, 5000, OUTSIDE_VIP, 80, ACK))
    assert again.target == sent.target


def test_new_flows_after_a_takeover_avoid_the_ends_of_old_ones() -> None:
    primary, backup = make_engine(ports=(2000, 2003)), make_engine(ports=(2000, 2003), armed=False)
    for port in (1, 2, 3):
        send(primary, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", 53))
    backup.install(primary.drain()[2], now_ns())
    arm(backup)
    taken = {flow.reply[3] for flow in flows(backup)}
    (sent,) = send(backup, INSIDE, frames.udp("10.0.1.8", 1, "8.8.8.8", 53))
    assert {sent.sport} | taken == {2000, 2001, 2002, 2003}
    assert backup.digest()[0] == 4


def test_remaining_time_goes_along_and_the_grace_covers_what_is_late() -> None:
    primary, backup, now = make_engine(), make_engine(armed=False), now_ns()
    send(primary, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53), now)
    backup.install(primary.drain()[2], now)
    later = now + 400 * SECOND_NS  # the flow's 300 s are over; its UPDATEs were lost with the primary
    arm(backup, later)
    backup.tick(later)
    backup.tick(later + 119 * SECOND_NS)
    assert (
        len(send(backup, OUTSIDE, frames.udp("8.8.8.8", 53, OUTSIDE_VIP, flows(backup)[0].reply[3]), later))
        == 1
    )
    backup.tick(later + 299 * SECOND_NS)
    assert backup.digest()[0] == 1


def counted(records: bytes) -> list[int]:
    """Packets of the original direction in each COUNTERS record."""
    sizes, at, found = {1: 32, 2: 12, 3: 12, 4: 36}, 0, []
    while at < len(records):
        if records[at] == 4:
            found.append(struct.unpack_from(">I", records, at + 12)[0])
        at += sizes[records[at]]
    return found


def test_the_counters_of_a_flow_survive_a_takeover_to_within_a_refresh() -> None:
    """proto/sync.md §3.3: told every 30 s while it carries packets, never at risk, and counted on from there."""
    primary, backup, now = make_engine(), make_engine(armed=False), now_ns()
    frame, told = frames.udp(PRIVATE, 1, "8.8.8.8", 53), []
    for second in range(200):
        now += SECOND_NS
        assert len(send(primary, INSIDE, frame, now)) == 1
        first, count, records = primary.drain()
        primary.acknowledge(first + count - 1)
        assert primary.count_at_risk() == (0, 0)
        assert backup.install(records, now)[1] is None
        told += counted(records)
        assert second + 1 - max([0, *told]) <= 30, "what a death now would lose of the count"
    assert len(told) <= 200 / 30 + 1, "no more often than that"
    arm(backup, now)
    for _ in range(31):
        now += SECOND_NS
        send(backup, INSIDE, frame, now)
    after = counted(backup.drain()[2])
    assert after, "it goes on telling"
    assert told[-1] < after[-1] <= told[-1] + 31, "and counts on from what it was told"


def test_a_timeout_that_shrank_before_a_takeover_is_told_when_it_grows_again() -> None:
    """Half-open flows get less time while there are many; the next mirror has to hear of it when they get more."""
    pair = test_model.Differential()
    pair.begin(quota=4, hold_down_s=0, early_drop=True)
    pair.fill(client="203.0.113.100", count=19, first=1000)
    pair.replicate()
    pair.flood(count=3, first=2006)
    pair.fill(client="203.0.113.100", count=37, first=1036)
    pair.flood(count=7, first=2000)
    pair.replicate()
    pair.take_over(later=0)
    pair.replicate()
    pair.fill(client="203.0.113.100", count=1, first=1035)  # the table is full: a half-open one goes
    pair.flood(count=1, first=2006)
    pair.replicate()
    pair.take_over(later=0)
    pair.teardown()
