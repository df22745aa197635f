"""Syncs that send what differs and nothing else, whatever made the tables differ (proto/sync.md §7, §8)."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from collections.abc import Iterator
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd._native import INSIDE, Engine
from tests.native import frames
from tests.native.engines import (
    PRIVATE,
    SECOND_NS,
    SEED,
    arm,
    at_risk,
    bare_engine,
    flows,
    make_engine,
    now_ns,
)
from tests.native.least_sync import (
    ADD,
    AT_STATE,
    AT_VERSION,
    REPLIED,
    UNREPLIED,
    UPDATE,
    Memory,
    Sync,
    add,
    install,
    short,
)

DEL = 3
LARGE = 4096 if "HASYNCD_NATIVE_SO" in os.environ else 65_536


def pair(capacity: int) -> tuple[Engine, Engine]:
    return bare_engine(capacity=capacity), bare_engine(capacity=capacity)


def fill(engine: Engine, slots: range) -> None:
    install(engine, b"".join(add(slot) for slot in slots))


def scrub(engine: Engine) -> None:
    """One pass over the whole table."""
    engine.set_scrub(1)
    passes, at_ns = engine.counters()["scrub_passes"], now_ns()
    while engine.counters()["scrub_passes"] == passes:
        engine.tick(at_ns := at_ns + SECOND_NS // 100)
    engine.set_scrub(0)


def in_step(capacity: int, count: int) -> tuple[Engine, Engine, Memory]:
    """A primary, a backup that has all of its flows, and the backup's memory."""
    primary, backup = pair(capacity)
    fill(backup, range(count))
    memory = Memory(backup, add(count - 1))
    fill(primary, range(count))
    arm(primary)
    assert primary.digest() == backup.digest()
    return primary, backup, memory


def test_a_table_behind_a_hole_is_found() -> None:
    """What was one mapping when it was listed may have lost a part when it is read."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    first = libc.mmap(
        None, 4 * page, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    wanted = Memory.tuples(add(3))
    flow = bytearray(96)
    flow[: len(wanted)], flow[AT_STATE], flow[75] = wanted, 1, 1
    ctypes.memmove(first + 3 * page, bytes(flow), len(flow))
    assert libc.munmap(first + page, page) == 0
    try:
        assert Memory._places_within(wanted, first, first + 4 * page) == {first + 3 * page}
    finally:
        libc.munmap(first, page)
        libc.munmap(first + 2 * page, 2 * page)


# --- drift ------------------------------------------------------------------------------------------------


def test_corrupted_flows_of_a_large_mirror_are_found_and_they_alone_are_sent() -> None:
    primary, backup, memory = in_step(LARGE, LARGE - 1000)
    chance = random.Random(1)
    broken = chance.sample(range(LARGE - 1000), LARGE // 600)
    for slot in broken:
        memory.flip(
            slot, chance.choice([*range(12), *range(16, 28), AT_STATE, AT_VERSION]), chance.randrange(8)
        )
    assert backup.digest() == primary.digest(), "what was kept knows nothing of it"
    scrub(backup)
    assert backup.counters()["scrub_mismatches"] == len({slot // 16 for slot in broken})
    assert backup.digest() != primary.digest()
    sync = Sync.begin(primary, backup, capacity=LARGE, next_sequence=1)
    assert sync.suspected == len({slot // 16 for slot in broken})
    assert sync.move()
    sync.end()
    added, replaced, removed, unchanged = sync.findings
    assert (replaced, added - removed) == (len(broken), 0)
    assert sync.kinds == {ADD: replaced + unchanged}
    assert sync.kinds.total() < 0.05 * primary.digest()[0]
    assert flows(backup) == flows(primary)
    scrub(backup)
    assert backup.counters()["scrub_mismatches"] == len({slot // 16 for slot in broken}), "memory says so too"
    assert backup.bucket_digests(LARGE) == primary.bucket_digests(LARGE)


def test_a_record_that_meets_corrupted_memory_makes_its_bucket_suspect_at_once() -> None:
    primary, backup, memory = in_step(256, 200)
    memory.flip(77, AT_VERSION)
    update = short(UPDATE, 77, state=REPLIED, timeout_s=60)
    assert backup.install(update, now_ns()) == (0, "unknown_handle")
    sync = Sync.begin(primary, backup, capacity=256)
    assert sync.suspects == bytes([1 << 77 // 16, 0])
    assert sync.move()
    sync.end()
    assert sync.findings == (0, 1, 0, 15)
    assert flows(backup) == flows(primary)


def test_a_full_sync_heals_corrupted_memory_too_with_no_scrub_before() -> None:
    primary, backup, memory = in_step(256, 200)
    for slot, offset in ((3, 0), (20, 5), (21, AT_STATE), (22, AT_VERSION), (100, 24)):
        memory.flip(slot, offset)
    assert primary.start_log(primary.log_state()[2])
    primary.start_snapshot(b"", False)
    backup.begin_sync()
    while not primary.append_snapshot(7)[1]:
        install(backup, primary.drain()[2])
    install(backup, primary.drain()[2])
    assert backup.end_sync() == 0
    assert backup.sync_findings() == (0, 5, 0, 195)
    assert backup.digest() == primary.digest()
    assert flows(backup) == flows(primary)


def test_the_primarys_own_memory_is_what_is_copied_but_for_what_nobody_could_be_told() -> None:
    primary, backup = pair(256)
    fill(primary, range(200))
    memory = Memory(primary, add(199))
    fill(backup, range(200))
    arm(primary)
    memory.flip(10, AT_STATE, 0)
    memory.flip(10, AT_STATE, 1)  # unreplied becomes replied: wrong, and a flow
    memory.write(50, AT_STATE, b"\x63")  # no such state
    memory.flip(51, 16)  # the reply comes from elsewhere than the original went to
    scrub(primary)
    counters = primary.counters()
    assert counters["scrub_mismatches"] == 2
    assert counters["corrupt_flows_ended"] == 2
    sync = Sync.begin(primary, backup, capacity=256, next_sequence=1)
    assert sync.move()
    sync.end()
    assert sync.findings == (0, 1, 2, 29)
    assert flows(backup) == flows(primary)
    assert len(flows(primary)) == 198


def test_a_scrub_of_sound_memory_finds_nothing() -> None:
    primary, backup, _ = in_step(LARGE, LARGE)
    for engine in (primary, backup):
        scrub(engine)
        assert engine.counters()["scrub_mismatches"] == 0
    assert primary.digest() == backup.digest()


# --- syncs that break, generations, versions --------------------------------------------------------------


def test_a_sync_that_broke_in_the_middle_sends_only_the_rest() -> None:
    primary, backup = pair(LARGE)
    fill(primary, range(LARGE))
    arm(primary)
    first = Sync.begin(primary, backup, capacity=LARGE)
    assert not first.move(records_max=100, bites=LARGE * 3 // 4 // 100)
    had = backup.digest()[0]
    assert LARGE // 2 < had < LARGE
    again = Sync.begin(primary, backup, capacity=LARGE)
    assert again.move()
    again.end()
    assert again.kinds[ADD] <= LARGE - had + 16
    assert again.kinds[UPDATE] == LARGE - again.kinds[ADD]
    assert flows(backup) == flows(primary)


def test_another_generation_with_equal_tables_refreshes_timeouts_and_adds_nothing() -> None:
    primary, backup = pair(1000)
    for engine, timeout_s in ((primary, 300), (backup, 7)):
        install(engine, b"".join(add(slot, timeout_s=timeout_s) for slot in range(0, 1000, 3)))
    arm(primary)
    sync = Sync.begin(primary, backup, capacity=1000)
    assert sync.suspected == 0
    assert sync.move(records_max=10)
    sync.end()
    assert sync.kinds == {UPDATE: 334}
    assert sync.findings == (0, 0, 0, 0)
    _, rows = backup.list_flows(0, 1000, now_ns())
    assert all(290 <= int(str(row[10])) <= 300 for row in rows)


def test_what_was_at_risk_is_safe_after_a_sync_that_skipped_its_records() -> None:
    """The backup has the flow, but nobody confirmed it, and its ADD is not sent again: an UPDATE stands for it."""
    primary, backup = make_engine(capacity=64), make_engine(capacity=64, armed=False)
    primary.inject(INSIDE, frames.udp(PRIVATE, 5000, "8.8.8.8", 53), now_ns())
    install(backup, primary.drain()[2])
    assert primary.count_at_risk()[0] == len(at_risk(primary)) == 1
    sync = Sync.begin(primary, backup, capacity=64)
    assert primary.count_at_risk()[0] == 1
    assert sync.move()
    sync.end()
    assert sync.kinds == {UPDATE: 1}
    assert primary.count_at_risk() == (0, 0)
    assert not at_risk(primary)


def test_a_new_flow_in_an_empty_slot_of_a_sound_bucket_is_taken_whatever_the_slot_remembers() -> None:
    primary, backup = pair(64)
    install(backup, add(5, version=40) + short(DEL, 5, version=40))
    install(backup, add(6))
    install(primary, add(6))
    sync = Sync.begin(primary, backup, capacity=64)
    assert sync.suspected == 0
    install(backup, add(5, version=2))
    assert backup.install(add(5, version=1), now_ns()) == (0, "stale_version"), "it is settled now"
    backup.end_sync()
    install(backup, short(DEL, 5, version=2) + add(5, version=3) + short(DEL, 5, version=3))
    assert backup.install(add(5, version=3), now_ns()) == (0, "stale_version")


def test_a_flow_beyond_the_primarys_slots_goes() -> None:
    primary, backup = bare_engine(capacity=40), bare_engine(capacity=1000)
    for slot in (3, 39):
        install(primary, add(slot))
        install(backup, add(slot))
    install(backup, add(41) + add(47) + add(900))
    sync = Sync.begin(primary, backup, capacity=40)
    assert sync.move()
    sync.end()
    assert sync.findings == (0, 0, 3, 1)
    assert flows(backup) == flows(primary)


def test_two_flows_in_each_others_slots_are_a_difference() -> None:
    primary, backup = pair(64)
    install(primary, add(3, host=1) + add(4, host=2))
    install(backup, add(3, host=2) + add(4, host=1))
    sync = Sync.begin(primary, backup, capacity=64)
    assert sync.suspected == 1
    assert sync.move()
    sync.end()
    install(backup, short(DEL, 3))
    install(primary, short(DEL, 3))
    assert flows(backup) == flows(primary)


# --- every order ------------------------------------------------------------------------------------------


def interleavings(live: list[str]) -> Iterator[list[str]]:
    """Live changes in their order, the cursor's bites anywhere between them."""
    for places in sorted(set(permutations("c" * 4 + "l" * len(live)))):
        order = iter(live)
        yield [next(order) if place == "l" else "cursor" for place in places]


HELD = [(1, 1), (2, 5), (17, 1), (18, 2), (40, 1)]
LIVES = [
    ["update 1", "delete 2"],
    ["delete 17", "open 17"],
    ["open 3", "delete 3", "open 3"],
    ["delete 40", "open 40", "delete 40"],
    ["update 18", "delete 18", "open 19"],
]
MIRRORS = {
    "empty": b"",
    "the same": b"".join(add(slot, version) for slot, version in HELD),
    "other states": b"".join(add(slot, version, state=REPLIED) for slot, version in HELD[1:3])
    + add(40)
    + add(1),
    "older and newer lives": add(2, 4) + add(17, 9) + short(DEL, 17, 9) + add(18, 3) + add(41, 7),
    "swapped": add(1, host=17) + add(17, host=1) + add(2, 5) + add(18, 2) + add(40),
    "others' flows": b"".join(add(slot, 1, host=slot + 1) for slot in range(15, 45)),
}


def change(engine: Engine, what: str, versions: dict[int, int]) -> bytes:
    """The primary changes its table, as `install` lets us have it; the record goes to the backup."""
    verb, slot = what.split()[0], int(what.split()[1])
    version = versions.get(slot, 0) + (verb == "open")
    versions[slot] = version
    record = {
        "open": add(slot, version),
        "update": short(UPDATE, slot, version, state=REPLIED, timeout_s=60),
        "delete": short(DEL, slot, version),
    }[verb]
    install(engine, record)
    return record


@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("live", LIVES, ids=" ".join)
def test_every_order_of_cursor_and_changes_ends_in_the_same_tables(mirror: str, live: list[str]) -> None:
    for order in interleavings(live):
        primary, backup = pair(64)
        install(primary, MIRRORS["the same"])
        install(backup, MIRRORS[mirror])
        versions = dict(HELD)
        sync = Sync.begin(primary, backup, capacity=64)
        for step in order:
            if step == "cursor":
                sync.move(records_max=2, bites=1)
            else:
                install(backup, change(primary, step, versions))
        assert sync.move(records_max=2)
        sync.end()
        assert flows(backup) == flows(primary), order


@given(st.data())
@settings(max_examples=40 if "HASYNCD_NATIVE_SO" in os.environ else 200, deadline=None, derandomize=True)
def test_any_tables_become_equal_and_only_what_differs_is_sent(data: st.DataObject) -> None:
    capacity = data.draw(st.sampled_from([7, 64, 200]))
    content = st.dictionaries(
        st.integers(0, capacity - 1),
        st.tuples(st.integers(1, 3), st.sampled_from([UNREPLIED, REPLIED]), st.integers(0, capacity)),
        max_size=40,
    )
    held, other = data.draw(content), data.draw(content)
    mirrored = {**held, **other} if data.draw(st.booleans()) else other
    engines = pair(capacity)
    for engine, table in zip(engines, (held, mirrored), strict=True):
        for slot, (version, state, host) in table.items():
            install(engine, add(slot, version, state=state, host=host))  # the same host twice: the first goes
    primary, backup = engines
    before = [engine.bucket_digests(capacity) for engine in engines]
    differing = sum(before[0][i : i + 8] != before[1][i : i + 8] for i in range(0, len(before[0]), 8))
    sync = Sync.begin(primary, backup, capacity=capacity)
    assert sync.suspected == differing
    assert sync.move(records_max=data.draw(st.integers(1, 9)))
    sync.end()
    assert flows(backup) == flows(primary)
    assert sync.kinds.total() == len(flows(primary))
    assert sync.kinds[ADD] <= 16 * differing
    assert backup.bucket_digests(capacity) == primary.bucket_digests(capacity)


# --- hostile arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 16, 17, 1000])
def test_digests_and_suspects_of_another_length_are_refused(capacity: int) -> None:
    engine = Engine(capacity=capacity, seed=SEED)
    buckets = -(-capacity // 16)
    assert engine.bucket_digests(capacity) == bytes(8 * buckets)
    for length in {0, 1, 8 * buckets - 1, 8 * buckets + 1, 8 * buckets + 8, 1 << 20}:
        with pytest.raises(ValueError, match="a digest for each"):
            engine.compare_buckets(bytes(length))
    size = (buckets + 7) // 8
    for suspects in {b"\0" * (size + 1), b"\0" * (size - 1) if size > 1 else b"\0\0", b"\xff" * 9000}:
        for call in (
            lambda s=suspects: engine.start_snapshot(s, False),
            lambda s=suspects: engine.begin_sync(s),
        ):
            with pytest.raises(ValueError, match="suspects"):
                call()
    if buckets % 8:
        with pytest.raises(ValueError, match="suspects"):
            engine.begin_sync(b"\0" * (size - 1) + bytes([1 << buckets % 8]))
    for wrong in (0, capacity + 1, 1 << 40, (1 << 32) + 1):
        with pytest.raises(ValueError, match="a capacity of 1 to"):
            engine.bucket_digests(wrong)
        with pytest.raises(ValueError, match="a capacity of 1 to"):
            engine.begin_sync(b"", wrong)
    with pytest.raises((OverflowError, ValueError)):
        engine.begin_sync(b"", -1)
    with pytest.raises(TypeError):
        engine.begin_sync(b"", "1")  # type: ignore[arg-type]
    assert engine.digest() == (0, 0)


def test_the_cursor_passes_over_a_bounded_number_of_slots_in_one_bite() -> None:
    engine = Engine(capacity=1 << 20, seed=SEED, log_records=1024)
    install(engine, add((1 << 20) - 1))
    engine.start_snapshot(b"", False)
    bites = 0
    while not engine.append_snapshot(1024)[1]:
        bites += 1
    assert bites == 3
    assert engine.drain()[1] == 1
