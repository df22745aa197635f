"""Resets that belong to a connection, and resets that somebody guessed (RFC 5961 §3; invariants C5, C6)."""

from __future__ import annotations

import struct

import pytest

from tests.native.frames import ACK, FIN, RST, SYN, TCP, checksum, ethernet, ipv4, pseudo_header
from tests.native.invariants import rows
from tests.native.nat_gateway import PUBLIC, Gateway, nat_rule

HOST, SERVER = "10.0.1.7", "198.51.100.9"
SYN_SENT, ESTABLISHED, CLOSE = 1, 3, 8
NEAR, LEAP = 65_535, 1 << 20


def segment(way: str, flags: int, sequence: int, acknowledges: int = 0, data: bytes = b"") -> bytes:
    ends = (HOST, 5000, SERVER, 80) if way == "out" else (SERVER, 80, PUBLIC, 40000)
    head = struct.pack(
        "!HHIIBBHHH", ends[1], ends[3], sequence % 2**32, acknowledges % 2**32, 0x50, flags, 1000, 0, 0
    )
    total = checksum(pseudo_header(ends[0], ends[2], TCP, len(head + data)) + head + data)
    return ethernet(ipv4(ends[0], ends[2], TCP, head[:16] + struct.pack("!H", total) + head[18:] + data))


class Connection:
    """HOST's data ends at `ours`, the server's at `theirs`."""

    def __init__(self, ours: int = 5000, theirs: int = 900_000) -> None:
        self.gateway = Gateway(rules=[nat_rule(first=40000, last=40000)])
        self.ours, self.theirs = ours + 1, theirs + 1
        assert self.gateway.out(segment("out", SYN, ours))

    def establish(self) -> Connection:
        assert self.gateway.back(segment("back", SYN | ACK, self.theirs - 1, self.ours))
        assert self.gateway.out(segment("out", ACK, self.ours, self.theirs))
        assert self.state == ESTABLISHED
        return self

    def passes(self, way: str, flags: int, sequence: int, acknowledges: int = 0, data: bytes = b"") -> bool:
        move = self.gateway.out if way == "out" else self.gateway.back
        return move(segment(way, flags, sequence, acknowledges, data)) is not None

    def end_of(self, way: str) -> int:
        return self.ours if way == "out" else self.theirs

    @property
    def state(self) -> int:
        (row,) = rows(self.gateway.engine, self.gateway.now)
        return row.state


@pytest.mark.parametrize("way", ["out", "back"])
@pytest.mark.parametrize("offset", [0, 1, -1, NEAR, -NEAR])
def test_a_reset_near_its_senders_data_closes(way: str, offset: int) -> None:
    connection = Connection().establish()
    assert connection.passes(way, RST, connection.end_of(way) + offset)
    assert connection.state == CLOSE


@pytest.mark.parametrize("way", ["out", "back"])
@pytest.mark.parametrize("offset", [NEAR + 1, -NEAR - 1, 1 << 30, -(1 << 31)])
def test_a_guessed_reset_passes_and_closes_nothing(way: str, offset: int) -> None:
    """C5: the receiver answers it by a challenge ACK, or not at all; the flow stays as it was."""
    connection = Connection().establish()
    assert connection.passes(way, RST | ACK, connection.end_of(way) + offset)
    assert connection.state == ESTABLISHED
    assert connection.gateway.count("tcp_resets_ignored") == 1
    assert connection.passes(way, RST, connection.end_of(way)), "the one that the challenge brings"
    assert connection.state == CLOSE


def test_a_guessed_reset_keeps_nothing_alive() -> None:
    connection = Connection().establish()
    connection.gateway.wait(7000)
    connection.passes("back", RST, connection.theirs + (1 << 30))
    connection.gateway.wait(441)
    assert connection.gateway.flows == 0


@pytest.mark.parametrize("way", ["out", "back"])
def test_data_far_ahead_does_not_prepare_a_reset(way: str) -> None:
    connection = Connection().establish()
    guess = connection.end_of(way) + LEAP + NEAR + 100
    assert connection.passes(way, ACK, guess), "numbers of data are not judged"
    assert connection.passes(way, RST, guess)
    assert connection.state == ESTABLISHED


@pytest.mark.parametrize("way", ["out", "back"])
def test_a_transfer_moves_the_mark_across_the_wrap(way: str) -> None:
    """C6."""
    connection = Connection(2**32 - 90_000, 2**32 - 90_000).establish()
    end = connection.end_of(way)
    for _ in range(300):
        assert connection.passes(way, ACK, end, data=b"x" * 1000)
        end += 1000
    assert connection.passes(way, RST, end - 300_000), "where it began"
    assert connection.state == ESTABLISHED
    assert connection.passes(way, RST, end)
    assert connection.state == CLOSE


def test_a_refusal_acknowledges_the_syn() -> None:
    connection = Connection()
    for flags, acknowledges in (
        (RST, 0),
        (RST | ACK, connection.ours + 1),
        (RST | ACK, connection.ours - NEAR - 1),
    ):
        assert connection.passes("back", flags, 0, acknowledges)
        assert connection.state == SYN_SENT
    assert connection.passes("back", RST | ACK, 0, connection.ours)
    assert connection.state == CLOSE


def test_after_a_takeover_a_reset_is_believed_until_its_direction_was_seen() -> None:
    for seen in (False, True):
        connection = Connection().establish()
        connection.gateway = connection.gateway.copy()
        if seen:
            assert connection.passes("back", ACK, connection.theirs)
        assert connection.passes("back", RST, connection.theirs + (1 << 30))
        assert connection.state == (ESTABLISHED if seen else CLOSE)


def test_a_half_closed_connection_is_no_easier_to_reset() -> None:
    connection = Connection().establish()
    assert connection.passes("out", FIN | ACK, connection.ours, connection.theirs)
    state = connection.state
    assert connection.passes("back", RST, connection.theirs - (1 << 20))
    assert connection.state == state
