"""Addresses that are no host's, or ours: nothing of theirs passes."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE
from tests.native.engines import PRIVATE, drops, make_engine, send
from tests.native.frames import SYN, number, tcp, udp
from tests.native.invariants import rows
from tests.native.nat_gateway import OUTSIDE_VIP, PUBLIC, Gateway
from tests.native.test_odd_packets import HOST, fate, make_gateway


@pytest.mark.parametrize("source", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
def test_a_martian_source_reaches_no_backend(source: str) -> None:  # RFC 1812 5.3.7
    gateway = make_gateway()
    assert gateway.back(tcp(source, 5000, OUTSIDE_VIP, 80, SYN)) is None
    assert gateway.flows == 0


@pytest.mark.parametrize(
    "target", ["224.0.0.251", "239.255.255.250", "255.255.255.255", "127.0.0.1", "0.0.0.0", "240.0.0.1"]
)
def test_nothing_is_translated_to_what_is_no_single_host(target: str) -> None:  # RFC 1812 4.2.2.11, 5.3.7
    gateway = make_gateway()
    assert gateway.out(udp(HOST, 5353, target, 5353, b"x")) is None
    assert gateway.flows == 0


def test_nobody_outside_speaks_for_a_public_address_of_a_pool() -> None:  # as VIPs: drop_no_rule
    gateway = make_gateway()
    assert gateway.back(tcp(PUBLIC, 8443, PUBLIC, 8443, SYN)) is None  # land, by the forward
    assert gateway.back(tcp(PUBLIC, 5000, OUTSIDE_VIP, 80, SYN)) is None


def test_a_host_with_a_whole_public_address_does_not_talk_to_itself_by_it() -> (
    None
):  # N1: original == reply; direction is anybody's guess
    gateway = Gateway()
    gateway.engine.set_forwards([(number("203.0.113.9"), 0, 0, number("10.0.1.30"), 0, [(0, 0)])])
    gateway.loop(udp("10.0.1.30", 7, "203.0.113.9", 7, b"x"))
    assert all(row.original != row.reply for row in rows(gateway.engine, gateway.now))


def test_nothing_is_sent_to_everybody_on_a_network_of_ours() -> None:  # RFC 2644
    engine = make_engine()
    assert send(engine, INSIDE, udp(PRIVATE, 5353, "203.0.113.255", 5353, b"x")) == []
    assert drops(engine) == {"drop_scope": 1}


def test_a_wrong_header_checksum_goes_no_further() -> None:  # RFC 1812 5.2.2
    gateway = make_gateway()
    frame = bytearray(udp(HOST, 5000, "8.8.8.8", 53, b"x"))
    frame[24] ^= 0x01
    assert fate(gateway, INSIDE, bytes(frame)) == "drop_malformed"
