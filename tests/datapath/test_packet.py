"""hasyncd.datapath.packet: the configuration as the engine's rules, seen by what the engine then does."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hasyncd.config import Settings
from hasyncd.datapath.interfaces import Interface, find_interface
from hasyncd.datapath.packet import (
    INSIDE,
    OUTSIDE,
    Engine,
    build_engine,
    open_sides,
    owned_networks,
    private_networks,
    rule_commits,
    written_backends,
)
from tests.datapath.configured import engine_of, settings_of
from tests.datapath.namespaces import join, namespaces
from tests.native.engines import INSIDE_MAC, arm, drops, mac_of, send
from tests.native.frames import ACK, SYN, arp, number, tcp, udp

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
[[nat]]
source = ["10.0.1.0/25"]
destination = ["198.51.100.0/24"]
public = ["203.0.113.6", "203.0.113.7"]
ports = "40000-40001"
[[nat]]
source = ["10.0.1.0/24"]
public = ["203.0.113.5"]
[[service]]
name = "web"
vip = "203.0.113.5:80"
protocol = "tcp"
allow = ["203.0.113.0/25"]
backends = [{ id = 7, address = "10.0.1.21:8080" }]
[[service]]
name = "names"
vip = "203.0.113.5:53"
protocol = "udp"
backends = [{ id = 9, address = "10.0.1.22:5353" }]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(CONFIGURATION, tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Engine:
    made = engine_of(settings)
    made.set_routes([(number("10.0.1.0"), 24, INSIDE, 0), (0, 0, OUTSIDE, number("203.0.113.254"))])
    inside = [f"10.0.1.{host}" for host in (7, 21, 22, 200)]
    made.set_neighbours([(INSIDE, number(address), mac_of(address)) for address in inside])
    made.set_neighbours([(OUTSIDE, number("203.0.113.254"), mac_of("203.0.113.254"))])
    arm(made)
    return made


def test_the_first_rule_that_fits_chooses_public_address_and_port(engine: Engine) -> None:
    (special,) = send(engine, INSIDE, udp("10.0.1.7", 5000, "198.51.100.9", 53))
    assert special.source in ("203.0.113.6", "203.0.113.7")
    assert special.sport in (40_000, 40_001)
    (other,) = send(engine, INSIDE, udp("10.0.1.7", 5000, "8.8.8.8", 53))
    assert (other.source, other.sport >= 1024) == ("203.0.113.5", True)
    (high,) = send(engine, INSIDE, udp("10.0.1.200", 5000, "198.51.100.9", 53))
    assert high.source == "203.0.113.5", "10.0.1.200 is no source of the first rule"


def test_a_source_of_no_rule_is_denied(engine: Engine) -> None:
    assert send(engine, INSIDE, udp("10.9.9.9", 5000, "8.8.8.8", 53)) == []
    assert drops(engine) == {"drop_no_rule": 1}


def test_services_in_order_with_their_protocols_and_lists(engine: Engine) -> None:
    (web,) = send(engine, OUTSIDE, tcp("203.0.113.100", 5000, "203.0.113.5", 80, SYN))
    assert (web.target, web.dport, web.source) == ("10.0.1.21", 8080, "203.0.113.100")
    (names,) = send(engine, OUTSIDE, udp("8.8.8.8", 5000, "203.0.113.5", 53))
    assert (names.target, names.dport) == ("10.0.1.22", 5353)
    assert (engine.backend_flow_counts(0), engine.backend_flow_counts(1)) == ({7: 1}, {9: 1})
    assert send(engine, OUTSIDE, tcp("203.0.113.200", 5000, "203.0.113.5", 80, SYN)) == []
    assert send(engine, OUTSIDE, udp("8.8.8.8", 5000, "203.0.113.5", 80)) == []
    assert send(engine, OUTSIDE, tcp("8.8.8.8", 5001, "203.0.113.5", 22, ACK)) == []
    assert drops(engine).get("drop_not_allowed") == 1


def test_vips_are_answered_on_their_side_only(engine: Engine) -> None:
    for side, asker, vip, answers in (
        (INSIDE, "10.0.1.7", "10.0.1.1", 1),
        (OUTSIDE, "203.0.113.100", "203.0.113.5", 1),
        (INSIDE, "10.0.1.7", "203.0.113.5", 0),
        (OUTSIDE, "203.0.113.100", "10.0.1.1", 0),
        (OUTSIDE, "203.0.113.100", "203.0.113.9", 0),
    ):
        engine.take_sent()
        engine.inject(side, arp(1, mac_of(asker), asker, vip), 0)
        assert len(engine.take_sent()) == answers, (side, vip)


COMMITS = """
[[forward]]
public = "203.0.113.5:5060"
protocol = "udp"
to = "10.0.1.7:5060"
[[one_to_one]]
public = "203.0.113.9"
inside = "10.0.1.200"
commit = "emit"
[[pass]]
source = ["2001:db8:1::/64"]
commit = "ack"
"""


def test_rules_with_a_commit_of_their_own_are_named_in_the_engines_tables(tmp_path: Path) -> None:
    text = CONFIGURATION.replace('protocol = "udp"', 'protocol = "udp"\ncommit = "emit"') + COMMITS
    settings = settings_of(text, tmp_path)
    assert rule_commits(settings) == [("service", 1, "emit"), ("forward", 1, "emit"), ("pass", 0, "ack")]
    engine = engine_of(settings)
    engine.set_routes([(number("10.0.1.0"), 24, INSIDE, 0), (0, 0, OUTSIDE, number("203.0.113.254"))])
    engine.set_neighbours([(INSIDE, number("10.0.1.200"), mac_of("10.0.1.200"))])
    arm(engine)
    engine.set_commit("ack", 10**12, False)
    assert send(engine, OUTSIDE, udp("8.8.8.8", 5000, "203.0.113.9", 53)) == []
    assert engine.emitted(1) == 1, "sent is enough for the 1:1 mapping"


def test_owned_are_vips_and_public_addresses(settings: Settings) -> None:
    owned = ["10.0.1.1/32", "203.0.113.5/32", "203.0.113.6/32", "203.0.113.7/32"]
    assert owned_networks(settings) == [IPv4Network(each) for each in owned]


def test_private_are_nat_sources_and_backends(settings: Settings) -> None:
    private = ["10.0.1.0/24", "10.0.1.0/25", "10.0.1.21/32", "10.0.1.22/32"]
    assert private_networks(settings, written_backends(settings)) == [IPv4Network(each) for each in private]


@pytest.mark.e2e
def test_both_sides_open_on_their_interfaces(settings: Settings) -> None:
    with namespaces(2) as (gateway, lan):
        join(gateway, "inside", lan, "left")
        join(gateway, "outside", lan, "right")
        with gateway.entered():
            inside, outside = find_interface("inside"), find_interface("outside")
            engine = build_engine(settings, b"sixteen-byte-key", [])
            descriptors = open_sides(engine, inside, outside)
            taps = gateway.run("cat", "/proc/net/packet").splitlines()[1:]
        assert len(set(descriptors)) == 2
        assert sorted(int(tap.split()[4]) for tap in taps) == sorted((inside.index, outside.index))
        engine.close()
        assert len(gateway.run("cat", "/proc/net/packet").splitlines()) == 1


def test_an_interface_that_has_gone_is_an_error(settings: Settings) -> None:
    engine = build_engine(settings, b"sixteen-byte-key", [])
    lost = Interface("lost", 2**31 - 1, INSIDE_MAC, 1500, ())
    with pytest.raises(OSError, match="No such device"):
        open_sides(engine, lost, lost)
