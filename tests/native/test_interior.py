"""What holds for any traffic: no two flows share a public end (N1), no packet vanishes uncounted (N4), there and
back is where it began, and no bytes from anywhere harm the process."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames
from tests.native.engines import (
    CLIENT,
    INSIDE_VIP,
    OUTSIDE_VIP,
    PRIVATE,
    SECOND_NS,
    flows,
    make_engine,
    now_ns,
    send,
)
from tests.native.frames import ACK, FIN, RST, SYN

quick = settings(max_examples=300, deadline=None, derandomize=True)

addresses = st.sampled_from(
    [PRIVATE, "10.0.1.8", CLIENT, OUTSIDE_VIP, INSIDE_VIP, "8.8.8.8", "10.0.1.21", "203.0.113.101"]
)
numbers = st.sampled_from([1, 53, 80, 1024, 1025, 8080, 65535])
payloads = st.binary(max_size=40)
tcp_frames = st.builds(
    frames.tcp,
    addresses,
    numbers,
    addresses,
    numbers,
    st.sampled_from([SYN, ACK, SYN | ACK, FIN | ACK, RST]),
    payloads,
)
udp_frames = st.builds(frames.udp, addresses, numbers, addresses, numbers, payloads, summed=st.booleans())
echo_frames = st.builds(frames.echo, addresses, addresses, numbers, reply=st.booleans(), data=payloads)
flow_frames = st.one_of(tcp_frames, udp_frames, echo_frames)
error_frames = st.builds(
    lambda source, target, quoted, length, kind: frames.error(source, target, quoted[14 : 14 + length], kind=kind),
    addresses, addresses, flow_frames, st.integers(0, 60), st.sampled_from([3, 11, 12]),
)  # fmt: skip
any_frames = st.one_of(flow_frames, error_frames)
sides = st.sampled_from([INSIDE, OUTSIDE])


def accounted(engine: Engine) -> int:
    """Packets of which it is known what became of them."""
    counters = engine.counters()
    dropped = sum(count for name, count in counters.items() if name.startswith("drop_"))
    return (
        counters["sent_packets"]
        + dropped
        + counters["echo_answered"]
        + counters["fail_closed_dropped"]
        + counters["held_packets_now"]
    )


@quick
@given(st.lists(st.tuples(sides, any_frames), max_size=40), st.sampled_from(["none", "ack"]), st.booleans())
def test_no_packet_vanishes_and_no_public_end_is_shared(
    packets: list[tuple[int, bytes]], mode: str, fail_open: bool
) -> None:
    engine, now = make_engine(ports=(1024, 1026), capacity=64, held_packets=8), now_ns()
    engine.set_commit(mode, SECOND_NS, fail_open)
    for index, (side, frame) in enumerate(packets, 1):
        engine.inject(side, frame, now)
        assert engine.counters()["received_packets"] == index == accounted(engine)
        engine.take_sent()
    known = flows(engine)
    assert len({(flow.proto, flow.reply) for flow in known}) == len(known)
    assert not {(f.proto, f.reply) for f in known} & {(f.proto, f.original) for f in known}
    engine.tick(now + 2 * SECOND_NS)
    engine.take_sent()
    assert accounted(engine) == len(packets)
    assert engine.counters()["held_packets_now"] == 0


@quick
@given(st.lists(st.tuples(sides, flow_frames), max_size=30))
def test_every_packet_that_leaves_has_a_way_back(packets: list[tuple[int, bytes]]) -> None:
    engine = make_engine(capacity=64)
    for side, frame in packets:
        before = frames.read(frame)
        engine.inject(side, frame, now_ns())
        for out_side, left in engine.take_sent():
            seen = frames.read(left)
            assert seen.payload == before.payload
            if out_side == side or seen.flags & RST:
                continue
            if seen.protocol == frames.ICMP:
                back = frames.echo(seen.target, seen.source, seen.sport, reply=seen.icmp_type == 8)
                if seen.icmp_type == 0:
                    continue  # an answer is not answered
            elif seen.protocol == frames.TCP:
                back = frames.tcp(seen.target, seen.dport, seen.source, seen.sport, RST, b"back")
            else:
                back = frames.udp(seen.target, seen.dport, seen.source, seen.sport, b"back")
            (returned,) = send(engine, out_side, back)
            if seen.protocol == frames.ICMP:
                assert (returned.source, returned.target) == (before.target, before.source)
                assert returned.sport == before.sport
            else:
                assert returned.ends == (before.target, before.dport, before.source, before.sport)


@quick
@given(
    st.sampled_from([(INSIDE, (PRIVATE, 7, "8.8.8.8", 443)), (OUTSIDE, (CLIENT, 7, OUTSIDE_VIP, 80))]),
    st.sampled_from(["tcp", "udp"]), payloads, st.booleans(), st.integers(0, 40), st.booleans(),
)  # fmt: skip
def test_an_error_comes_back_in_its_senders_words(
    case: tuple[int, tuple[str, int, str, int]], kind: str, data: bytes, reply: bool, cut: int, summed: bool
) -> None:
    """Both directions of SNAT and DNAT: what is quoted is, byte for byte, what its sender sent (but the TTL)."""
    side, ends = case
    make = (
        (lambda *e: frames.tcp(*e, SYN, data))
        if kind == "tcp"
        else (lambda *e: frames.udp(*e, data, summed=summed))
    )
    engine = make_engine()
    frame = make(*ends)
    (sent,) = send(engine, side, frame)
    from_side = side
    if reply:
        answer_ends = sent.target, sent.dport, sent.source, sent.sport
        frame = frames.tcp(*answer_ends, SYN | ACK, data) if kind == "tcp" else make(*answer_ends)
        from_side = OUTSIDE if side == INSIDE else INSIDE
        (sent,) = send(engine, from_side, frame)
    if kind == "tcp" and cut == 9:
        cut = 10  # half a checksum cannot be translated
    quoted = sent.packet[: 28 + min(cut, len(sent.packet) - 28)]
    there = OUTSIDE if from_side == INSIDE else INSIDE
    router = "198.51.100.77" if there == OUTSIDE else "10.0.1.39"
    (error,) = send(engine, there, frames.error(router, sent.source, quoted))
    original = frames.read(frame)
    assert error.target == original.source
    assert error.source == (router if there == OUTSIDE else original.target), "nobody shows a private router"
    assert error.icmp_type == 3
    inner = error.packet[28:]
    assert frames.checksum(inner[:20]) == 0, "the quoted header's checksum"
    assert inner[12:20] == original.packet[12:20]
    assert inner[20:] == original.packet[20 : len(inner)]
    assert engine.counters()["icmp_errors_translated"] == 1


def test_an_error_for_somebody_else_or_with_a_wrong_checksum_is_dropped() -> None:
    engine = make_engine()
    (sent,) = send(engine, INSIDE, frames.udp(PRIVATE, 7, "8.8.8.8", 53))
    error = frames.error("198.51.100.77", OUTSIDE_VIP, sent.packet)
    for wrong in (
        frames.error("198.51.100.77", "203.0.113.101", sent.packet),
        error[:-1] + bytes([error[-1] ^ 1]),
        frames.error("198.51.100.77", OUTSIDE_VIP, frames.udp(OUTSIDE_VIP, 7, "8.8.8.8", 53)[14:]),
    ):
        assert send(engine, OUTSIDE, wrong) == []
    assert send(engine, INSIDE, error) == [], (
        "an inside host may not send it either: the way back is its own side"
    )
    assert engine.counters()["drop_icmp_unrelated"] == 3
    assert len(send(engine, OUTSIDE, error)) == 1


def test_no_error_is_sent_about_an_error() -> None:
    engine = make_engine()
    engine.attach(INSIDE, b"\xaa" * 6, 576)
    (sent,) = send(engine, INSIDE, frames.udp(PRIVATE, 7, "8.8.8.8", 53, b"x" * 400))
    big = frames.ipv4("198.51.100.77", OUTSIDE_VIP, 1, frames.icmp(3, 4, 1280, sent.packet + b"y" * 200))
    assert send(engine, OUTSIDE, frames.ethernet(big)) == []
    assert engine.counters()["fragmentation_needed_sent"] == 0
    assert engine.counters()["drop_too_big"] == 1


@pytest.mark.parametrize("size", [1473, 4000])
def test_fragmentation_needed_quotes_what_its_sender_sent(size: int) -> None:
    engine = make_engine()
    engine.attach(INSIDE, b"\xaa" * 6, 9000)
    frame = frames.udp(PRIVATE, 7, "8.8.8.8", 53, b"x" * size)
    (error,) = send(engine, INSIDE, frame)
    assert (error.source, error.target, error.icmp_type) == ("8.8.8.8", PRIVATE, 3)
    assert error.packet[21] == 4, "fragmentation needed"
    assert int.from_bytes(error.packet[26:28], "big") == 1500
    assert len(error.packet) == 576
    assert error.packet[28:] == frame[14 : 14 + 548]
    assert send(engine, INSIDE, frames.udp(PRIVATE, 7, "8.8.8.8", 53, b"x" * size, fragment=0)) == []
    assert engine.counters()["drop_too_big"] == 2
    assert engine.counters()["fragmentation_needed_sent"] == 1


def test_garbage_never_harms_the_packet_path() -> None:
    chance, engine = random.Random(4711), make_engine(capacity=64, ports=(1024, 1026))
    seeds = [
        frames.tcp(PRIVATE, 7, "8.8.8.8", 443, SYN, b"data"),
        frames.udp(CLIENT, 7, OUTSIDE_VIP, 80, b"data"),
        frames.echo(PRIVATE, "8.8.8.8", 9),
        frames.error(CLIENT, OUTSIDE_VIP, frames.udp(OUTSIDE_VIP, 80, CLIENT, 7)[14:]),
        frames.arp(1, b"\x02abcde", PRIVATE, INSIDE_VIP),
    ]
    for frame in seeds:
        send(engine, OUTSIDE, frame) if frame[12:14] == b"\x08\0" else engine.inject(INSIDE, frame, now_ns())
        for length in range(len(frame)):
            engine.inject(length % 2, frame[:length], now_ns())
    for _ in range(20_000):
        frame = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        engine.inject(
            chance.randrange(2),
            bytes(frame[: chance.randint(0, len(frame))] if chance.random() < 0.3 else frame),
            now_ns(),
        )
    engine.take_sent()
    for _ in range(2_000):
        engine.inject(chance.randrange(2), chance.randbytes(chance.randint(0, 1600)), now_ns())
    engine.tick(now_ns() + 4000 * SECOND_NS)
    engine.set_lease(0)
    engine.inject(0, seeds[0], now_ns())


def test_garbage_never_harms_the_mirror() -> None:
    chance, source, target = (
        random.Random(42),
        make_engine(capacity=64),
        make_engine(capacity=32, armed=False),
    )
    for port in range(1, 20):
        send(source, INSIDE, frames.udp(PRIVATE, port, "8.8.8.8", 53))
        send(source, OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, SYN))
    _, _, records = source.drain()
    for _ in range(20_000):
        mangled = bytearray(records[chance.randrange(len(records)) :][: chance.randint(0, 300)])
        for _ in range(chance.randint(0, 4)):
            if mangled:
                mangled[chance.randrange(len(mangled))] = chance.choice(
                    [0, 1, 2, 3, 4, 8, 255, chance.randrange(256)]
                )
        if chance.random() < 0.5 and mangled:
            mangled[0] = chance.randint(1, 4)
        installed, rejection = target.install(bytes(mangled), now_ns())
        assert rejection is None or rejection.replace("_", "").isalpha()
        assert installed <= len(mangled) // 12
        match chance.randrange(100):
            case 0:
                target.begin_sync()
            case 1:
                target.end_sync()
    listed = flows(target)
    assert len(listed) == target.digest()[0] == target.flow_counts()[0]
    target.begin_sync()
    assert target.end_sync() == len(listed)
    assert target.digest() == (0, 0)
    assert sum(target.backend_flow_counts(0).values()) == 0


def test_flows_that_a_peer_keeps_alive_for_ever_age_out_all_the_same() -> None:
    source, target, now = make_engine(), make_engine(), now_ns()
    send(source, INSIDE, frames.udp(PRIVATE, 1, "8.8.8.8", 53), now)
    records = bytearray(source.drain()[2])
    records += bytes([2, 1, *records[2:10], 0xFF, 0xFF])  # UPDATE: 65,535 seconds
    assert target.install(bytes(records), now) == (2, None)
    target.tick(now + 7439 * SECOND_NS)
    assert target.digest()[0] == 1
    target.tick(now + 7442 * SECOND_NS)
    assert target.digest()[0] == 0
