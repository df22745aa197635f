"""`hasyncd bench sync` and `commit` on a small scale: every row is there, and what it says can be."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasyncd.bench import commit, conntrackd, drift, full_sync, overhead, wire
from hasyncd.bench.bench_command import NAMES
from hasyncd.bench.cores import on_ends_core
from hasyncd.bench.log_delays import Log
from hasyncd.bench.pair_bed import build_flow_load
from hasyncd.bench.row import Row
from hasyncd.lab.lock import LabLock
from hasyncd.lab.namespaces import LabError

FLOWS = 1 << 14


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_flow_load(tmp_path_factory.mktemp("program"))


@pytest.fixture
def machine() -> Iterator[None]:
    """No other lab is on it."""
    deadline = time.monotonic() + 90
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(LabLock())
                break
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


@pytest.fixture
def lab(machine: None) -> Iterator[None]:
    """And this process keeps off the gateway's core."""
    with on_ends_core():
        yield


def say(_: str) -> None:
    """Nobody listens."""


def by_variant(rows: list[Row], name: str) -> dict[str, Row]:
    assert all(row.name in NAMES for row in rows)
    found = {row.variant: row for row in rows if row.name == name}
    assert all(row.value is not None and row.samples > 0 for row in found.values()), found
    return found


@pytest.mark.e2e
@pytest.mark.usefixtures("lab")
@pytest.mark.timeout(300)
def test_whole_tables_reach_the_backup(program: Path) -> None:
    rows = full_sync.measure({"sync.full", "sync.replicate"}, program, say, flows=FLOWS, rounds=1)
    full, replicate = by_variant(rows, "sync.full"), by_variant(rows, "sync.replicate")
    assert f"{FLOWS:,} flows" in full["idle"].notes
    assert full["live deltas meanwhile"].p99 is not None
    for how in ("from the table", "from the log"):
        assert {f"prepared, {how}{side}" for side in ("", ", gateway's CPU", ", backup's CPU")} <= set(
            replicate
        )
    assert ("not installed" in full[f"idle, {FLOWS:,} flows"].notes) == (conntrackd.program() is None)


@pytest.mark.e2e
@pytest.mark.usefixtures("lab")
@pytest.mark.timeout(300)
def test_records_on_the_wire_have_their_size_and_little_more() -> None:
    rows = wire.measure({"sync.wire_add", "sync.wire_update"}, say, batches=2, ends=False)
    adds, updates = by_variant(rows, "sync.wire_add"), by_variant(rows, "sync.wire_update")
    add, update = adds["batches of 256"], updates["UPDATE, batches of 256"]
    assert add.samples == update.samples == 2 * 256
    assert 32 < (add.value or 0) <= 36
    assert 12 < (update.value or 0) <= 16
    assert (adds["one by one"].value or 0) > 100, "a frame, a TLS record and a segment of its own"


@pytest.mark.e2e
@pytest.mark.usefixtures("lab")
@pytest.mark.timeout(300)
def test_corrupted_memory_is_found_and_repaired(program: Path) -> None:
    rows = by_variant(drift.measure(program, say, flows=FLOWS, rounds=1, scrub_s=1), "sync.drift")
    assert (rows["found"].value or 0) <= (rows["repaired"].value or 0)
    assert f"differed {FLOWS // 1000} of {FLOWS // 1000}" in rows["repaired"].notes
    assert 0 < (rows["sent"].value or 0) < 1


@pytest.mark.e2e
@pytest.mark.usefixtures("machine")
@pytest.mark.timeout(300)
def test_first_packets_arrive_under_every_commit() -> None:
    rows = by_variant(commit.measure(set(), say, rounds=1, packets=20), "commit.ack_delay")
    assert {"none", "emit", "ack"} <= set(rows)
    assert all((row.p99 or 0) >= (row.p50 or 0) > 0 for row in rows.values())


@pytest.mark.e2e
@pytest.mark.usefixtures("lab")
@pytest.mark.timeout(300)
def test_the_cost_of_sync_is_told_beside_none(tmp_path: Path) -> None:
    rows = overhead.measure({"sync.overhead", "sync.replicate"}, tmp_path, say, rounds=1, seconds=0.3)
    told = {row.variant: row for row in rows if row.name == "sync.overhead"}
    for what in ("packets/s", "connections/s", "gateway's CPU a connection"):
        for commit_ in ("ack", "emit"):
            assert (told[f"{what}, {commit_}"].ratio or 0) > 0
        assert (told[f"{what}, conntrackd"].value is None) == (conntrackd.program() is None)
    [acked] = re.findall(r"ack ([\d.]+)%", by_variant(rows, "sync.replicate")["live"].notes)
    assert float(acked) > 99.5, "no flow is kept from the peer"


def test_delays_are_read_from_a_log_as_its_page_describes_it(tmp_path: Path) -> None:
    """proto/last_word.md: sequence s is in entry s modulo the capacity."""
    capacity, size = 4, 80
    head = b"hasynclg" + struct.pack("=5I4I4xQQ", 1, size, capacity, 9, 8, 1, 2, 0, 3, 5, 7)
    entries = {s % capacity: struct.pack("=QB", s * 100, s != 4).ljust(size, b"\0") for s in range(3, 7)}
    file = tmp_path / "lastword"
    file.write_bytes(head.ljust(4096, b"\0") + b"".join(entries[place] for place in range(capacity)))
    log = Log(file)
    assert (log.acknowledged, log.next) == (5, 7)
    assert sorted(log.appended_ns(1, 6)) == [300, 500, 600], "1 and 2 are overwritten, 4 is not at-risk"
    assert log.appended_ns(3, 6, at_risk=False) == [400]
