"""Flows of both families on one stream: the pair of test_replication.py, and what only IPv6's records can say."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, settings

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames, gateway6
from tests.native.engines import (
    Flow,
    arm,
    bare_engine,
    flows,
    now_ns,
    publish_ring,
    record_kinds,
)
from tests.native.frames import ACK, SYN
from tests.native.frames6 import echo6, number6, read6, tcp6, text6, udp6
from tests.native.gateway6 import BACKENDS6, CLIENT, HOST, NAMES6, OUTSIDE_VIP6, ROUTER, SERVER, WEB6
from tests.native.test_replication import CAPACITY, LOG_RECORDS, PORTS, TCP_FLAGS, Pair

ICMPV6 = 58


class PairOfBothFamilies(Pair):
    """What holds of a pair holds whatever mixture of families it forwards."""

    def engine(self) -> Engine:
        return gateway6.make_engine(capacity=CAPACITY, log_records=LOG_RECORDS, ports=PORTS, armed=False)

    def open(self, chance: random.Random) -> None:
        if chance.random() < 0.4:
            super().open(chance)
            return
        host, port = f"2001:db8:1::{chance.randint(7, 9)}", chance.randint(5000, 5004)
        self.inject(
            *chance.choice(
                [
                    (INSIDE, tcp6(host, port, SERVER, 443, SYN)),
                    (INSIDE, udp6(host, port, SERVER, 53)),
                    (INSIDE, echo6(host, SERVER, port)),
                    (OUTSIDE, tcp6(CLIENT, port, OUTSIDE_VIP6, 80, SYN)),
                    (OUTSIDE, udp6(CLIENT, port, OUTSIDE_VIP6, 53)),
                ]
            )
        )

    def continue_flow(self, flow: Flow, chance: random.Random) -> None:
        if isinstance(flow.original[0], int):
            super().continue_flow(flow, chance)
            return
        reply = chance.random() < 0.5
        source, sport, target, dport = flow.reply if reply else flow.original
        assert isinstance(source, bytes)
        assert isinstance(target, bytes)
        side = INSIDE if source.startswith(number6("2001:db8:1::")[:8]) else OUTSIDE
        ends = text6(source), sport, text6(target), dport
        if flow.proto == frames.TCP:
            self.inject(side, tcp6(*ends, chance.choice(TCP_FLAGS)))
        elif flow.proto == frames.UDP:
            self.inject(side, udp6(*ends))
        else:
            assert flow.proto == ICMPV6
            self.inject(side, echo6(ends[0], ends[2], sport, reply=reply))


TestPairOfBothFamilies = PairOfBothFamilies.TestCase
TestPairOfBothFamilies.settings = settings(
    max_examples=40 if "HASYNCD_NATIVE_SO" in os.environ else 200,  # sanitizers are slow
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def both() -> tuple[Engine, Engine]:
    return gateway6.make_engine(), gateway6.make_engine(armed=False)


def send6(engine: Engine, side: int, frame: bytes) -> str:
    """Where the packet went that left."""
    engine.inject(side, frame, now_ns())
    [(_, sent)] = engine.take_sent()
    return read6(sent).target


def test_a_connection_goes_on_at_the_backup_and_to_its_backend() -> None:
    primary, backup = both()
    target = send6(primary, OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, SYN))
    send6(primary, INSIDE, tcp6(HOST, 4000, SERVER, 443, SYN))
    _, count, records = primary.drain()
    assert backup.install(records, now_ns()) == (count, None)
    assert backup.digest() == primary.digest()
    assert flows(backup) == flows(primary)
    assert backup.backend_flow_counts(WEB6) == primary.backend_flow_counts(WEB6)
    arm(backup)
    assert send6(backup, OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, ACK)) == target
    assert send6(backup, INSIDE, tcp6(target, 8080, CLIENT, 4000, ACK)) == CLIENT
    assert send6(backup, OUTSIDE, tcp6(SERVER, 443, HOST, 4000, ACK)) == HOST


def test_the_records_of_a_flow_are_an_add_of_68_bytes_and_then_ipv4s() -> None:
    primary, _ = both()
    send6(primary, INSIDE, udp6(HOST, 4000, SERVER, 53))
    send6(primary, OUTSIDE, udp6(SERVER, 53, HOST, 4000))
    primary.tick(now_ns() + 10**12)
    _, _, records = primary.drain()
    assert record_kinds(records)[:2] == [6, 2]
    assert len(primary.drain(67)[2]) <= 67


def test_an_empty_backup_without_ipv6_rules_takes_ipv6_flows_too() -> None:
    """Its configuration comes later, or is another: the flow is the peer's word."""
    primary, _ = both()
    backup = bare_engine()
    send6(primary, INSIDE, udp6(HOST, 4000, SERVER, 53))
    assert backup.install(primary.drain()[2], now_ns()) == (1, None)
    assert backup.digest() == primary.digest()


def test_both_ends_of_an_imported_flow_are_resolved_before_its_first_packet() -> None:
    primary, backup = both()
    send6(primary, INSIDE, udp6(HOST, 4000, SERVER, 53))
    wanted = [(INSIDE, number6(HOST)), (OUTSIDE, number6(ROUTER))]
    backup.set_neighbours([(side, address, b"") for side, address in wanted])
    assert backup.wanted_neighbours() == []
    backup.install(primary.drain()[2], now_ns())
    assert sorted(backup.wanted_neighbours()) == sorted(wanted)


def test_a_newer_flow_with_the_same_ends_displaces_the_older() -> None:
    primary, backup = both()
    other = gateway6.make_engine(capacity=64)
    for port in (1, 2, 3):
        send6(other, INSIDE, udp6(HOST, port, SERVER, 53))
    backup.install(other.drain()[2], now_ns())
    send6(primary, INSIDE, udp6(HOST, 3, SERVER, 53))
    backup.begin_sync()
    assert backup.install(primary.drain()[2], now_ns()) == (1, None)
    assert backup.counters()["flows_displaced"] == 1
    backup.end_sync()
    assert backup.digest() == primary.digest()


def test_the_digest_covers_the_addresses_themselves() -> None:
    engines = [gateway6.make_engine() for _ in range(3)]
    for engine, source, target in zip(
        engines, (HOST, "2001:db8:1::8", HOST), (SERVER, SERVER, CLIENT), strict=True
    ):
        send6(engine, INSIDE, udp6(source, 4000, target, 53))
    assert len({engine.digest()[1] for engine in engines}) == 3


@pytest.mark.parametrize("mode", ["emit", "ack"])
def test_a_first_packet_waits_for_its_add_to_be_committed(mode: str) -> None:
    primary, backup = both()
    primary.set_commit(mode, 10**9, False)
    primary.inject(INSIDE, udp6(HOST, 4000, SERVER, 53), now_ns())
    assert primary.take_sent() == []
    first, count, records = primary.drain()
    backup.install(records, now_ns())
    release = primary.emitted if mode == "emit" else primary.acknowledge
    assert release(first + count - 1) == 1
    assert [read6(frame).target for _, frame in primary.take_sent()] == [SERVER]


def test_a_backend_that_only_the_peer_knows_keeps_its_flow() -> None:
    primary, backup = both()
    target = send6(primary, OUTSIDE, udp6(CLIENT, 4000, OUTSIDE_VIP6, 53))
    publish_ring(backup, NAMES6, [(9, number6("2001:db8:1::9"), 1, 1)], 2)
    strange = gateway6.make_engine(armed=False)
    strange.set_service(NAMES6, number6(OUTSIDE_VIP6), 5353, 17, [gateway6.ANY])
    records = primary.drain()[2]
    for engine in (backup, strange):
        assert engine.install(records, now_ns()) == (1, None)
        arm(engine)
        assert send6(engine, OUTSIDE, udp6(CLIENT, 4000, OUTSIDE_VIP6, 53)) == target
    [known] = flows(strange)
    assert known.service == -1
    assert target in BACKENDS6.values()


def test_a_flow_is_listed_in_its_own_family() -> None:
    primary, _ = both()
    send6(primary, INSIDE, echo6(HOST, SERVER, 7))
    assert flows(primary) == [
        Flow(
            ICMPV6,
            (number6(HOST), 7, number6(SERVER), 0),
            (number6(SERVER), 7, number6(HOST), 0),
            1,
            -1,
            0,
            -1,
        )
    ]
