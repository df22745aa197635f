"""Garbage at the peer port, from the peer's own address and from another: counted, closed, no harm done."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hasyncd.core.messages import Deltas, Hello, Leaving, Refuse, Resume, SyncBegin, SyncEnd
from hasyncd.core.types import Role
from hasyncd.core.wire import FRAME_BYTES_MAX, encode_frame
from tests.e2e.hostile_peer import CAPACITY, HostilePeer, framed
from tests.e2e.world import SYNC, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STRANGER = "169.254.10.77"
GROWTH_KIB_MAX = 4096
"""A daemon that kept even one of the unfinished frames of each round would pass it."""
CONNECTS = 3000
GREETING = encode_frame(Hello(1, "gw-b", 9, 9, bytes(8), CAPACITY, bytes(16), 1))


def head(kind: int, state: int = 1, flags: int = 4, handle: int = 0, version: int = 1) -> bytes:
    """The 12 bytes that every record begins with; proto/sync.md §3."""
    return struct.pack(">BBBBIHH", kind, state, flags, 0, handle, version, 30)


ADD = head(1) + struct.pack(">IIHHIHH", 0x0A000107, 0xCB007132, 5000, 7000, 0xCB007105, 40_000, 0)


def deltas(peer: HostilePeer, records: bytes, *, newer: int = 0, first: int = 1, count: int = 1) -> bytes:
    return encode_frame(Deltas(peer.generation + newer, first, count, records))


# What is said after HELLO and SYNC_BEGIN, under the name that it must be rejected with.
AFTER_GREETING: dict[str, Callable[[HostilePeer], bytes]] = {
    "oversized": lambda _: b"\xff\xff\xff\xff",
    "malformed": lambda _: b"\x00\x00\x00\x05\xc1hell",
    "non_canonical": lambda _: b"\x00\x00\x00\x04\x92\xcc\x06\x05",
    "unknown_type": lambda peer: framed([99, peer.generation]),
    "bad_field": lambda peer: framed([6, peer.generation, 0, 1, ADD]),
    "wrong_generation": lambda peer: deltas(peer, ADD, newer=1),
    "sequence_gap": lambda peer: deltas(peer, ADD, first=7),
    "count_mismatch": lambda peer: deltas(peer, ADD, count=20),
    "unexpected_frame": lambda peer: encode_frame(peer.hello),
    "unknown_kind": lambda peer: deltas(peer, head(9)),
    "record_truncated": lambda peer: deltas(peer, ADD[:20]),
    "nonzero_padding": lambda peer: deltas(peer, ADD[:30] + b"\x00\x01"),
    "bad_state": lambda peer: deltas(peer, head(1, state=77) + ADD[12:]),
    "handle_out_of_range": lambda peer: deltas(peer, head(1, handle=CAPACITY) + ADD[12:]),
    "full_sync_mismatch": lambda peer: encode_frame(SyncEnd(peer.generation, 0, 1, 1)),
}


@pytest.fixture(scope="module")
def machines() -> Iterator[World]:
    """gw-a runs; where gw-b would be sits the hostile peer, and a stranger beside it."""
    with world() as made:
        made.b.namespace.ip("address", "add", f"{STRANGER}/24", "dev", "sync")
        made.a.start()
        made.a.wait_role("primary")
        made.wait_traffic()
        yield made
        assert made.a.process
        assert made.a.process.poll() is None, "the daemon is alive"
        assert "Traceback" not in made.a.log


@pytest.fixture
def peer(machines: World) -> Iterator[HostilePeer]:
    hostile = HostilePeer(machines.b.namespace, SYNC["gw-b"], SYNC["gw-a"])
    yield hostile
    hostile.close()
    machines.a.wait_role("primary")
    machines.wait_traffic()


@pytest.fixture
def following(machines: World, peer: HostilePeer) -> Iterator[HostilePeer]:
    """The daemon believes the hostile peer to be its primary."""
    with peer.primary():
        machines.a.wait_role("backup")
        yield peer


def counted(machines: World, name: str) -> int:
    return int(machines.a.status["counters"].get(name, 0))


@pytest.mark.parametrize("name", AFTER_GREETING)
def test_a_frame_is_rejected_by_name_and_ends_the_stream(
    machines: World, following: HostilePeer, name: str
) -> None:
    before = counted(machines, f"rejected_{name}")
    following.say(
        following.hello, following.begin, AFTER_GREETING[name](following)
    )  # returns when the daemon has closed
    assert machines.a.wait_counter(f"rejected_{name}", before + 1) == before + 1
    assert machines.a.status["role"] == "backup"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("malformed", b"\x00\x00\x00\x01\xc1"),
        ("unknown_protocol", framed([1, 0, "gw-b", 1, 1, bytes(8), 1, bytes(16), 1, 1, 0])),
        ("own_node", framed([1, 1, "gw-a", 1, 9, bytes(8), 1, bytes(16), 1, 1, 0, 1])),
        ("unexpected_frame", encode_frame(SyncBegin(1, 1, 0))),
        ("oversized", struct.pack(">I", FRAME_BYTES_MAX + 1)),
        ("oversized", b"GET / HTTP/1.1\r\n\r\n"),
    ],
)
def test_a_first_frame_that_is_no_greeting_is_rejected(
    machines: World, following: HostilePeer, name: str, first: bytes
) -> None:
    before = counted(machines, f"rejected_{name}")
    following.say(first)
    machines.a.wait_counter(f"rejected_{name}", before + 1)


@pytest.mark.parametrize(
    "cut",
    [GREETING[:3], GREETING[:20], struct.pack(">I", FRAME_BYTES_MAX) + bytes(100_000)],
)
def test_a_stream_that_ends_inside_a_frame_is_forgotten(
    machines: World, following: HostilePeer, cut: bytes
) -> None:
    assert following.say(cut, finish=True) == b""
    following.say(following.hello, following.begin, cut, finish=True)
    reply = following.say(following.hello, following.begin, Resume(following.generation, 1))
    assert reply[4:6] == b"\x9b\x02", "the next stream is answered by HELLO_REPLY"
    assert machines.a.status["role"] == "backup"


def test_a_greeting_that_is_never_finished_ends_with_the_handshake_time(
    machines: World, following: HostilePeer
) -> None:
    assert following.say(GREETING[:10]) == b""  # returns when the daemon has closed


def test_a_greeting_of_an_older_history_or_a_larger_table_is_refused(
    machines: World, following: HostilePeer
) -> None:
    old = framed([1, 1, "gw-b", 9, 0, bytes(8), CAPACITY, bytes(16), 1, 1, 0, 1])
    assert following.say(old) == encode_frame(Refuse("generation"))
    large = framed([1, 1, "gw-b", 9, following.generation, bytes(8), CAPACITY + 1, bytes(16), 1, 1, 0, 1])
    assert following.say(large) == encode_frame(Refuse("capacity"))


def test_a_forged_hand_over_of_an_unproven_table_is_a_promotion_that_says_so(
    machines: World, peer: HostilePeer
) -> None:
    with peer.primary():
        machines.a.wait_role("backup")
        peer.say(peer.hello, peer.begin, Leaving(peer.generation, 0, True))
        until(
            lambda: (machines.a.status.get("certificate") or {}).get("complete") is False, "it has promoted"
        )


def test_a_primary_takes_no_stream(machines: World, peer: HostilePeer) -> None:
    before = counted(machines, "peer_streams_refused")
    for what in (GREETING, os.urandom(50_000), b"\xff" * 9):
        assert peer.say(what) in (encode_frame(Refuse("role")), b"")  # a reset may overtake the answer
        assert machines.talk()
    machines.a.wait_counter("peer_streams_refused", before + 3)


def test_heartbeats_are_rejected_by_name(machines: World, peer: HostilePeer) -> None:
    def backup(**changes: object) -> bytes:
        return peer.next_beat(role=Role.BACKUP, generation=0, **changes)

    valid = backup()
    cases = {
        "malformed": [b"\xc1garbage", b"\x91", b""],
        "oversized": [bytes(513), os.urandom(9000)],
        "non_canonical": [valid + b"\0"],
        "unknown_protocol": [backup(protocol=0)],
        "bad_field": [framed(["x"])[4:], backup(node="a b")],
        "own_node": [backup(node="gw-a")],
        "replayed": [valid, valid, valid],
    }
    before = {name: counted(machines, f"rejected_{name}") for name in cases}
    for name, datagrams in cases.items():
        peer.beat(*datagrams)
        new = len(datagrams) - (name == "replayed")
        machines.a.wait_counter(f"rejected_{name}", before[name] + new)
        assert machines.talk()


def test_a_stranger_is_refused_and_counted(machines: World) -> None:
    stranger = HostilePeer(machines.b.namespace, STRANGER, SYNC["gw-a"])
    with contextlib.closing(stranger):
        streams, datagrams = (
            counted(machines, f"peer_{what}") for what in ("connections_refused", "datagrams_refused")
        )
        assert stranger.say(GREETING) == b""
        stranger.beat(stranger.next_beat(), b"garbage", b"")
        machines.a.wait_counter("peer_connections_refused", streams + 1)
        machines.a.wait_counter("peer_datagrams_refused", datagrams + 3)
    assert machines.a.status["role"] == "primary", "its heartbeat as a primary of higher rank was not heard"
    assert machines.talk()


def test_silent_connections_keep_nobody_out(machines: World, following: HostilePeer) -> None:
    before = counted(machines, "peer_connections_silent")
    with contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(following.connect())
        wrong = counted(machines, "rejected_wrong_generation")
        following.say(following.hello, following.begin, AFTER_GREETING["wrong_generation"](following))
        machines.a.wait_counter("rejected_wrong_generation", wrong + 1)
        machines.a.wait_counter("peer_connections_silent", before + 40)


def test_thousands_of_connects_and_rejections_leave_no_memory_and_no_descriptor(
    machines: World, peer: HostilePeer
) -> None:
    assert machines.a.process
    descriptors = Path(f"/proc/{machines.a.process.pid}/fd")

    def round_of_attacks(connects: int) -> None:
        for _ in range(connects):
            peer.connect().close()
        for _ in range(connects // 20):
            peer.say(struct.pack(">I", FRAME_BYTES_MAX) + bytes(100_000), finish=True)
            peer.beat(os.urandom(400))
        machines.wait_traffic()

    round_of_attacks(200)
    until(lambda: counted(machines, "held_packets_now") == 0, "nothing is held")
    memory, open_before = machines.a.memory_kib, len(list(descriptors.iterdir()))
    round_of_attacks(CONNECTS)
    assert machines.a.memory_kib - memory < GROWTH_KIB_MAX
    until(lambda: len(list(descriptors.iterdir())) <= open_before + 1, "every descriptor was closed")


def test_unfinished_frames_leave_no_memory_on_a_backup(machines: World, following: HostilePeer) -> None:
    unfinished = struct.pack(">I", FRAME_BYTES_MAX) + bytes(FRAME_BYTES_MAX - 1)
    following.say(following.hello, following.begin, unfinished, finish=True)
    memory = machines.a.memory_kib
    for _ in range(30):
        following.say(following.hello, following.begin, unfinished, finish=True)
    assert machines.a.memory_kib - memory < GROWTH_KIB_MAX
