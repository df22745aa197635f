"""What no host sends, but somebody will: made by scapy and by hand. Nothing crashes, and every packet has one fate: it
leaves, is answered, or is dropped for exactly one reason.
"""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_RR, IPOption_SSRR
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw, fuzz

from hasyncd._native import INSIDE, OUTSIDE
from tests.native import frames
from tests.native.engines import (
    moved,
    publish_ring,
)
from tests.native.frames import ACK, FIN, RST, SYN, number, tcp
from tests.native.invariants import rows
from tests.native.model_rules import IGNORED, INVALID, ORIGINAL, REPLY, STATES, tcp_class, tcp_next
from tests.native.nat_gateway import INSIDE_VIP, OUTSIDE_VIP, PUBLIC, Gateway, nat_rule

HOST, SERVER, BACKEND, CLIENT = "10.0.1.7", "198.51.100.9", "10.0.1.9", "198.51.100.77"
ARP = b"\x08\x06"


def make_gateway() -> Gateway:
    gateway = Gateway(capacity=256, rules=[nat_rule(first=40000, last=40000)])
    gateway.engine.set_service(0, number(OUTSIDE_VIP), 80, 6, [(0, 0)])
    publish_ring(gateway.engine, 0, [(1, number(BACKEND), 8080, 1)], 1)
    gateway.engine.set_forwards([(number(PUBLIC), 8443, 6, number(BACKEND), 443, [(0, 0)])])
    return gateway


@pytest.fixture
def gateway() -> Gateway:
    return make_gateway()


def fate(gateway: Gateway, side: int, frame: bytes) -> str:
    """What becomes of a frame: `sent`, `answered`, `passed over` (ARP not for us), `waits`, or the one reason."""
    before = gateway.engine.counters()
    gateway.engine.inject(side, frame, gateway.now)
    changed = moved(gateway.engine.counters(), before)
    assert changed["received_packets"] == 1
    fates = {name: count for name, count in changed.items() if name.startswith("drop_")}
    fates |= {"sent": changed.get("sent_packets", 0)}
    fates |= {"answered": changed.get("arp_answered", 0) + changed.get("echo_answered", 0)}
    fates |= {"waits": changed.get("fragments_held", 0)}
    found = {name: count for name, count in fates.items() if count}
    if not found and frame[12:14] == ARP:
        return "passed over"
    assert sum(found.values()) == 1, f"{frame.hex()}: {changed}"
    return next(iter(found))


def made(packet: Packet) -> bytes:
    return bytes(Ether(dst="02:02:02:02:02:02", src="06:06:06:06:06:06") / packet)


# --- TCP's flags ----------------------------------------------------------------------------------------------

WALKS = {
    "s": [(ORIGINAL, SYN)],
    "2": [(ORIGINAL, SYN), (REPLY, SYN)],
    "r": [(ORIGINAL, SYN), (REPLY, SYN | ACK)],
    "E": [(ORIGINAL, SYN), (REPLY, SYN | ACK), (ORIGINAL, ACK)],
    "X": [(ORIGINAL, SYN), (REPLY, RST | ACK)],
}
WALKS["F"] = [*WALKS["E"], (ORIGINAL, FIN | ACK)]
WALKS["C"] = [*WALKS["F"], (REPLY, ACK)]
WALKS["L"] = [*WALKS["F"], (REPLY, FIN | ACK)]
WALKS["T"] = [*WALKS["L"], (ORIGINAL, ACK)]


def speak(gateway: Gateway, way: int, flags: int) -> str:
    if way == ORIGINAL:
        return fate(gateway, INSIDE, tcp(HOST, 5000, SERVER, 80, flags))
    return fate(gateway, OUTSIDE, tcp(SERVER, 80, PUBLIC, 40000, flags))


@pytest.mark.parametrize("letter", sorted(WALKS))
@pytest.mark.parametrize("way", [ORIGINAL, REPLY])
def test_all_flags_over_all_states(letter: str, way: int) -> None:
    """C1: the engine goes where the table of test_tcp_state.c says, for each of the 64 combinations."""
    assert sorted(WALKS) == sorted(STATES.replace("N", ""))
    for flags in range(64):
        gateway = make_gateway()
        assert {speak(gateway, *step) for step in WALKS[letter]} == {"sent"}
        (before,) = rows(gateway.engine, gateway.now)
        assert STATES[before.state] == letter
        wanted = tcp_next(way, flags, before.state)
        if letter == "s" and way == REPLY and tcp_class(flags) == "RST" and not flags & ACK:
            wanted = IGNORED  # it does not acknowledge the SYN (RFC 9293 §3.10.7.3)
        told = speak(gateway, way, flags)
        (after,) = rows(gateway.engine, gateway.now)
        if wanted == INVALID:
            assert (told, after) == ("drop_tcp_invalid", before), f"flags {flags:#x}"
        else:
            assert told == "sent", f"flags {flags:#x}"
            assert STATES[after.state] == (letter if wanted == IGNORED else wanted), f"flags {flags:#x}"


@pytest.mark.parametrize("side", [INSIDE, OUTSIDE])
def test_only_a_syn_makes_a_flow(side: int) -> None:
    for flags in range(64):
        gateway = make_gateway()
        frame = (
            tcp(HOST, 5000, SERVER, 80, flags)
            if side == INSIDE
            else tcp(CLIENT, 5000, OUTSIDE_VIP, 80, flags)
        )
        opens = tcp_class(flags) == "SYN"
        assert fate(gateway, side, frame) == ("sent" if opens else "drop_no_flow"), f"flags {flags:#x}"
        assert gateway.flows == opens


# --- headers that lie -------------------------------------------------------------------------------------------

MALFORMED = {
    "version 6 in the header": IP(src=HOST, dst=SERVER, version=6) / UDP(),
    "version 0": IP(src=HOST, dst=SERVER, version=0) / UDP(),
    "a header of 16 bytes": IP(src=HOST, dst=SERVER, ihl=4) / UDP(),
    "a header of 60 that is not there": IP(src=HOST, dst=SERVER, ihl=15, len=28) / UDP(),
    "shorter than its header": IP(src=HOST, dst=SERVER, len=19) / UDP(),
    "length 0": IP(src=HOST, dst=SERVER, len=0) / UDP(),
    "longer than the frame": IP(src=HOST, dst=SERVER, len=29) / UDP(),
    "65535 bytes that are not there": IP(src=HOST, dst=SERVER, len=65535) / UDP(),
    "a datagram longer than its packet": IP(src=HOST, dst=SERVER) / UDP(len=9),
    "a datagram shorter than its header": IP(src=HOST, dst=SERVER) / UDP(len=7),
    "a datagram of length 0": IP(src=HOST, dst=SERVER) / UDP(len=0),
    "no datagram": IP(src=HOST, dst=SERVER, proto=17),
    "no segment": IP(src=HOST, dst=SERVER, proto=6) / Raw(b"x" * 19),
    "a segment with a header of 16": IP(src=HOST, dst=SERVER) / TCP(dataofs=4, flags="S"),
    "a segment with a header of 60 that is not there": IP(src=HOST, dst=SERVER) / TCP(dataofs=15, flags="S"),
    "no message": IP(src=HOST, dst=SERVER, proto=1) / Raw(b"\x08\0\0\0\0\0\0"),
    "an error without a quotation": IP(src=SERVER, dst=PUBLIC) / ICMP(type=3, code=4),
    "an error that quotes IPv6": IP(src=SERVER, dst=PUBLIC) / ICMP(type=3) / Raw(b"\x60" + b"\0" * 40),
    "an error whose quotation lies": IP(src=SERVER, dst=PUBLIC) / ICMP(type=11) / Raw(b"\x4f" + b"\0" * 24),
    "a VLAN's tag": Dot1Q(vlan=7) / IP(src=HOST, dst=SERVER) / UDP(),
    "two tags": Dot1Q(vlan=7) / Dot1Q(vlan=8) / IP(src=HOST, dst=SERVER) / UDP(),
    "no header": Raw(b"\x45\0\0\x13"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("side", [INSIDE, OUTSIDE])
def test_malformed_is_dropped_as_that(gateway: Gateway, name: str, side: int) -> None:
    frame = made(MALFORMED[name])
    if isinstance(MALFORMED[name], Raw):
        frame = frame[:12] + b"\x08\0" + frame[14:]
    assert fate(gateway, side, frame) == "drop_malformed"
    assert gateway.flows == 0


OTHER = {
    "GRE": IP(src=HOST, dst=SERVER, proto=47) / Raw(b"x" * 8),
    "SCTP": IP(src=HOST, dst=SERVER, proto=132) / Raw(b"x" * 12),
    "IP in IP": IP(src=HOST, dst=SERVER) / IP(src=HOST, dst=SERVER) / UDP(),
    "nothing": IP(src=HOST, dst=SERVER, proto=59),
    **{f"ICMP type {kind}": IP(src=HOST, dst=SERVER) / ICMP(type=kind) / Raw(b"x" * 32)
       for kind in range(256) if kind not in (0, 3, 8, 11, 12)},
}  # fmt: skip


def test_other_protocols_and_messages_are_dropped_as_that(gateway: Gateway) -> None:
    for name, packet in OTHER.items():
        assert fate(gateway, INSIDE, made(packet)) == "drop_protocol", name
    assert gateway.flows == 0


# --- odd, and let through or not ----------------------------------------------------------------------------------


def with_options(options: bytes) -> bytes:
    padded = options.ljust((len(options) + 3) // 4 * 4, b"\0")
    datagram = frames.datagram(HOST, 5000, SERVER, 53, b"odd")
    return frames.ethernet(frames.ipv4(HOST, SERVER, 17, datagram, options=padded))


def test_options_are_carried(gateway: Gateway) -> None:
    route = bytes(IPOption_RR(routers=["0.0.0.0"] * 9))
    left = gateway.out(with_options(b"\x01" + route))
    assert left
    assert (left.source, left.target) == (PUBLIC, SERVER)
    assert left.packet[20:60] == b"\x01" + route


@pytest.mark.parametrize(
    "options",
    [
        bytes(IPOption_LSRR(routers=["192.0.2.1"])),
        b"\x01" + bytes(IPOption_SSRR(routers=["192.0.2.1"])),
        b"\x94\x01\x00\x00",
        b"\x94\x09\x00\x00",
        b"\x01\x01\x01\x94",
    ],
    ids=["loose source route", "strict source route", "length 1", "length beyond the header", "no length"],
)
def test_a_source_route_and_broken_options_go_no_further(gateway: Gateway, options: bytes) -> None:
    """RFC 7126: nobody but us says where a packet goes."""
    assert fate(gateway, INSIDE, with_options(options)) == "drop_malformed"


def test_a_datagram_without_checksum_gets_none(gateway: Gateway) -> None:
    left = gateway.out(frames.udp(HOST, 5000, SERVER, 53, b"odd", summed=False))
    assert left
    assert left.packet[26:28] == b"\0\0"


def test_an_echo_of_nothing_but_zeros_has_the_other_zero_for_a_checksum(gateway: Gateway) -> None:
    """RFC 1624 §3: 0 where 0xffff is due, and the host that pinged with identifier 0 would hear nothing."""
    zeros = frames.icmp(8, 0, 0)
    assert fate(gateway, INSIDE, frames.ethernet(frames.ipv4(HOST, SERVER, 1, zeros))) == "sent"
    gateway.engine.take_sent()
    answer = gateway.back(frames.ethernet(frames.ipv4(SERVER, PUBLIC, 1, frames.icmp(0, 0, 40000 << 16))))
    assert answer
    assert answer.packet[20:] == b"\0\0\xff\xff\0\0\0\0"


def test_land_and_its_kin(gateway: Gateway) -> None:
    """Source and destination alike, or a source that is ours."""
    for address, port in ((OUTSIDE_VIP, 80), (INSIDE_VIP, 80), (HOST, 80), (BACKEND, 8080)):
        for side in (INSIDE, OUTSIDE):
            assert fate(gateway, side, tcp(address, port, address, port, SYN)).startswith("drop_"), address
    assert fate(gateway, OUTSIDE, tcp(HOST, 5000, OUTSIDE_VIP, 80, SYN)) == "drop_not_allowed", (
        "an inside source"
    )
    assert fate(gateway, INSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN)) == "drop_not_allowed", (
        "an outside one"
    )
    assert gateway.flows == 0


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_at_the_end_of_its_life_goes_no_further(gateway: Gateway, ttl: int) -> None:
    assert fate(gateway, INSIDE, made(IP(src=HOST, dst=SERVER, ttl=ttl) / UDP(dport=53))) == "drop_ttl"
    assert (
        fate(gateway, OUTSIDE, made(IP(src=CLIENT, dst=OUTSIDE_VIP, ttl=ttl) / TCP(dport=80))) == "drop_ttl"
    )
    assert gateway.flows == 0
    assert fate(gateway, INSIDE, frames.echo(HOST, INSIDE_VIP, 7, ttl=ttl)) == "answered", "it had arrived"


@pytest.mark.parametrize("size", [1501, 9000, 65535])
@pytest.mark.parametrize("may_cut", [False, True])
def test_what_is_too_large_for_the_link_does_not_leave(gateway: Gateway, size: int, may_cut: bool) -> None:
    packet = (
        IP(src=HOST, dst=SERVER, flags=0 if may_cut else "DF")
        / UDP(sport=1, dport=53)
        / Raw(b"x" * (size - 28))
    )
    assert fate(gateway, INSIDE, made(packet)) == "drop_too_big"
    ((side, answer),) = gateway.engine.take_sent() if not may_cut else ((INSIDE, b""),)
    assert side == INSIDE
    assert may_cut or frames.read(answer).packet[20:22] == bytes([3, 4])


def test_padding_is_left_behind(gateway: Gateway) -> None:
    short = frames.udp(HOST, 5000, SERVER, 53, b"x")
    assert fate(gateway, INSIDE, short + b"padding!" * 3) == "sent"
    ((_, left),) = gateway.engine.take_sent()
    assert len(left) == len(short)


# --- cut, and random ----------------------------------------------------------------------------------------------

WHOLE = {
    "segment": made(IP(src=HOST, dst=SERVER) / TCP(flags="S", options=[("MSS", 1460), ("WScale", 7)]) / Raw(b"data")),
    "datagram": frames.udp(HOST, 5000, SERVER, 53, b"data"),
    "echo": frames.echo(HOST, SERVER, 7),
    "echo to the VIP": frames.echo(HOST, INSIDE_VIP, 7),
    "error": frames.error(SERVER, PUBLIC, frames.udp(PUBLIC, 40000, SERVER, 53, b"x")[14:]),
    "options": made(IP(src=HOST, dst=SERVER, options=[IPOption_RR(routers=["0.0.0.0"])]) / UDP()),
    "first fragment": made(IP(src=HOST, dst=SERVER, flags="MF") / UDP(len=64) / Raw(b"x" * 8)),
    "later fragment": made(IP(src=HOST, dst=SERVER, frag=2, proto=17) / Raw(b"x" * 16)),
    "ARP": frames.arp(1, b"\x06" * 6, HOST, INSIDE_VIP),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_cut_at_every_byte(gateway: Gateway, name: str) -> None:
    whole = WHOLE[name]
    for length in range(len(whole)):
        for side in (INSIDE, OUTSIDE):
            assert fate(gateway, side, whole[:length]) == "drop_malformed", f"{length} bytes of {len(whole)}"
    assert gateway.flows == 0
    assert gateway.engine.take_sent() == []
    assert fate(gateway, INSIDE, whole) != "drop_malformed"


SHAPES = [
    IP(src=HOST, dst=SERVER) / fuzz(TCP()),
    IP(src=HOST, dst=SERVER) / fuzz(UDP()) / Raw(b"x" * 40),
    IP(src=HOST, dst=SERVER) / fuzz(ICMP()) / Raw(b"x" * 40),
    IP(src=CLIENT, dst=OUTSIDE_VIP) / fuzz(TCP(dport=80)),
    fuzz(IP(src=HOST, dst=SERVER)) / UDP() / Raw(b"x" * 40),
    fuzz(IP(dst=PUBLIC)) / fuzz(TCP(dport=8443)),
    fuzz(IP()) / fuzz(TCP()),
    fuzz(IP()) / Raw(b"x" * 64),
]


@pytest.mark.parametrize("seed", range(4))
def test_scapys_fuzz_has_one_fate_each(gateway: Gateway, seed: int) -> None:
    random.seed(seed)  # scapy draws from it
    fates = {fate(gateway, random.randrange(2), made(random.choice(SHAPES))) for _ in range(400)}
    assert len(fates) > 4, fates
    gateway.engine.take_sent()
    gateway.wait(5)
    counters = gateway.engine.counters()
    dropped = sum(count for name, count in counters.items() if name.startswith("drop_"))
    answered = counters["arp_answered"] + counters["echo_answered"]
    assert counters["sent_packets"] + answered + dropped == counters["received_packets"]
