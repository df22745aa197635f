"""The mapping log's way into a file: whole lines, after a rotation too, and nothing lost while the disk is full."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hasyncd._native import INSIDE
from hasyncd.runtime.mapping_log import MappingLog
from tests.native.frames import udp
from tests.native.nat_gateway import Gateway


def make(path: Path) -> tuple[Gateway, MappingLog, list[str]]:
    gateway, reported = Gateway(), list[str]()
    log = MappingLog(path, gateway.engine, "gw-a", lambda name, _: reported.append(name), destinations=False)
    gateway.engine.set_nat_options(0, log=True)
    return gateway, log, reported


def talk(gateway: Gateway, sport: int) -> None:
    gateway.engine.inject(INSIDE, udp("10.0.1.7", sport, "8.8.8.8", 53, b"x"), gateway.now)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines; the last may be under way."""
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


async def until(log: MappingLog, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            log.write()
            await asyncio.sleep(0.005)


async def test_lines_arrive_and_a_promotion_is_told_before_its_mappings(tmp_path: Path) -> None:
    path = tmp_path / "mappings.jsonl"
    gateway, log, _ = make(path)
    log.tell_promotion(7)
    talk(gateway, 1)
    await until(log, lambda: len(read(path)) == 2)
    first, second = read(path)
    assert (first["event"], first["node"], first["generation"]) == ("primary", "gw-a", 7)
    assert (second["event"], second["inside"]) == ("made", "10.0.1.7:1")
    assert first["time"].endswith("Z")
    assert abs(len(first["time"]) - len(second["time"])) == 0
    assert path.stat().st_mode & 0o777 == 0o640
    await log.close()


async def test_a_file_that_was_renamed_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path, old = tmp_path / "mappings.jsonl", tmp_path / "mappings.jsonl.1"
    gateway, log, _ = make(path)
    talk(gateway, 1)
    await until(log, lambda: len(read(path)) == 1)
    path.rename(old)
    talk(gateway, 2)
    await until(log, lambda: path.exists() and len(read(path)) == 1)
    assert [line["inside"] for line in read(old) + read(path)] == ["10.0.1.7:1", "10.0.1.7:2"]
    await log.close()


async def test_what_the_disk_does_not_take_waits_and_is_said_once(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "mappings.jsonl"
    gateway, log, reported = make(path)
    path.unlink()
    directory.rmdir()
    for sport in (1, 2):
        talk(gateway, sport)
        await until(log, lambda: reported == ["mapping_log_failed"])
        for _ in range(5):
            log.write()
            await asyncio.sleep(0.005)
    directory.mkdir()
    await until(log, lambda: path.exists() and len(read(path)) == 2)
    assert reported == ["mapping_log_failed"]
    await log.close()


async def test_the_end_of_the_daemon_writes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "mappings.jsonl"
    gateway, log, _ = make(path)
    for sport in range(1, 50):
        talk(gateway, sport)
    await log.close()
    assert len(read(path)) == 49


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "nowhere" / "mappings.jsonl")
