"""The fast path against the C core: what the program forwards the core would have forwarded, byte by byte the same."""

from __future__ import annotations

import random

import pytest

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.datapath.program_run import run_program
from tests.datapath.twins import CLIENT6, ETHERNET, HOST, SECOND, SERVER, VIP6, Twins
from tests.native import engines, frames, frames6, gateway6
from tests.native.frames import ACK, FIN, PSH, RST, SYN, number
from tests.native.frames6 import tcp6

pytestmark = pytest.mark.e2e


def check_alike(twins: Twins, side: int, frame: bytes) -> None:
    """A hit makes of the frame what the core makes of it."""
    verdict = twins.program(side, frame)
    twins.plain.inject(side, frame, engines.now_ns())
    [(out, expected)] = twins.plain.take_sent()
    assert out != side
    assert verdict.is_hit
    assert verdict.frame[ETHERNET:] == expected[ETHERNET:]


def test_tcp_in_both_directions_is_rewritten_as_the_core_does(twins: Twins) -> None:
    public, server = twins.open_tcp()
    chance = random.Random(1)
    for turn in range(200):
        data = chance.randbytes(chance.choice([0, 1, 7, 100, 1400]))
        check_alike(twins, INSIDE, frames.tcp(HOST, 40000, *server, ACK | PSH * (turn % 2), data))
        check_alike(twins, OUTSIDE, frames.tcp(*server, *public, ACK, data))
    assert twins.count("cache_hits") == 400
    assert twins.count("cache_flows") == 1


def test_datagrams_keep_their_sums_or_their_lack_of_one(twins: Twins) -> None:
    public = twins.open_udp()
    chance = random.Random(2)
    for turn in range(300):
        data = chance.randbytes(chance.randrange(0, 300))
        summed = turn % 3 != 0
        check_alike(twins, INSIDE, frames.udp(HOST, 40001, SERVER, 53, data, summed=summed))
        check_alike(twins, OUTSIDE, frames.udp(SERVER, 53, *public, data, summed=summed))


def test_no_sum_becomes_none_by_accident(twins: Twins) -> None:
    # Every value that 16 bits of payload can give the sum, 0 and 0xffff among them.
    twins.open_udp()
    for value in range(0, 65536, 7):
        check_alike(twins, INSIDE, frames.udp(HOST, 40001, SERVER, 53, value.to_bytes(2, "big")))


def test_balanced_ipv6_is_rewritten_as_the_core_does(twins: Twins) -> None:
    backend = twins.open_tcp6()
    for size in (0, 1, 500, 1420):
        check_alike(twins, OUTSIDE, tcp6(CLIENT6, 50000, VIP6, 80, ACK, b"x" * size))
        check_alike(twins, INSIDE, tcp6(*backend, CLIENT6, 50000, ACK, b"y" * size))


def test_padding_is_cut_off(twins: Twins) -> None:
    twins.open_tcp()
    frame = frames.tcp(HOST, 40000, SERVER, 443, ACK) + b"\0" * 6
    check_alike(twins, INSIDE, frame)


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, PSH])
def test_what_needs_a_decision_goes_up_untouched(twins: Twins, flags: int) -> None:
    twins.open_tcp()
    frame = frames.tcp(HOST, 40000, SERVER, 443, flags)
    verdict = twins.program(INSIDE, frame)
    assert verdict.is_kept
    assert verdict.frame[ETHERNET:] == frame[ETHERNET:]


def odd_packets() -> dict[str, bytes]:
    segment = frames.segment(HOST, 40000, SERVER, 443, ACK, b"data")
    make = frames.ipv4
    return {
        "ttl": frames.ethernet(make(HOST, SERVER, 6, segment, ttl=1)),
        "options": frames.ethernet(make(HOST, SERVER, 6, segment, options=b"\x01" * 4)),
        "first fragment": frames.ethernet(make(HOST, SERVER, 6, segment, fragment=0x2000)),
        "later fragment": frames.ethernet(make(HOST, SERVER, 6, segment, fragment=0x0003)),
        "half a header": frames.ethernet(make(HOST, SERVER, 6, segment[:12])),
        "too long": frames.ethernet(make(HOST, SERVER, 6, segment))[:-2],
        "too big": frames.tcp(HOST, 40000, SERVER, 443, ACK, b"x" * 1461),
        "icmp": frames.ethernet(make(HOST, SERVER, 1, frames.icmp(8, 0, 1))),
        "nobody's": frames.tcp(HOST, 40009, SERVER, 443, ACK),
    }


@pytest.mark.parametrize("name", list(odd_packets()))
def test_odd_packets_go_up_untouched(twins: Twins, name: str) -> None:
    twins.open_tcp()
    frame = odd_packets()[name]
    verdict = twins.program(INSIDE, frame)
    assert verdict.is_kept
    assert verdict.frame[ETHERNET:] == frame[ETHERNET:]
    assert twins.count("cache_hits") == 0


def test_random_frames_are_never_forwarded_as_the_core_would_not(twins: Twins) -> None:
    public, server = twins.open_tcp()
    good = [
        (INSIDE, frames.tcp(HOST, 40000, *server, ACK, b"some data")),
        (OUTSIDE, frames.tcp(*server, *public, ACK, b"other data")),
    ]
    chance, hits = random.Random(3), 0
    for _ in range(3000):
        side, frame = chance.choice(good)
        torn = bytearray(frame)
        for _ in range(chance.randrange(0, 3)):
            torn[chance.randrange(14, len(torn))] = chance.randrange(256)
        # The IP header's own sum is the next router's to check: the core drops what fails it.
        torn[24:26] = b"\0\0"
        torn[24:26] = frames.checksum(bytes(torn[14 : 14 + (torn[14] & 15) * 4])).to_bytes(2, "big")
        verdict = twins.program(side, bytes(torn))
        if not verdict.is_hit:
            assert verdict.frame[ETHERNET:] == bytes(torn)[ETHERNET:]
            continue
        hits += 1
        twins.plain.inject(side, bytes(torn), engines.now_ns())
        [(_, expected)] = twins.plain.take_sent()
        assert verdict.frame[ETHERNET:] == expected[ETHERNET:]
    assert hits > 500


def test_nothing_is_forwarded_without_a_lease_and_nothing_reaches_the_stack(twins: Twins) -> None:
    twins.open_tcp()
    frame = frames.tcp(HOST, 40000, SERVER, 443, ACK)
    assert twins.program(INSIDE, frame).is_hit
    twins.cached.set_lease(engines.now_ns() - 1)
    assert twins.program(INSIDE, frame).is_kept
    twins.cached.set_lease(engines.now_ns() + 3600 * SECOND)
    assert twins.program(INSIDE, frame).is_hit
    twins.cached.disarm()
    assert twins.program(INSIDE, frame).is_kept


def test_a_connection_that_ends_leaves_the_cache(twins: Twins) -> None:
    public, server = twins.open_tcp()
    assert twins.count("cache_flows") == 1
    assert twins.both(INSIDE, frames.tcp(HOST, 40000, *server, FIN | ACK))
    assert twins.count("cache_flows") == 0
    assert twins.program(INSIDE, frames.tcp(HOST, 40000, *server, ACK)).is_kept
    assert twins.program(OUTSIDE, frames.tcp(*server, *public, ACK)).is_kept


def test_a_reset_is_judged_by_what_the_kernel_saw(twins: Twins) -> None:
    """Data that only the kernel forwarded moves the mark by which a reset is believed."""
    _, server = twins.open_tcp()
    sequence = 1
    for _ in range(200):  # 280,000 bytes on: far from where the core saw the connection last
        segment = bytearray(frames.segment(HOST, 40000, *server, ACK, b"x" * 1400))
        segment[4:8] = sequence.to_bytes(4, "big")
        sequence += 1400
        assert twins.program(INSIDE, frames.ethernet(frames.ipv4(HOST, server[0], 6, bytes(segment)))).is_hit
    reset = bytearray(frames.segment(HOST, 40000, *server, RST))
    reset[4:8] = sequence.to_bytes(4, "big")
    twins.cached.inject(
        INSIDE, frames.ethernet(frames.ipv4(HOST, server[0], 6, bytes(reset))), engines.now_ns()
    )
    assert twins.count("tcp_resets_ignored") == 0
    assert twins.count("cache_flows") == 0


def test_routes_that_change_mute_every_entry_until_it_is_written_anew(twins: Twins) -> None:
    twins.open_tcp()
    frame = frames.tcp(HOST, 40000, SERVER, 443, ACK)
    twins.cached.set_routes([(*engines.PRIVATE_NET, INSIDE, 0), (0, 0, OUTSIDE, number("203.0.113.100"))])
    assert twins.program(INSIDE, frame).is_kept
    twins.cached.tick(engines.now_ns())
    assert twins.program(INSIDE, frame).is_hit


def test_what_only_the_kernel_saw_keeps_a_flow_alive_and_is_counted(twins: Twins) -> None:
    twins.open_udp()
    before = twins.count("sent_packets")
    assert twins.program(INSIDE, frames.udp(HOST, 40001, SERVER, 53, b"?")).is_hit
    assert twins.count("sent_packets") == before + 1
    last = engines.now_ns()
    # The datagram's five minutes begin with it, not with what the engine saw: at their end, and not before.
    twins.cached.tick(last + 290 * SECOND)
    assert twins.cached.flow_counts()[0] == 1
    for later in range(301, 420):  # the grace after a takeover is over, too
        twins.cached.tick(last + later * SECOND)
    assert twins.cached.flow_counts()[0] == 0
    assert twins.count("cache_flows") == 0


def test_datagrams_without_an_answer_are_forwarded_one_way(twins: Twins) -> None:
    sent = twins.both(INSIDE, frames.udp(HOST, 40002, SERVER, 514, b"log"))
    assert sent
    public = frames.read(sent)
    for _ in range(10):
        assert twins.both(INSIDE, frames.udp(HOST, 40002, SERVER, 514, b"log"))
    check_alike(twins, INSIDE, frames.udp(HOST, 40002, SERVER, 514, b"more"))
    answer = frames.udp(SERVER, 514, public.source, public.sport, b"ok")
    assert twins.program(OUTSIDE, answer).is_kept
    assert twins.both(OUTSIDE, answer)
    check_alike(twins, OUTSIDE, answer)


def test_a_backup_has_its_flows_in_the_cache_before_it_is_armed(twins: Twins) -> None:
    public, server = twins.open_tcp()
    _, count, records = twins.plain.drain()
    twins.cached.disarm()
    twins.cached.reset(b"another table...")
    assert twins.program(INSIDE, frames.tcp(HOST, 40000, *server, ACK)).is_kept
    twins.cached.begin_sync()
    assert twins.cached.install(records, engines.now_ns()) == (count, None)
    assert twins.count("cache_flows") == 1
    frame = frames.tcp(*server, *public, ACK)
    assert twins.program(OUTSIDE, frame).is_kept
    twins.cached.arm(engines.now_ns(), engines.now_ns() + 3600 * SECOND)
    check_alike(twins, OUTSIDE, frame)


def test_an_uncommitted_flow_is_not_in_the_cache(twins: Twins) -> None:
    twins.cached.set_commit("ack", 3600 * SECOND, False)
    frame = frames.tcp(HOST, 40000, SERVER, 443, SYN)
    twins.cached.inject(INSIDE, frame, engines.now_ns())
    assert twins.cached.take_sent() == []  # it waits for the peer
    for _ in range(20):
        twins.cached.inject(INSIDE, frames.tcp(HOST, 40000, SERVER, 443, ACK), engines.now_ns())
    assert twins.count("cache_flows") == 0


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("198.51.100.9", "203.0.113.5", True),  # a VIP
        ("198.51.100.9", "203.0.113.2", False),  # nobody's
        ("10.0.1.7", "198.51.100.9", True),  # from a private network
        ("198.51.100.9", "10.0.1.9", True),  # to one
        ("10.0.1.7", "10.0.1.2", False),  # to the machine itself
        ("10.0.1.7", "224.0.0.18", False),  # to many
        ("203.0.113.77", "203.0.113.78", False),
    ],
)
def test_whose_a_packet_is(twins: Twins, source: str, target: str, kept: bool) -> None:
    verdict = twins.program(OUTSIDE, frames.udp(source, 9, target, 9, b"x"))
    assert verdict.is_kept is kept
    assert kept or (verdict.code == 0xFFFF_FFFF and verdict.mark == 0)


def test_frames_that_went_to_another_machine_are_nobodys_here(twins: Twins) -> None:
    twins.open_tcp()
    frame = b"\x02\0\0\0\0\x99" + b"\x06" * 6 + frames.tcp(HOST, 40000, SERVER, 443, ACK)[ETHERNET:]
    verdict = run_program(twins.cache.program, twins.interfaces[INSIDE], frame)
    assert verdict.code == 0xFFFF_FFFF
    assert verdict.mark == 0


@pytest.mark.parametrize("down", [True, False], ids=["down", "removed"])
def test_a_backend_that_is_given_up_mutes_its_flows_at_once(twins: Twins, down: bool) -> None:
    """By its gate alone: nothing has looked at the flow since."""
    backend, port = twins.open_tcp6()
    there, back = (
        (OUTSIDE, tcp6(CLIENT6, 50000, VIP6, 80, ACK, b"x")),
        (INSIDE, tcp6(backend, port, CLIENT6, 50000, ACK, b"y")),
    )
    check_alike(twins, *there)
    mine = next(each for each, address in gateway6.BACKENDS6.items() if address == backend)
    publish6(twins.cached, {3 - mine: 0} | ({mine: 2} if down else {}))
    assert twins.program(*there).is_kept
    assert twins.program(*back).is_kept
    assert twins.count("cache_miss_backend") == 2
    twins.cached.inject(*there, engines.now_ns())
    assert bool(twins.cached.take_sent()) is down, "what is down goes on, by the engine"
    assert twins.count("cache_flows") == 0 or not down
    publish6(twins.cached, {1: 0, 2: 0})
    twins.cached.inject(*there, engines.now_ns())
    twins.cached.take_sent()
    check_alike(twins, *there)


def test_flows_of_a_backend_that_drains_go_on_until_they_are_ended(twins: Twins) -> None:
    backend, _ = twins.open_tcp6()
    mine = next(each for each, address in gateway6.BACKENDS6.items() if address == backend)
    there = (OUTSIDE, tcp6(CLIENT6, 50000, VIP6, 80, ACK, b"x"))
    publish6(twins.cached, {3 - mine: 0, mine: 1})
    check_alike(twins, *there)
    assert twins.cached.end_backend_flows(gateway6.WEB6, mine, 0, 0, 1 << 16) == (-1, 1)
    assert twins.program(*there).is_kept
    assert twins.count("cache_flows") == 0


def test_what_the_kernel_forwards_is_counted_with_its_backend(twins: Twins) -> None:
    backend, _ = twins.open_tcp6()
    mine = next(each for each, address in gateway6.BACKENDS6.items() if address == backend)
    before = {row[0]: row for row in twins.cached.backend_counters(gateway6.WEB6)}[mine]
    for _ in range(50):
        check_alike(twins, OUTSIDE, tcp6(CLIENT6, 50000, VIP6, 80, ACK, b"x"))
    for _ in range(900):  # a lap over the table
        twins.cached.tick(engines.now_ns())
    after = {row[0]: row for row in twins.cached.backend_counters(gateway6.WEB6)}[mine]
    assert (after[4] - before[4], after[5] - before[5]) == (50, 50 * (40 + 20 + 1))


def publish6(engine: Engine, states: dict[int, int]) -> None:
    """Backends with their states; those that are not named are not listed."""
    rows = [
        (each, frames6.number6(gateway6.BACKENDS6[each]), 8080, 1, state) for each, state in states.items()
    ]
    members = [(each, 1) for each, state in states.items() if state == 0]
    engine.publish(gateway6.WEB6, rows, BackendTable("maglev", members, 2))
