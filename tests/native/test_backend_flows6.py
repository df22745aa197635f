"""IPv6 flows and their backends: resets that fit, UDP that is led elsewhere (as test_backend_flows.py)."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, BackendTable
from tests.native import gateway6
from tests.native.engines import now_ns
from tests.native.frames import ACK, RST, SYN
from tests.native.frames6 import layer4_checksum, number6, text6, udp6
from tests.native.gateway6 import BACKENDS6, CLIENT, NAMES6, OUTSIDE_VIP6, WEB6
from tests.native.test_backend_flows import ALL, BY_RESET, DOWN, RESELECTED, UP, mirror
from tests.native.test_balance_invariants import IPv6

TCP = 6


def ends_of(frame: bytes) -> tuple[bytes, bytes]:
    return frame[22:38], frame[38:54]


def test_resets_have_the_numbers_that_their_receivers_wait_for() -> None:
    engine = IPv6.make()
    engine.inject(OUTSIDE, IPv6.tcp(CLIENT, 5000, OUTSIDE_VIP6, 80, SYN, 1000), now_ns())
    ((_, syn),) = engine.take_sent()
    mine = next(server for server, host in BACKENDS6.items() if number6(host) == ends_of(syn)[1])
    engine.inject(INSIDE, IPv6.tcp(BACKENDS6[mine], 8080, CLIENT, 5000, SYN | ACK, 7000), now_ns())
    engine.inject(OUTSIDE, IPv6.tcp(CLIENT, 5000, OUTSIDE_VIP6, 80, ACK, 1001), now_ns())
    engine.take_sent()
    rows = [
        (server, number6(host), 8080, 1, UP if server != mine else DOWN) for server, host in BACKENDS6.items()
    ]
    engine.publish(WEB6, rows, BackendTable("maglev", [(3 - mine, 1)], 2))
    assert engine.end_backend_flows(WEB6, mine, BY_RESET, 0, ALL) == (-1, 1)
    told = {}
    for side, frame in engine.take_sent():
        (source, target), segment = ends_of(frame), frame[54:]
        assert layer4_checksum(text6(source), text6(target), TCP, segment) == 0, "its checksum is right"
        numbers = int.from_bytes(segment[4:8], "big"), int.from_bytes(segment[8:12], "big")
        told[side] = source, target, *numbers, segment[13]
    assert told == {
        OUTSIDE: (number6(OUTSIDE_VIP6), number6(CLIENT), 7001, 1001, RST | ACK),
        INSIDE: (number6(CLIENT), number6(BACKENDS6[mine]), 1001, 7001, RST | ACK),
    }


@pytest.mark.parametrize("dead", [1, 2])
def test_udp_flows_are_reselected_and_the_backup_agrees(dead: int) -> None:
    engine, backup = gateway6.make_engine(), gateway6.make_engine(armed=False)
    for sport in range(5000, 5040):
        engine.inject(OUTSIDE, udp6(CLIENT, sport, OUTSIDE_VIP6, 53, b"x"), now_ns())
    rows = [
        (server, number6(host), 8080, 1, DOWN if server == dead else UP) for server, host in BACKENDS6.items()
    ]
    for each in (engine, backup):
        each.publish(NAMES6, rows, BackendTable("maglev", [(3 - dead, 1)], 2))
    slot, ended = engine.end_backend_flows(NAMES6, dead, RESELECTED, 0, ALL)
    assert slot == -1
    assert ended > 0
    _, flows = engine.list_flows(0, 1000, now_ns())
    assert len(flows) == 40
    assert {flow[12] for flow in flows} == {3 - dead}
    assert {flow[5] for flow in flows} == {number6(BACKENDS6[3 - dead])}
    assert len({flow[5:9] for flow in flows}) == 40, "N1"
    mirror(engine, backup)
    assert engine.digest() == backup.digest()
