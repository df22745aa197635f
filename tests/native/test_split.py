"""A pair that was split (proto/pair.md §7a): disjoint ports while alone, afterwards the loser's flows at the winner.

`Gateway`s without sockets stand for the two nodes; offers move between them as the stream would carry them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.engines import flows, publish_ring
from tests.native.frames import ACK, PSH, RST, SYN, Seen, tcp, udp
from tests.native.frames6 import number6, read6, tcp6
from tests.native.gateway6 import BACKENDS6, CLIENT, OUTSIDE_VIP6, WEB6
from tests.native.gateway6 import make_engine as make_engine6
from tests.native.nat_gateway import PUBLIC, SECOND, Gateway, nat_rule

SERVER = "8.8.8.8"


def half_of(port: int) -> int:
    return port >> 1 & 1


def split(first: int = 1024, last: int = 65535) -> tuple[Gateway, Gateway]:
    """The lower and the upper half's node, both alone."""
    pair = tuple(Gateway(rules=[nat_rule(first=first, last=last)]) for _ in range(2))
    for upper, gateway in enumerate(pair):
        gateway.engine.set_solo(True, bool(upper))
    return pair[0], pair[1]


def offer(loser: Gateway, bytes_max: int = 65_536) -> list[bytes]:
    """What it offers, in batches."""
    loser.engine.disarm()
    loser.engine.start_offer()
    batches, finished = [], False
    while not finished:
        count, records, finished = loser.engine.next_offer(bytes_max, loser.now)
        assert len(records) <= bytes_max
        if count:
            batches.append(records)
    return batches


def merge(winner: Gateway, batches: list[bytes]) -> dict[str, int]:
    total = [0] * 5
    for records in batches:
        _, findings, rejection = winner.engine.merge(records, winner.now)
        assert rejection is None
        total = [a + b for a, b in zip(total, findings, strict=True)]
    return dict(zip(("known", "merged", "collided", "refused", "closed"), total, strict=True))


# --- ports ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(1, 65_000), width=st.integers(8, 400), parity=st.booleans(), classes=st.booleans(),
    sport=st.integers(1, 60_000), upper=st.booleans(), make=st.sampled_from([tcp, udp]),
)  # fmt: skip
def test_alone_ports_come_of_the_nodes_half_while_it_lasts(
    first: int, width: int, parity: bool, classes: bool, sport: int, upper: bool, make: Callable[..., bytes]
) -> None:
    last = min(first + width, 65_535)
    gateway = Gateway(rules=[nat_rule(first=first, last=last)])
    gateway.engine.set_nat_options(0, preserve_parity=parity, port_classes=classes)
    gateway.engine.set_solo(True, upper)
    taken: list[int] = []
    for host in range(width + 2):
        frame = (
            tcp(f"10.0.{host // 200}.{host % 200 + 7}", sport, SERVER, 53, SYN) if make is tcp
            else udp(f"10.0.{host // 200}.{host % 200 + 7}", sport, SERVER, 53, b"x")
        )  # fmt: skip
        if left := gateway.out(frame):
            taken.append(left.sport)
    assert len(set(taken)) == len(taken)
    own = [half_of(port) == upper for port in taken]
    assert own == sorted(own, reverse=True), "the other half only when nothing of ours is left"
    assert gateway.count("nat_other_half") == own.count(False)
    left = gateway.out(udp("10.0.9.9", sport, SERVER, 53, b"x"))
    assert make is tcp or left is None or left.sport not in taken


@pytest.mark.parametrize("width", [4, 100, 4000])
def test_two_nodes_that_are_alone_never_give_out_one_port_while_their_halves_last(width: int) -> None:
    first, second = split(40_000, 40_000 + width - 1)
    ports: list[set[int]] = []
    for gateway in (first, second):
        seen = [gateway.out(udp("10.0.1.7", n + 1, SERVER, 53, b"x")) for n in range(width // 2)]
        ports.append({left.sport for left in seen if left})
        assert gateway.count("nat_other_half") == 0
    assert len(ports[0]) == len(ports[1]) == width // 2
    assert not ports[0] & ports[1]


def test_rtp_pairs_are_of_one_half() -> None:
    assert all(half_of(port) == half_of(port + 1) for port in range(1024, 65_536, 2))


def test_a_paired_node_has_every_port_again() -> None:
    gateway, _ = split(40_000, 40_099)
    gateway.engine.set_solo(False, False)
    ports = {
        left.sport for n in range(100) if (left := gateway.out(udp("10.0.1.7", n + 1, SERVER, 53, b"x")))
    }
    assert ports == set(range(40_000, 40_100))
    assert gateway.count("nat_other_half") == 0


# --- the offer --------------------------------------------------------------------------------------


def test_what_was_made_alone_is_offered_and_merged_and_its_packets_go_on() -> None:
    winner, loser = split()
    ports = {}
    for n in range(200):
        left = loser.out(tcp(f"10.0.1.{n % 50 + 7}", 1000 + n, SERVER, 443, SYN))
        assert left
        ports[n] = left.sport
    for n in range(100):
        assert winner.out(udp("10.0.1.9", 3000 + n, SERVER, 53, b"x"))
    batches = offer(loser, 1000)
    assert len(batches) > 1
    assert merge(winner, batches) == {"known": 0, "merged": 200, "collided": 0, "refused": 0, "closed": 0}
    assert winner.flows == 300
    for n, port in ports.items():
        answer = winner.back(tcp(SERVER, 443, PUBLIC, port, SYN | ACK))
        assert answer
        assert answer.ends == (SERVER, 443, f"10.0.1.{n % 50 + 7}", 1000 + n)
    assert merge(winner, batches)["known"] == 200, "offered again, after a stream that broke"
    assert winner.flows == 300


def test_merged_flows_are_in_the_winners_log_for_its_backup() -> None:
    winner, loser = split()
    for n in range(20):
        assert loser.out(udp("10.0.1.7", 1000 + n, SERVER, 53, b"x"))
    merge(winner, offer(loser))
    backup = winner.copy()
    assert backup.engine.digest() == winner.engine.digest()
    assert backup.flows == 20


def test_only_what_no_peer_confirmed_or_what_was_used_alone_is_offered() -> None:
    """The rest is the other node's to know of: what it ended meanwhile does not come back."""
    first = Gateway()
    for n in range(3):
        assert first.out(udp("10.0.1.7", 1000 + n, SERVER, 53, b"x"))
    _, count, _ = first.engine.drain()
    first.engine.acknowledge(count)
    assert first.out(udp("10.0.1.7", 2000, SERVER, 53, b"x")), "nobody heard of it"
    first.engine.set_solo(True, False)
    first.wait(100)
    assert first.out(udp("10.0.1.7", 1001, SERVER, 53, b"x")), "in use: it is refreshed"
    assert first.out(udp("10.0.1.7", 2001, SERVER, 53, b"x"))
    winner = Gateway()
    assert merge(winner, offer(first))["merged"] == 3
    assert {flow.original[1] for flow in flows(winner.engine)} == {1001, 2000, 2001}


def test_when_the_offer_is_judged_nothing_is_left_to_be_offered() -> None:
    _, loser = split()
    assert loser.out(udp("10.0.1.7", 1000, SERVER, 53, b"x"))
    assert offer(loser)
    loser.engine.end_offer()
    assert loser.engine.count_at_risk()[0] == 0
    assert not offer(loser)


def test_a_full_table_takes_what_it_has_room_for() -> None:
    winner = Gateway(capacity=16)
    loser = Gateway(capacity=64)
    loser.engine.set_solo(True, True)
    for n in range(10):
        assert winner.out(udp("10.0.1.8", 500 + n, SERVER, 53, b"x"))
        assert loser.out(tcp("10.0.1.7", 1000 + n, SERVER, 443, SYN))
    found = merge(winner, offer(loser))
    assert (found["merged"], found["refused"], found["closed"]) == (6, 4, 4)


@pytest.mark.parametrize(
    ("records", "name"),
    [
        (b"\x02" + bytes(11), "bad_state"),
        (b"\x03" + bytes(11), "unknown_kind"),
        (b"\x09" + bytes(31), "unknown_kind"),
        (b"\x01" + bytes(11), "record_truncated"),
        (b"\x01\x63" + bytes(30), "bad_state"),
    ],
)
def test_an_offer_that_is_none_is_rejected_by_name(records: bytes, name: str) -> None:
    gateway = Gateway()
    assert gateway.engine.merge(records, gateway.now) == (0, (0,) * 5, name)
    assert gateway.count(f"rejected_{name}") == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_whatever_is_offered_harms_nothing(records: bytes) -> None:
    gateway = Gateway(capacity=16)
    gateway.engine.merge(records, gateway.now)
    gateway.engine.merge(b"\x01\x01" + records, gateway.now)
    assert gateway.flows <= 16


# --- collisions -------------------------------------------------------------------------------------


def established(gateway: Gateway, host: str, sport: int) -> Seen:
    """A connection to the server; what the server sees of it."""
    left = gateway.out(tcp(host, sport, SERVER, 443, SYN))
    assert left
    assert gateway.back(tcp(SERVER, 443, PUBLIC, left.sport, SYN | ACK))
    assert gateway.out(tcp(host, sport, SERVER, 443, ACK))
    return left


def reset_of(sent: list[tuple[int, Seen]]) -> Seen:
    ((_, answer),) = sent
    assert answer.flags == RST
    sequence = int.from_bytes(answer.packet[24:28], "big")
    assert sequence == 2, "what the packet acknowledged: exactly what its sender waits for"
    return answer


def test_one_client_by_both_nodes_the_winners_mapping_stays_and_the_others_server_is_told() -> None:
    winner, loser = split()
    stays, goes = established(winner, "10.0.1.7", 1000), established(loser, "10.0.1.7", 1000)
    found = merge(winner, offer(loser))
    assert (found["collided"], found["closed"]) == (1, 1)
    assert winner.back(tcp(SERVER, 443, PUBLIC, stays.sport, ACK | PSH, b"data")), "undisturbed"
    answer = reset_of(winner.send(OUTSIDE, tcp(SERVER, 443, PUBLIC, goes.sport, ACK | PSH, b"data")))
    assert answer.ends == (PUBLIC, goes.sport, SERVER, 443)
    left = winner.out(tcp("10.0.1.7", 1000, SERVER, 443, ACK))
    assert left
    assert left.sport == stays.sport, "the client's packets are the winner's flow's"
    assert winner.count("closed_resets_sent") == 1


def test_one_public_port_by_both_nodes_the_winners_host_keeps_it_and_the_other_host_is_told() -> None:
    winner, loser = split(40_000, 40_000)
    established(winner, "10.0.1.7", 1000)
    established(loser, "10.0.1.8", 2000)
    assert loser.count("nat_other_half") + winner.count("nat_other_half") == 1
    assert merge(winner, offer(loser))["collided"] == 1
    answer = reset_of(winner.send(INSIDE, tcp("10.0.1.8", 2000, SERVER, 443, ACK | PSH, b"data")))
    assert answer.ends == (SERVER, 443, "10.0.1.8", 2000)
    kept = winner.back(tcp(SERVER, 443, PUBLIC, 40_000, ACK | PSH, b"data"))
    assert kept
    assert kept.target == "10.0.1.7", "the server is not told: that connection lives"
    assert winner.out(tcp("10.0.1.8", 2000, "9.9.9.9", 443, ACK)) is None
    assert winner.count("closed_resets_sent") == 1, "nor is a stranger"


def test_what_was_closed_may_begin_anew_and_is_forgotten_in_time() -> None:
    winner, loser = split(40_000, 40_003)
    established(winner, "10.0.1.7", 1000)
    goes = established(loser, "10.0.1.7", 1000)
    assert merge(winner, offer(loser))["closed"] == 1
    from_server = tcp(SERVER, 443, PUBLIC, goes.sport, ACK)
    reset_of(winner.send(OUTSIDE, from_server))
    assert winner.send(OUTSIDE, tcp(SERVER, 443, PUBLIC, goes.sport, RST)) == [], "no reset is answered"
    winner.now += 7500 * SECOND
    assert winner.send(OUTSIDE, from_server) == []


def test_a_datagrams_loser_simply_begins_anew() -> None:
    winner, loser = split()
    assert winner.out(udp("10.0.1.7", 1000, SERVER, 53, b"x"))
    gone = loser.out(udp("10.0.1.7", 1000, SERVER, 53, b"x"))
    assert gone
    found = merge(winner, offer(loser))
    assert (found["collided"], found["closed"]) == (1, 0)
    assert winner.send(OUTSIDE, udp(SERVER, 53, PUBLIC, gone.sport, b"y")) == []


def test_a_flow_that_both_have_is_judged_liberally_from_then_on() -> None:
    winner = Gateway()
    left = established(winner, "10.0.1.7", 1000)
    loser = winner.copy()
    loser.engine.set_lease(1 << 62)
    loser.engine.arm(loser.now)
    loser.engine.set_solo(True, True)
    loser.wait(60)
    assert loser.out(tcp("10.0.1.7", 1000, SERVER, 443, ACK))
    assert merge(winner, offer(loser)) == {"known": 1, "merged": 0, "collided": 0, "refused": 0, "closed": 0}
    assert winner.back(tcp(SERVER, 443, PUBLIC, left.sport, ACK | PSH, b"data"))


def test_ipv6_flows_are_merged_closed_and_reset_alike() -> None:
    """One client, two nodes that chose different backends; and another that only the loser knows."""
    engines = [make_engine6(), make_engine6()]
    for number, engine in enumerate(engines):
        backend = list(BACKENDS6.items())[number]
        publish_ring(engine, WEB6, [(backend[0], number6(backend[1]), 8080, 1)], 2)
        engine.set_solo(True, bool(number))
        engine.inject(OUTSIDE, tcp6(CLIENT, 5000, OUTSIDE_VIP6, 80, SYN), 1)
        engine.take_sent()
    winner, loser = engines
    loser.inject(OUTSIDE, tcp6("2001:db8:2::101", 5001, OUTSIDE_VIP6, 80, SYN), 1)
    loser.take_sent()
    loser.disarm()
    loser.start_offer()
    count, records, finished = loser.next_offer(65_536, 1)
    assert (count, finished) == (2, True)
    assert winner.merge(records, 1) == (2, (0, 1, 1, 0, 1), None)
    other = list(BACKENDS6.values())[1]
    winner.inject(INSIDE, tcp6(other, 8080, CLIENT, 5000, SYN | ACK), 1)
    ((side, frame),) = winner.take_sent()
    answer = read6(frame)
    assert (side, answer.source, answer.target, answer.flags) == (INSIDE, CLIENT, other, RST)
    winner.inject(INSIDE, tcp6(other, 8080, "2001:db8:2::101", 5001, SYN | ACK), 1)
    ((side, frame),) = winner.take_sent()
    assert (side, read6(frame).source) == (OUTSIDE, OUTSIDE_VIP6), "it goes on by the winner"
