"""What a tap counts: frames in the name of the pair, not what a gateway's machine says for itself."""

from __future__ import annotations

import ipaddress

import pytest

from hasyncd.lab.tap import Sighting, read_frame, summary

OWN = frozenset(("10.0.1.2", "203.0.113.2", "2001:db8:1::2", "2001:db8:2::2"))
MACS = bytes(12)


def ipv4(source: str) -> bytes:
    return MACS + b"\x08\x00" + bytes(12) + ipaddress.ip_address(source).packed + bytes(4)


def arp(sender: str) -> bytes:
    return MACS + b"\x08\x06" + bytes(14) + ipaddress.ip_address(sender).packed + bytes(10)


def ipv6(source: str, payload: bytes = bytes(24), next_header: int = 17) -> bytes:
    head = bytes(6) + bytes([next_header, 64]) + ipaddress.ip_address(source).packed + bytes(16)
    return MACS + b"\x86\xdd" + head + payload


def advertisement(source: str, target: str) -> bytes:
    return ipv6(source, b"\x88" + bytes(7) + ipaddress.ip_address(target).packed, 58)


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (ipv4("203.0.113.50"), ("IPv4", "203.0.113.50")),
        (ipv4("10.0.1.1"), ("IPv4", "10.0.1.1")),
        (arp("10.0.1.1"), ("ARP", "10.0.1.1")),
        (ipv6("2001:db8:1::7"), ("IPv6", "2001:db8:1::7")),
        (advertisement("fe80::1", "2001:db8:2::5"), ("NDP", "2001:db8:2::5")),
    ],
)
def test_what_is_said_for_the_pair_counts(frame: bytes, seen: tuple[str, str]) -> None:
    assert read_frame(frame, OWN) == seen


@pytest.mark.parametrize(
    "frame",
    [
        ipv4("10.0.1.2"),  # a heartbeat
        arp("10.0.1.2"),
        arp("0.0.0.0"),  # a probe: it asks who has a VIP
        ipv6("fe80::1"),
        ipv6("2001:db8:2::2"),
        ipv6("::"),
        advertisement("2001:db8:1::2", "2001:db8:1::2"),
        MACS + b"\x88\xcc" + bytes(60),
        b"\x08\x06",
        MACS + b"\x08\x06" + bytes(5),
    ],
)
def test_what_a_machine_says_for_itself_does_not(frame: bytes) -> None:
    assert read_frame(frame, OWN) is None


def test_summary_names_the_most_frequent_first() -> None:
    seen = [Sighting(1, "inside", "ARP", "10.0.1.1"), *[Sighting(2, "outside", "IPv4", "10.0.1.7")] * 2]
    assert summary(seen) == "2 IPv4 10.0.1.7 (outside), 1 ARP 10.0.1.1 (inside)"
