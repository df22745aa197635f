"""What happens when something runs out: ports, room for half-open flows, the table."""

from __future__ import annotations

import struct

from tests.native.engines import publish_ring
from tests.native.frames import (
    ACK,
    FIN,
    RST,
    SYN,
    TCP,
    checksum,
    error,
    ethernet,
    ipv4,
    number,
    pseudo_header,
    tcp,
    udp,
)
from tests.native.nat_gateway import OUTSIDE_VIP, PUBLIC, Gateway, nat_rule

HOST, OTHER, SERVER = "10.0.1.7", "10.0.1.8", "198.51.100.9"


def segment(source: str, sport: int, flags: int, sequence: int, data: bytes = b"") -> bytes:
    """From inside to the server's port 80, with a sequence number of one's choice."""
    head = struct.pack("!HHIIBBHHH", sport, 80, sequence % 2**32, 2, 0x50, flags, 1000, 0, 0)
    total = checksum(pseudo_header(source, SERVER, TCP, len(head + data)) + head + data)
    return ethernet(ipv4(source, SERVER, TCP, head[:16] + struct.pack("!H", total) + head[18:] + data))


def one_port() -> Gateway:
    return Gateway(rules=[nat_rule(first=40000, last=40000)])


def close_by_both(gateway: Gateway, sequence: int) -> None:
    """A whole connection of HOST: its data ends at sequence + 12."""
    assert gateway.out(segment(HOST, 1, SYN, sequence))
    gateway.back(tcp(SERVER, 80, PUBLIC, 40000, SYN | ACK))
    gateway.out(segment(HOST, 1, ACK, sequence + 1, b"0123456789"))
    gateway.out(segment(HOST, 1, FIN | ACK, sequence + 11))
    gateway.back(tcp(SERVER, 80, PUBLIC, 40000, FIN | ACK))
    gateway.out(segment(HOST, 1, ACK, sequence + 12))


# --- ports ------------------------------------------------------------------------------------------------


def test_a_connection_that_is_over_gives_its_port_to_a_syn_that_is_ahead_of_it() -> None:
    gateway = one_port()
    close_by_both(gateway, 5000)
    assert gateway.out(segment(OTHER, 2, SYN, 5012)) is None, (
        "not ahead: the server might take it for the old one"
    )
    assert gateway.out(segment(OTHER, 2, SYN, 4000)) is None
    left = gateway.out(segment(OTHER, 2, SYN, 5013))
    assert left
    assert left.sport == 40000
    assert gateway.count("nat_evicted_closing") == 1
    assert gateway.flows == 1


def test_sequence_numbers_wrap() -> None:
    gateway = one_port()
    close_by_both(gateway, 2**32 - 6)
    assert gateway.out(segment(OTHER, 2, SYN, 2**32 - 1)) is None
    assert gateway.out(segment(OTHER, 2, SYN, 7))


def test_a_connection_in_use_keeps_its_port() -> None:
    gateway = one_port()
    gateway.out(segment(HOST, 1, SYN, 5000))
    gateway.back(tcp(SERVER, 80, PUBLIC, 40000, SYN | ACK))
    gateway.out(segment(HOST, 1, ACK, 5001))
    assert gateway.out(segment(OTHER, 2, SYN, 9000)) is None
    assert gateway.count("drop_nat_exhausted") == 1


def test_a_reset_connection_gives_its_port_too() -> None:
    gateway = one_port()
    gateway.out(segment(HOST, 1, SYN, 5000))
    gateway.back(tcp(SERVER, 80, PUBLIC, 40000, RST | ACK))
    assert gateway.flows == 1, "RST frees nothing at once (RFC 7857 §2.2)"
    assert gateway.out(segment(OTHER, 2, SYN, 9000))


def test_a_backup_that_saw_no_packet_of_it_evicts_nothing() -> None:
    gateway = one_port()
    close_by_both(gateway, 5000)
    backup = gateway.copy()
    assert backup.out(segment(OTHER, 2, SYN, 9000)) is None


def test_an_error_neither_ends_nor_refreshes_a_mapping() -> None:
    """RFC 4787 REQ-12."""
    gateway = Gateway()
    left = gateway.out(udp(HOST, 5000, SERVER, 53, b"x"))
    assert left
    for _ in range(3):
        gateway.wait(99)
        assert gateway.back(error("192.0.2.1", PUBLIC, left.packet[:28], code=3, rest=0))
    assert gateway.flows == 1
    gateway.wait(5)
    assert gateway.flows == 0


# --- half-open flows --------------------------------------------------------------------------------------


def test_one_source_has_so_many_half_open_flows_and_no_more() -> None:
    gateway = Gateway()
    gateway.engine.set_policy(half_open_per_source=3)
    for sport in (1, 2, 3):
        assert gateway.out(segment(HOST, sport, SYN, 1))
    assert gateway.out(segment(HOST, 4, SYN, 1)) is None
    assert gateway.count("drop_half_open_source") == 1
    assert gateway.out(segment(OTHER, 4, SYN, 1)), "another sender is not his business"
    assert gateway.out(udp(HOST, 4, SERVER, 53, b"x")), "and UDP is not half-open"
    gateway.out(segment(HOST, 1, SYN, 1))
    assert gateway.count("drop_half_open_source") == 1, "a SYN sent again is no new flow"


def test_a_completed_handshake_makes_room_and_so_does_time() -> None:
    gateway = Gateway()
    gateway.engine.set_policy(half_open_per_source=1)
    left = gateway.out(segment(HOST, 1, SYN, 1))
    assert left
    assert gateway.out(segment(HOST, 2, SYN, 1)) is None
    gateway.back(tcp(SERVER, 80, PUBLIC, left.sport, SYN | ACK))
    gateway.out(segment(HOST, 1, ACK, 2))
    assert gateway.out(segment(HOST, 2, SYN, 1))
    gateway.wait(241)
    assert gateway.out(segment(HOST, 3, SYN, 1))


def test_imported_half_open_flows_count() -> None:
    gateway = Gateway()
    gateway.out(segment(HOST, 1, SYN, 1))
    backup = gateway.copy()
    backup.engine.set_policy(half_open_per_source=1)
    assert backup.out(segment(HOST, 2, SYN, 1)) is None


def test_under_pressure_half_open_flows_go_soon() -> None:
    gateway = Gateway(capacity=1024)
    for sport in range(1, 257):
        assert gateway.out(segment(HOST, sport, SYN, 1))
    assert gateway.out(segment(HOST, 999, SYN, 1)) is None
    assert gateway.count("drop_half_open_limit") == 1
    gateway.wait(31)
    assert gateway.flows == 128, "those that came before half of the cap was reached have their 240 s"
    gateway.wait(210)
    assert gateway.flows == 0


# --- loose pick-up ----------------------------------------------------------------------------------------


def with_service(*, loose: bool) -> Gateway:
    gateway = Gateway()
    gateway.engine.set_policy(loose=loose)
    gateway.engine.set_service(0, number(OUTSIDE_VIP), 80, TCP, [(0, 0)])
    publish_ring(gateway.engine, 0, [(i, number(f"10.0.2.{i}"), 8080, 1) for i in (1, 2, 3)], 1)
    return gateway


def test_a_connection_under_way_is_picked_up_where_it_leads_to_the_same_backend() -> None:
    known, lost, strict = with_service(loose=True), with_service(loose=True), with_service(loose=False)
    for sport in range(1, 10):
        first = known.back(tcp(SERVER, sport, OUTSIDE_VIP, 80, SYN))
        again = lost.back(tcp(SERVER, sport, OUTSIDE_VIP, 80, ACK))
        assert first
        assert again
        assert again.ends == first.ends
        assert strict.back(tcp(SERVER, sport, OUTSIDE_VIP, 80, ACK)) is None
    assert lost.count("flows_picked_up") == 9
    assert strict.count("drop_no_flow") == 9
    assert lost.back(tcp(SERVER, 99, OUTSIDE_VIP, 80, RST)) is None, "an end is nothing to pick up"
    lost.wait(241)
    assert lost.flows == 0, "one packet alone proves no connection: it stays for minutes, not hours"


def test_nothing_is_picked_up_from_a_pool() -> None:
    gateway = Gateway()
    gateway.engine.set_policy(loose=True)
    assert gateway.out(segment(HOST, 1, ACK, 1)) is None
    assert gateway.count("drop_no_flow") == 1


# --- a full table -----------------------------------------------------------------------------------------


def test_a_full_table_evicts_nobody_by_default() -> None:
    gateway = Gateway(capacity=64)
    for sport in range(1, 65):
        assert gateway.out(udp(HOST, sport, SERVER, 53, b"x"))
    assert gateway.out(udp(HOST, 99, SERVER, 53, b"x")) is None
    assert gateway.count("drop_table_full") == 1
    assert gateway.count("flows_early_dropped") == 0


def test_early_drop_takes_who_was_not_answered_and_never_who_was() -> None:
    gateway = Gateway(capacity=64)
    gateway.engine.set_policy(early_drop=True)
    ports = {}
    for sport in range(1, 65):
        left = gateway.out(udp(HOST, sport, SERVER, 53, b"x"))
        assert left
        ports[sport] = left.sport
    for sport in range(1, 61):
        assert gateway.back(udp(SERVER, 53, PUBLIC, ports[sport], b"y"))
    for sport in range(100, 104):
        left = gateway.out(udp(HOST, sport, SERVER, 53, b"x"))
        assert left
        assert gateway.back(udp(SERVER, 53, PUBLIC, left.sport, b"y"))
    assert gateway.count("flows_early_dropped") == 4
    assert gateway.out(udp(HOST, 999, SERVER, 53, b"x")) is None, "all that are left are in use"
    for sport in range(1, 61):
        assert gateway.back(udp(SERVER, 53, PUBLIC, ports[sport], b"y"))
