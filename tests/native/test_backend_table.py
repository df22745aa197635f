"""What must hold for every backend table; T1 to T8 and F5 are the invariants' names in the literature of this project.

The golden tables at the end pin each mapping: a change of one is a new HS_TABLE_VERSION, and a rolling upgrade in which
both nodes disagree for a while.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import BackendTable

HASHES = 2**32
HASHING = ("consistent-hash", "maglev", "ecmp")
IN_TURN = ("round-robin", "weighted-round-robin")
SLOTS = {"maglev": 65537, "ecmp": 65536}
IDS = st.integers(0, 2**32 - 1)
WEIGHTS = st.integers(1, 100)
Members = dict[int, int]


def members(low: int = 1, high: int = 12) -> st.SearchStrategy[Members]:
    return st.dictionaries(IDS, WEIGHTS, min_size=low, max_size=high)


def table(algorithm: str, of: Members, generation: int = 1) -> BackendTable:
    return BackendTable(
        algorithm, list(of.items()), generation, 16 if algorithm == "consistent-hash" else 160
    )


def keys_moved(
    before: BackendTable, after: BackendTable, count: int = 2000
) -> set[tuple[int | None, int | None]]:
    """(before, after) of the keys that moved, of so many spread evenly."""
    pairs = ((before.find(key), after.find(key)) for key in range(0, HASHES, HASHES // count))
    return {pair for pair in pairs if pair[0] != pair[1]}


@pytest.mark.parametrize("algorithm", HASHING)
@settings(max_examples=25, deadline=None)
@given(of=members(), random=st.randoms(use_true_random=False))
def test_t1_order_repetition_and_history_change_nothing(algorithm: str, of: Members, random: object) -> None:
    first = table(algorithm, of)
    shuffled = list(of.items()) + list(of.items())[:3]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = BackendTable(algorithm, shuffled, 9, 16 if algorithm == "consistent-hash" else 160)
    assert again.digest == first.digest
    assert again.slots() == first.slots()
    assert [vnode[:3] for vnode in again.ring()] == [vnode[:3] for vnode in first.ring()]


@pytest.mark.parametrize("algorithm", HASHING)
@settings(max_examples=25, deadline=None)
@given(of=members(0, 6), idle=st.sets(IDS, max_size=3))
def test_t2_every_key_has_an_owner_of_weight(algorithm: str, of: Members, idle: set[int]) -> None:
    built = table(algorithm, dict.fromkeys(idle, 0) | of)
    shares = built.shares()
    assert [server for server, _, _ in shares] == sorted(of)
    assert sum(keys for _, _, keys in shares) == (HASHES if of else 0)
    assert built.find(0) in of or (not of and built.find(0) is None)
    if len(of) == 1:
        assert shares[0][2] == HASHES


@settings(max_examples=20, deadline=None)
@given(ids=st.sets(IDS, min_size=1, max_size=60), weight=WEIGHTS)
def test_t3_maglev_gives_equal_members_equal_shares(ids: set[int], weight: int) -> None:
    slots = Counter(table("maglev", dict.fromkeys(ids, weight)).slots())
    assert set(slots.values()) <= {65537 // len(ids), 65537 // len(ids) + 1}


@settings(max_examples=40, deadline=None)
@given(of=st.dictionaries(IDS, st.integers(1, 5000), min_size=1, max_size=30))
def test_t4_maglev_weights_mean_what_they_say(of: Members) -> None:
    built = table("maglev", of)
    slots, total = Counter(built.slots()), sum(of.values())
    for server, weight in of.items():
        wanted = 65537 * weight / total
        assert abs(slots[server] - wanted) <= max(1, len(of) * weight / total) + 1, (server, weight)
    assert built.slots() == table("maglev", {server: weight * 7 for server, weight in of.items()}).slots()


@settings(max_examples=10, deadline=None)
@given(of=st.dictionaries(IDS, st.integers(1, 20), min_size=2, max_size=8))
def test_t4_rendezvous_weights_mean_what_they_say(of: Members) -> None:
    """Each bucket is one draw: within five standard deviations."""
    total = sum(of.values())
    for server, weight, keys in table("ecmp", of).shares():
        wanted = weight / total
        assert abs(keys / HASHES - wanted) < 5 * (wanted * (1 - wanted) / 65536) ** 0.5 + 1e-4, server


@pytest.mark.parametrize("algorithm", ["consistent-hash", "ecmp"])
@settings(max_examples=25, deadline=None)
@given(of=members(2), data=st.data())
def test_t5_what_moves_moves_from_or_to_the_one_that_changed(
    algorithm: str, of: Members, data: st.DataObject
) -> None:
    one = data.draw(st.sampled_from(sorted(of)))
    before = table(algorithm, of)
    owned = {server: keys for server, _, keys in before.shares()}
    without = table(algorithm, {server: weight for server, weight in of.items() if server != one})
    assert {was for was, _ in keys_moved(before, without)} <= {one}
    assert before.moved(without) == without.moved(before) == owned[one], "the least that can be moved"
    heavier = table(algorithm, of | {one: of[one] + 5})
    assert {now for _, now in keys_moved(before, heavier)} <= {one}
    assert {was for was, _ in keys_moved(heavier, before)} <= {one}


@pytest.mark.parametrize(
    ("count", "extra"), [(3, 0.009), (5, 0.009), (10, 0.005), (32, 0.0065), (100, 0.0065)]
)
def test_t6_maglev_moves_little_more_than_it_must(count: int, extra: float) -> None:
    of = {server * 7919: 1 for server in range(1, count + 1)}
    before = table("maglev", of)
    for removed in list(of)[:3]:
        after = table("maglev", {server: weight for server, weight in of.items() if server != removed})
        owned = next(keys for server, _, keys in before.shares() if server == removed)
        assert owned <= before.moved(after) <= owned + extra * 1.5 * HASHES


def test_t6_of_two_members_all_keys_of_the_one_that_leaves_move_and_no_others() -> None:
    before = table("maglev", {1: 1, 2: 1})
    owned = next(keys for server, _, keys in before.shares() if server == 2)
    assert before.moved(table("maglev", {1: 1})) == owned


@settings(max_examples=25, deadline=None)
@given(of=members())
def test_t7_the_arcs_of_a_ring(of: Members) -> None:
    built = table("consistent-hash", of)
    ring = built.ring()
    points = [point for point, *_ in ring]
    assert points == sorted(points)
    assert len(ring) == 16 * sum(of.values())
    for point, server, *_ in ring[:50]:
        same = min(other for at, other, *_ in ring if at == point)
        assert built.find(point) == same, "a key on a point is the point's; of equal ones the lowest id's"
        assert server >= same
    assert built.find(HASHES - 1) == (ring[0][1] if points[-1] < HASHES - 1 else ring[-1][1])
    for (low, *_), (high, *_) in pairwise(ring[:50]):
        if high > low:
            assert built.find(low + 1) == built.find(high)


def test_moved_counts_every_key_exactly() -> None:
    """Against the keys themselves, on borders and beside them."""
    before, after = table("maglev", {1: 1, 2: 3}), table("maglev", {1: 1, 2: 3, 3: 2})
    slots = list(zip(before.slots(), after.slots(), strict=True))
    share = sum(was != now for was, now in slots) / len(slots)
    assert before.moved(after) / HASHES == pytest.approx(share, abs=1e-6)
    nothing = table("maglev", {})
    assert before.moved(before) == 0
    assert before.moved(nothing) == nothing.moved(before) == HASHES
    assert nothing.moved(nothing) == 0


@pytest.mark.parametrize("algorithm", IN_TURN)
def test_tables_that_go_in_turn_own_no_keys(algorithm: str) -> None:
    built = table(algorithm, {1: 1, 2: 3})
    assert built.shares() == [(1, 1, 0), (2, 3, 0)]
    assert built.find(7) is None
    assert built.digest != table(algorithm, {1: 1, 2: 4}).digest


@pytest.mark.parametrize(
    ("algorithm", "of", "message"),
    [
        ("hash", [], "no such algorithm"),
        ("maglev", [(1, 1), (1, 2)], "two weights"),
        ("consistent-hash", [(i, 65535) for i in range(1024)], "more vnodes"),
    ],
)
def test_what_makes_no_table_is_an_error(algorithm: str, of: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BackendTable(algorithm, of, 1)


def test_a_ring_without_vnodes_is_none() -> None:
    with pytest.raises(ValueError, match="vnodes"):
        BackendTable("consistent-hash", [(1, 1)], 1, 0)


GOLDEN_MEMBERS = {1: 1, 2: 1, 3: 2, 40: 10, 4_000_000_000: 3}
GOLDEN: dict[str, tuple[int, str]] = {
    "consistent-hash": (0xE81735D554CB3C59, "f36fd1d47074ffe7"),
    "maglev": (0x9D6DC5518D03DCB1, "ee4e318e25f1f63b"),
    "ecmp": (0x541CF32031DE9CC7, "6833f7a8e472a9d4"),
    "round-robin": (0x653F9B31DA6BFEC7, "4fe7b59af6de3b66"),
    "weighted-round-robin": (0x6A646B20974312C2, "4fe7b59af6de3b66"),
}


@pytest.mark.parametrize("algorithm", [*HASHING, *IN_TURN])
def test_golden_tables(algorithm: str) -> None:
    built = BackendTable(algorithm, list(GOLDEN_MEMBERS.items()), 1)
    found = [built.find(key) or 0 for key in range(0, HASHES, HASHES // 4096)]
    seen = hashlib.sha256(b"".join(server.to_bytes(4, "big") for server in found)).hexdigest()[:16]
    assert (built.digest, seen) == GOLDEN[algorithm]
