"""The keys of NAT, ways in and flows as the engine's rules, seen by what the engine then does."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hasyncd.config import Settings
from hasyncd.datapath.packet import (
    INSIDE,
    OUTSIDE,
    Engine,
    owned_networks,
    private_networks,
    written_backends,
)
from tests.datapath.configured import engine_of, settings_of
from tests.native.engines import arm, drops, mac_of, now_ns, send
from tests.native.frames import ACK, ICMP, SYN, number, tcp, udp

CONFIGURATION = """
[node]
name = "n1"
capacity = 1024
[interfaces]
inside = "inside"
outside = "outside"
[[vip]]
address = "10.0.1.1/24"
interface = "inside"
[[vip]]
address = "203.0.113.5/24"
interface = "outside"
[peer]
listen = "169.254.10.1:7077"
address = "169.254.10.2:7077"
insecure = true
[flows]
half_open_per_source = 2
loose = true
[[nat]]
source = ["10.0.1.0/24"]
public = ["203.0.113.5"]
ports = "1000-2999"
reserved = ["1024-1999"]
exempt = ["192.0.2.0/24"]
max_flows_per_source = 4
preserve_parity = true
on_exhaustion = "icmp"
[[forward]]
public = "203.0.113.5:8443"
protocol = "tcp"
to = "10.0.1.7:443"
allow = ["198.51.100.0/24"]
[[one_to_one]]
public = "203.0.113.9"
inside = "10.0.1.8"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(CONFIGURATION, tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Engine:
    made = engine_of(settings)
    made.set_routes([(number("10.0.1.0"), 24, INSIDE, 0), (0, 0, OUTSIDE, number("203.0.113.254"))])
    made.set_neighbours([(INSIDE, number(f"10.0.1.{host}"), mac_of(f"10.0.1.{host}")) for host in (7, 8)])
    made.set_neighbours([(OUTSIDE, number("203.0.113.254"), mac_of("203.0.113.254"))])
    arm(made)
    return made


def test_classes_parity_and_reserved_ports(engine: Engine) -> None:
    (low,) = send(engine, INSIDE, udp("10.0.1.7", 123, "8.8.8.8", 123))
    assert (1000 <= low.sport <= 1023, low.sport % 2) == (True, 1)
    (high,) = send(engine, INSIDE, udp("10.0.1.7", 5000, "8.8.8.8", 53))
    assert (2000 <= high.sport <= 2999, high.sport % 2) == (True, 0)


def test_quota_with_a_word_to_the_sender(engine: Engine) -> None:
    for sport in range(5000, 5004):
        assert len(send(engine, INSIDE, udp("10.0.1.7", sport, "8.8.8.8", 53))) == 1
    (told,) = send(engine, INSIDE, udp("10.0.1.7", 5004, "8.8.8.8", 53))
    assert (told.protocol, told.packet[20:22]) == (ICMP, b"\x03\x0d")
    assert drops(engine) == {"drop_nat_quota": 1}


def test_exempt_destinations_see_the_source(engine: Engine) -> None:
    (left,) = send(engine, INSIDE, udp("10.0.1.7", 5000, "192.0.2.1", 53))
    assert left.ends == ("10.0.1.7", 5000, "192.0.2.1", 53)


def test_the_usual_hold_down(engine: Engine) -> None:
    start = now_ns()
    (first,) = send(engine, INSIDE, udp("10.0.1.7", 5000, "8.8.8.8", 53), start)
    for _ in range(4):
        engine.tick(start + 302 * 10**9)
    assert engine.flow_counts()[0] == 0
    taken = {first.sport}
    for sport in range(5000, 5004):
        (left,) = send(engine, INSIDE, udp("10.0.1.200", sport, "8.8.8.8", 53), start + 303 * 10**9)
        assert left.sport not in taken
        taken.add(left.sport)


def test_ways_in(engine: Engine) -> None:
    (forwarded,) = send(engine, OUTSIDE, tcp("198.51.100.9", 5000, "203.0.113.5", 8443, SYN))
    assert (forwarded.target, forwarded.dport) == ("10.0.1.7", 443)
    assert send(engine, OUTSIDE, tcp("8.8.8.8", 5000, "203.0.113.5", 8443, SYN)) == []
    assert drops(engine) == {"drop_not_allowed": 1}
    (own,) = send(engine, INSIDE, udp("10.0.1.8", 5000, "8.8.8.8", 53))
    assert own.ends == ("203.0.113.9", 5000, "8.8.8.8", 53)
    (inbound,) = send(engine, OUTSIDE, tcp("8.8.4.4", 5000, "203.0.113.9", 22, SYN))
    assert (inbound.target, inbound.dport) == ("10.0.1.8", 22)


def test_the_policy_of_new_flows(engine: Engine) -> None:
    for sport in (1, 2):
        assert len(send(engine, INSIDE, tcp("10.0.1.7", sport, "8.8.8.8", 80, SYN))) == 1
    assert send(engine, INSIDE, tcp("10.0.1.7", 3, "8.8.8.8", 80, SYN)) == []
    assert drops(engine) == {"drop_half_open_source": 1}
    assert len(send(engine, OUTSIDE, tcp("198.51.100.9", 5001, "203.0.113.5", 8443, ACK))) == 1
    assert engine.counters()["flows_picked_up"] == 1


def test_the_public_ends_are_owned_and_the_inside_ends_private(settings: Settings) -> None:
    assert IPv4Network("203.0.113.9") in owned_networks(settings)
    assert IPv4Network("203.0.113.5") in owned_networks(settings)
    assert {IPv4Network("10.0.1.7"), IPv4Network("10.0.1.8")} <= set(
        private_networks(settings, written_backends(settings))
    )
