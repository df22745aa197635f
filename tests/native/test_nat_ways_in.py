"""Port forwards, 1:1 mappings, and hairpins: from inside to a public address and back inside (RFC 4787 REQ-9)."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.engines import publish_ring
from tests.native.frames import ACK, ICMP, SYN, UDP, echo, error, number, read_packet, tcp, udp
from tests.native.nat_gateway import OUTSIDE_VIP, PUBLIC, Gateway

CLIENT, HOST, SERVER = "198.51.100.9", "10.0.1.7", "10.0.1.9"
OWN = "203.0.113.9"
"""The public address that is SERVER's alone."""
ANYONE = [(0, 0)]


@pytest.fixture
def gateway() -> Gateway:
    made = Gateway()
    declare(made)
    return made


def declare(gateway: Gateway) -> None:
    gateway.engine.set_forwards(
        [
            (number(PUBLIC), 8443, 6, number(SERVER), 443, ANYONE),
            (number(PUBLIC), 5353, 17, number(SERVER), 53, [(number("198.51.100.0"), 24)]),
            (number(OWN), 0, 0, number(SERVER), 0, ANYONE),
        ]
    )


def test_a_forward_leads_to_the_inside_host_and_its_answers_back(gateway: Gateway) -> None:
    arrived = gateway.back(tcp(CLIENT, 4000, PUBLIC, 8443, SYN))
    assert arrived
    assert arrived.ends == (CLIENT, 4000, SERVER, 443)
    left = gateway.out(tcp(SERVER, 443, CLIENT, 4000, SYN | ACK))
    assert left
    assert left.ends == (PUBLIC, 8443, CLIENT, 4000)


def test_only_who_is_allowed_comes_in(gateway: Gateway) -> None:
    assert gateway.back(udp(CLIENT, 4000, PUBLIC, 5353, b"x"))
    assert gateway.back(udp("192.0.2.1", 4000, PUBLIC, 5353, b"x")) is None
    assert gateway.count("drop_not_allowed") == 1
    assert gateway.back(udp(CLIENT, 4000, PUBLIC, 8443, b"x")) is None, "8443 is TCP's"
    assert gateway.count("drop_no_rule") == 1


def test_one_to_one_maps_every_port_and_echo_both_ways(gateway: Gateway) -> None:
    arrived = gateway.back(udp(CLIENT, 4000, OWN, 9999, b"x"))
    assert arrived
    assert arrived.ends == (CLIENT, 4000, SERVER, 9999)
    left = gateway.out(tcp(SERVER, 7777, CLIENT, 80, SYN))
    assert left
    assert left.ends == (OWN, 7777, CLIENT, 80)
    pinged = gateway.back(echo(CLIENT, OWN, 77))
    assert pinged
    assert (pinged.target, pinged.sport) == (SERVER, 77)
    answered = gateway.out(echo(SERVER, CLIENT, 77, reply=True))
    assert answered
    assert (answered.source, answered.sport) == (OWN, 77)


def test_a_forwards_port_is_never_given_to_a_source() -> None:
    gateway = Gateway(rules=[([(number("10.0.0.0"), 16)], [], [number(PUBLIC)], 8443, 8444)])
    declare(gateway)
    for sport in range(1, 20):
        left = gateway.out(tcp(HOST, sport, f"192.0.2.{sport}", 80, SYN))
        assert left
        assert left.sport == 8444


def test_hairpin_through_a_forward(gateway: Gateway) -> None:
    """The server sees the client's public address, so that its answer comes by us; ICMP errors too."""
    arrived = gateway.loop(tcp(HOST, 4000, PUBLIC, 8443, SYN))
    assert arrived
    assert (arrived.source, arrived.target, arrived.dport) == (PUBLIC, SERVER, 443)
    back = gateway.loop(tcp(SERVER, 443, arrived.source, arrived.sport, SYN | ACK))
    assert back
    assert back.ends == (PUBLIC, 8443, HOST, 4000)
    assert gateway.count("nat_hairpin_flows") == 1
    refused = gateway.loop(error(SERVER, arrived.source, arrived.packet[:28], code=3))
    assert refused
    assert (refused.source, refused.target, refused.protocol) == (PUBLIC, HOST, ICMP)
    assert read_packet(refused.packet[28:], whole=False).ends == (HOST, 4000, PUBLIC, 8443)


def test_hairpin_through_one_to_one_mappings(gateway: Gateway) -> None:
    arrived = gateway.loop(udp(HOST, 4000, OWN, 53, b"x"))
    assert arrived
    assert (arrived.source, arrived.target, arrived.dport, arrived.protocol) == (PUBLIC, SERVER, 53, UDP)
    pinged = gateway.loop(echo(HOST, OWN, 77))
    assert pinged
    assert pinged.target == SERVER
    answered = gateway.loop(echo(SERVER, pinged.source, pinged.sport, reply=True))
    assert answered
    assert (answered.source, answered.target, answered.sport) == (OWN, HOST, 77)
    itself = gateway.loop(udp(SERVER, 4000, OWN, 53, b"x"))
    assert itself
    assert itself.ends == (OWN, 4000, SERVER, 53), "even to itself, by its own public address"


def test_hairpin_to_a_balanced_service() -> None:
    gateway = Gateway()
    gateway.engine.set_service(0, number(OUTSIDE_VIP), 80, 6, ANYONE)
    publish_ring(gateway.engine, 0, [(1, number(SERVER), 8080, 1)], 1)
    arrived = gateway.loop(tcp(HOST, 4000, OUTSIDE_VIP, 80, SYN))
    assert arrived
    assert (arrived.source, arrived.target, arrived.dport) == (PUBLIC, SERVER, 8080)
    back = gateway.loop(tcp(SERVER, 8080, arrived.source, arrived.sport, SYN | ACK))
    assert back
    assert back.ends == (OUTSIDE_VIP, 80, HOST, 4000)
    assert gateway.engine.backend_flow_counts(0) == {1: 1}


def test_the_backup_carries_hairpins_and_forwards_on(gateway: Gateway) -> None:
    """proto/sync.md §3, kind 5: both public ends travel."""
    arrived = gateway.loop(tcp(HOST, 4000, PUBLIC, 8443, SYN))
    pinged = gateway.loop(echo(HOST, OWN, 77))
    forwarded = gateway.back(tcp(CLIENT, 4000, PUBLIC, 8443, SYN))
    assert arrived
    assert pinged
    assert forwarded
    backup = gateway.copy()
    assert backup.engine.digest() == gateway.engine.digest()
    back = backup.loop(tcp(SERVER, 443, arrived.source, arrived.sport, SYN | ACK))
    assert back
    assert back.ends == (PUBLIC, 8443, HOST, 4000)
    answered = backup.loop(echo(SERVER, pinged.source, pinged.sport, reply=True))
    assert answered
    assert (answered.source, answered.target, answered.sport) == (OWN, HOST, 77)
    left = backup.out(tcp(SERVER, 443, CLIENT, 4000, SYN | ACK))
    assert left
    assert left.ends == (PUBLIC, 8443, CLIENT, 4000)


def test_from_inside_to_inside_without_a_public_address_stays_refused(gateway: Gateway) -> None:
    assert gateway.send(INSIDE, udp(HOST, 4000, SERVER, 53, b"x")) == []
    assert gateway.count("drop_same_side") == 1
    assert gateway.send(OUTSIDE, udp(CLIENT, 4000, HOST, 53, b"x")) == []
    assert gateway.flows == 0
