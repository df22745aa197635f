"""Invariants that the model's traffic does not reach: two nodes that both wrote, bounded ageing, forged resets; and
that README.md names tests for every one.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, OUTSIDE
from tests.native.engines import record_kinds
from tests.native.frames import ACK, FIN, PSH, RST, SYN, tcp, udp
from tests.native.invariants import Row, rows
from tests.native.nat_gateway import PUBLIC, Gateway, nat_rule

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOST, SERVER = "10.0.1.7", "198.51.100.9"
ADD_SIZE = 32


def listed(gateway: Gateway) -> list[Row]:
    return rows(gateway.engine, gateway.now)


def snapshot(gateway: Gateway) -> bytes:
    assert gateway.engine.start_log(gateway.engine.log_state()[2])
    gateway.engine.start_snapshot(b"", False)
    assert gateway.engine.append_snapshot(1 << 20)[1]
    return gateway.engine.drain(1 << 22)[2]


opened = st.lists(st.tuples(st.integers(2, 4), st.integers(1, 4)), min_size=1, max_size=16)


@settings(max_examples=60, deadline=None)
@given(won=opened, lost=opened, order=st.randoms(use_true_random=False))
def test_a_split_pair_merges_to_the_winners_table(
    won: list[tuple[int, int]], lost: list[tuple[int, int]], order: object
) -> None:
    """N9, N12: both nodes gave out ports of one small range; the winner's full sync, its records in any order, leaves
    unique tuples and the winner's flows alone."""
    winner, loser = (Gateway(capacity=64, rules=[nat_rule(first=40000, last=40009)]) for _ in range(2))
    for gateway, flows in ((winner, won), (loser, lost)):
        for host, sport in flows:
            gateway.out(udp(f"10.0.1.{host}", sport, SERVER, 53, b"x"))
    packed = snapshot(winner)
    assert set(record_kinds(packed)) == {1}
    records = [packed[at : at + ADD_SIZE] for at in range(0, len(packed), ADD_SIZE)]
    order.shuffle(records)  # type: ignore[attr-defined]
    loser.engine.begin_sync()
    for record in records:
        assert loser.engine.install(record, loser.now) == (1, None)
        users = Counter(ends for row in listed(loser) for ends in (row.original, row.reply))
        assert max(users.values()) == 1, "N1 at every step"
    loser.engine.end_sync()
    assert loser.engine.digest() == winner.engine.digest()
    assert {row.reply for row in listed(loser)} == {row.reply for row in listed(winner)}
    for row in listed(loser):
        assert loser.back(udp(SERVER, 53, row.reply.dst, row.reply.dport, b"y"))


def test_ageing_is_bounded_work() -> None:
    """C4: 8,192 flows at most end in one tick, and none is forgotten. (What a packet may have to wait for is an eighth
    of that: large_table.c.)"""
    gateway = Gateway(capacity=20_000)
    for number in range(10_000):
        assert gateway.out(udp(f"10.0.{1 + number // 5000}.7", 1 + number % 5000, SERVER, 53, b"x"))
    gateway.now += 400 * 10**9
    aged = [gateway.engine.tick(gateway.now) for _ in range(4)]
    assert max(aged) <= 8192
    assert sum(aged) == 10_000
    assert gateway.flows == 0


def connect(gateway: Gateway) -> int:
    left = gateway.out(tcp(HOST, 1, SERVER, 80, SYN))
    assert left
    assert gateway.back(tcp(SERVER, 80, PUBLIC, left.sport, SYN | ACK))
    assert gateway.out(tcp(HOST, 1, SERVER, 80, ACK))
    return left.sport


@pytest.mark.parametrize("side", [INSIDE, OUTSIDE])
def test_a_forged_reset_cuts_no_connection(side: int) -> None:
    """C5: there is no window tracking, so a RST may be forged. It frees nothing: what both ends send goes on, for as
    long as they do."""
    gateway = Gateway()
    port = connect(gateway)
    forged = tcp(HOST, 1, SERVER, 80, RST) if side == INSIDE else tcp(SERVER, 80, PUBLIC, port, RST)
    assert gateway.send(side, forged)
    for _ in range(5):
        gateway.wait(200)
        assert gateway.out(tcp(HOST, 1, SERVER, 80, PSH | ACK, b"x"))
        assert gateway.back(tcp(SERVER, 80, PUBLIC, port, PSH | ACK, b"y"))
    assert gateway.flows == 1


def test_what_ended_lets_nothing_through_in_either_direction() -> None:
    """N11: the two directions end together."""
    gateway = Gateway()
    port = connect(gateway)
    gateway.wait(7500)
    assert gateway.flows == 0
    for flags in (ACK, FIN | ACK, RST, SYN | ACK):
        assert gateway.out(tcp(HOST, 1, SERVER, 80, flags)) is None
        assert gateway.back(tcp(SERVER, 80, PUBLIC, port, flags)) is None


# --- the table of README.md -----------------------------------------------------------------------------------

NAMED = [
    f"{letter}{n}" for letter, last in (("N", 12), ("C", 7), ("F", 5), ("T", 11)) for n in range(1, last + 1)
]
TOLD = dict(re.findall(r"^\| ([NCFT]\d+) \|[^|]*\|(.*)\|$", (HERE / "README.md").read_text(), re.MULTILINE))
SOURCES = {
    file: file.read_text()
    for folder in (HERE, ROOT / "tests/sim", ROOT / "tests/balance")
    for file in folder.iterdir()
    if file.suffix in (".py", ".c")
}


@pytest.mark.parametrize("invariant", NAMED)
def test_every_invariant_has_its_tests(invariant: str) -> None:
    tests = re.findall(r"`(\w+)`", TOLD[invariant])
    assert tests, f"{invariant} has no test"
    if invariant[0] in "FT":
        assert any(f"_{invariant.lower()}_" in name for name in tests), f"none of them is called {invariant}"
    for name in tests:
        users = [file.name for file, text in SOURCES.items() if re.search(rf"\b{name}\(", text)]
        assert users, f"{invariant}: there is no {name}"
        if name.startswith("check_"):
            calls = sum(len(re.findall(rf"\b{name}\(", text)) for text in SOURCES.values())
            assert calls > 1, f"{invariant}: nobody calls {name}"
