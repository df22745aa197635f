"""The drop program, run by a small classic BPF interpreter against a model."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasyncd.datapath.classic_bpf import (
    TC_ACT_SHOT,
    TC_ACT_UNSPEC,
    Instruction,
    ProgramTooLongError,
    build_drop_program,
    build_drop_program_ipv6,
    is_marked,
    pack,
)

OWN = [IPv4Address("10.0.1.2")]
OWNED = [IPv4Network("10.0.1.1"), IPv4Network("203.0.113.5"), IPv4Network("198.51.100.0/28")]
SOURCES = [IPv4Network("10.0.1.0/24"), IPv4Network("10.2.0.0/16")]


def interpret(program: Sequence[Instruction], frame: bytes) -> int:
    """Runs the program as the kernel would; a load beyond the frame ends with 0."""
    accumulator, at = 0, 0
    while True:
        code, jump_true, jump_false, operand = program[at]
        at += 1
        size = {0x30: 1, 0x28: 2, 0x20: 4}.get(code)
        if size is not None:
            if operand + size > len(frame):
                return 0
            accumulator = int.from_bytes(frame[operand : operand + size], "big")
        elif code == 0x00:
            accumulator = operand
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x15:
            at += jump_true if accumulator == operand else jump_false
        elif code == 0x35:
            at += jump_true if accumulator >= operand else jump_false
        elif code == 0x06:
            return operand
        else:
            pytest.fail(f"unknown instruction {code:#x}")


def frame(source: IPv4Address | str, destination: IPv4Address | str, ethertype: int = 0x0800) -> bytes:
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    return bytes(12) + struct.pack(">H", ethertype) + b"\x45" + bytes(11) + addresses + bytes(20)


@pytest.mark.parametrize(
    ("source", "destination", "dropped"),
    [
        ("198.18.0.9", "203.0.113.5", True),  # to a VIP
        ("198.18.0.9", "198.51.100.15", True),  # to a public NAT address in a range
        ("198.18.0.9", "198.51.100.16", False),  # just behind the range
        ("10.0.1.7", "8.8.8.8", True),  # a private host on its way out
        ("10.2.255.1", "8.8.8.8", True),
        ("10.3.0.1", "8.8.8.8", False),  # not a declared source: the kernel's to refuse
        ("10.0.1.7", "10.0.1.2", False),  # to the gateway itself
        ("10.0.1.7", "10.0.1.1", True),  # to the inside VIP
        ("10.0.1.7", "224.0.0.1", False),
        ("10.0.1.7", "255.255.255.255", False),
        ("203.0.113.5", "198.18.0.9", False),
        ("198.18.0.9", "10.2.0.7", True),  # an answer to a private host that went out untranslated
    ],
)
def test_drops_what_is_the_engines_and_passes_what_is_the_kernels(
    source: str, destination: str, dropped: bool
) -> None:
    program = build_drop_program(OWN, OWNED, SOURCES)
    assert interpret(program, frame(source, destination)) == (TC_ACT_SHOT if dropped else TC_ACT_UNSPEC)


def test_passes_everything_that_is_not_ipv4() -> None:
    program = build_drop_program(OWN, OWNED, SOURCES)
    assert interpret(program, frame("10.0.1.7", "203.0.113.5", 0x86DD)) == TC_ACT_UNSPEC


def test_passes_everything_when_nothing_is_owned() -> None:
    assert interpret(build_drop_program([], [], []), frame("10.0.1.7", "8.8.8.8")) == TC_ACT_UNSPEC


def test_a_source_of_any_drops_all_but_the_own() -> None:
    program = build_drop_program(OWN, [], [IPv4Network("0.0.0.0/0")])
    assert interpret(program, frame("1.2.3.4", "5.6.7.8")) == TC_ACT_SHOT
    assert interpret(program, frame("1.2.3.4", "10.0.1.2")) == TC_ACT_UNSPEC


def test_refuses_what_does_not_fit_into_one_program() -> None:
    scattered = [IPv4Network(2 * number) for number in range(3000)]
    with pytest.raises(ProgramTooLongError, match="4096"):
        build_drop_program([], scattered, [])


def test_adjacent_addresses_cost_no_more_than_their_prefix() -> None:
    whole = [IPv4Network((int(IPv4Address("198.51.100.0")) + number, 32)) for number in range(256)]
    assert build_drop_program([], whole, []) == build_drop_program([], [IPv4Network("198.51.100.0/24")], [])


def test_knows_its_own_programs_by_their_mark() -> None:
    assert is_marked(pack(build_drop_program(OWN, OWNED, SOURCES)))
    assert not is_marked(pack([Instruction(0x06, 0, 0, 0)]))
    assert not is_marked(b"")


# Few bits, so that prefixes and addresses often meet.
near = st.integers(0, 63).map(lambda bits: IPv4Address(0x0A00_0000 + bits))
networks = st.lists(
    st.tuples(near, st.integers(26, 32)).map(lambda pair: IPv4Network(pair, strict=False)), max_size=8
)


@given(own=st.lists(near, max_size=3), owned=networks, sources=networks, source=near, destination=near)
def test_agrees_with_the_model(
    own: list[IPv4Address],
    owned: list[IPv4Network],
    sources: list[IPv4Network],
    source: IPv4Address,
    destination: IPv4Address,
) -> None:
    dropped = destination not in own and (
        any(destination in network for network in (*owned, *sources))
        or any(source in network for network in sources)
    )
    program = build_drop_program(own, owned, sources)
    assert interpret(program, frame(source, destination)) == (TC_ACT_SHOT if dropped else TC_ACT_UNSPEC)


OWN6 = [IPv6Address("2001:db8:1::2"), IPv6Address("fe80::2")]
OWNED6 = [IPv6Network("2001:db8:1::1"), IPv6Network("2001:db8:2::5")]
PRIVATE6 = [IPv6Network("2001:db8:1::/64"), IPv6Network("fd00:1::/47")]


def frame6(
    source: IPv6Address | str, destination: IPv6Address | str, next_header: int = 6, first_byte: int = 0
) -> bytes:
    head = b"\x60\0\0\0\0\x14" + bytes([next_header, 64])
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return bytes(12) + struct.pack(">H", 0x86DD) + head + addresses + bytes([first_byte]) + bytes(19)


@pytest.mark.parametrize(
    ("source", "destination", "dropped"),
    [
        ("2001:db8:9::9", "2001:db8:2::5", True),  # to a VIP
        ("2001:db8:9::9", "2001:db8:2::6", False),
        ("2001:db8:1::7", "2001:db8:9::9", True),  # a private host on its way out
        ("2001:db8:9::9", "2001:db8:1::7", True),  # and the answer to it
        ("fd00:1:2::7", "2001:db8:9::9", False),
        ("fd00:1:1::7", "2001:db8:9::9", True),  # a prefix that ends within a word
        ("fd00:2::7", "2001:db8:9::9", False),
        ("2001:db8:1::7", "2001:db8:1::2", False),  # to the gateway itself
        ("2001:db8:1::7", "2001:db8:1::1", True),  # to the inside VIP
        ("2001:db8:1::7", "fe80::2", False),
        ("2001:db8:1::7", "fe80::77", False),  # link-local: the kernel does not forward it
        ("fe80::7", "2001:db8:1::9", False),
        ("2001:db8:1::7", "ff02::1:ff00:2", False),  # multicast: discovery, MLD, router advertisements
    ],
)
def test_drops_of_ipv6_what_is_the_engines(source: str, destination: str, dropped: bool) -> None:
    program = build_drop_program_ipv6(OWN6, OWNED6, PRIVATE6)
    assert interpret(program, frame6(source, destination)) == (TC_ACT_SHOT if dropped else TC_ACT_UNSPEC)


def test_neighbour_discovery_is_the_kernels_and_echo_is_not() -> None:
    """An answer may come to an address that the kernel got after the program was made."""
    program = build_drop_program_ipv6(OWN6, OWNED6, PRIVATE6)
    for kind in range(256):
        found = interpret(program, frame6("2001:db8:1::7", "2001:db8:1::99", 58, kind))
        assert found == (TC_ACT_UNSPEC if 133 <= kind <= 137 else TC_ACT_SHOT), kind
    assert interpret(program, frame6("2001:db8:1::7", "2001:db8:2::5", 58, 135)) == TC_ACT_SHOT
    assert interpret(program, frame6("2001:db8:1::7", "2001:db8:9::9", 17, 135)) == TC_ACT_SHOT


def test_refuses_of_ipv6_too_what_does_not_fit() -> None:
    scattered = [IPv6Network(2 * number) for number in range(1, 600)]
    with pytest.raises(ProgramTooLongError, match="4096"):
        build_drop_program_ipv6([], scattered, [])


near6 = st.tuples(st.sampled_from([0, 1 << 32, 1 << 64, 1 << 96]), st.integers(0, 15)).map(
    lambda pair: IPv6Address((0x2001 << 112) + pair[0] + pair[1])
)
networks6 = st.lists(
    st.tuples(near6, st.integers(16, 128)).map(lambda pair: IPv6Network(pair, strict=False)), max_size=8
)


@given(own=st.lists(near6, max_size=3), owned=networks6, private=networks6, source=near6, destination=near6)
def test_agrees_with_the_model_of_ipv6(
    own: list[IPv6Address],
    owned: list[IPv6Network],
    private: list[IPv6Network],
    source: IPv6Address,
    destination: IPv6Address,
) -> None:
    dropped = destination not in own and (
        any(destination in network for network in (*owned, *private))
        or any(source in network for network in private)
    )
    program = build_drop_program_ipv6(own, owned, private)
    assert interpret(program, frame6(source, destination)) == (TC_ACT_SHOT if dropped else TC_ACT_UNSPEC)
