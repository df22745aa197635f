"""A sync between two engines as proto/sync.md §7 has it, without core and shell; and memory written to unasked."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hasyncd._native import Engine
from tests.native.engines import now_ns, record_kinds

FLOW_BYTES = 96
"""sizeof(struct hs_flow), core/flow_table.h: both tuples come first."""
AT_EXPIRES, AT_STATE, AT_VERSION = 32, 72, 76
ADD, UPDATE = 1, 2
UDP, BOTH_SEEN, UNREPLIED, REPLIED = 4, 2, 1, 2


def add(
    slot: int, version: int = 1, *, state: int = UNREPLIED, host: int | None = None, timeout_s: int = 60
) -> bytes:
    """The ADD of an untranslated UDP flow; `host` makes its tuple (the slot, where nothing is said)."""
    source = 0x0A00_0000 + (slot if host is None else host)
    return struct.pack(
        ">BBBBIHHIIHHIHH",
        ADD,
        state,
        UDP,
        0,
        slot,
        version,
        timeout_s,
        source,
        0x0808_0808,
        5000,
        53,
        source,
        5000,
        0,
    )


def short(kind: int, slot: int, version: int = 1, *, state: int = 0, timeout_s: int = 0) -> bytes:
    """An UPDATE or a DEL."""
    return struct.pack(">BBBBIHH", kind, state, UDP if kind == UPDATE else 0, 0, slot, version, timeout_s)


def install(engine: Engine, records: bytes) -> None:
    engine_said = engine.install(records, now_ns())
    assert engine_said == (len(record_kinds(records)), None)


@dataclass
class Sync:
    """One sync, from the comparison to its end."""

    primary: Engine
    backup: Engine
    kinds: Counter[int]
    suspects: bytes
    findings: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def begin(
        cls, primary: Engine, backup: Engine, *, capacity: int, next_sequence: int | None = None
    ) -> Sync:
        """`next_sequence` where history goes on; else what lies between is skipped and the rest refreshed."""
        suspects, sequence, _ = primary.compare_buckets(backup.bucket_digests(capacity))
        if next_sequence is None:
            assert primary.start_log(sequence + 1)
        else:
            assert primary.rewind(next_sequence)
            primary.acknowledge(next_sequence - 1)
        primary.start_snapshot(suspects, next_sequence is None)
        backup.begin_sync(suspects, capacity)
        return cls(primary, backup, Counter(), suspects)

    @property
    def suspected(self) -> int:
        return sum(byte.bit_count() for byte in self.suspects)

    def move(self, records_max: int = 1024, bites: int | None = None) -> bool:
        """Moves the cursor and installs what it says, until it is through (True) or for so many bites."""
        while bites is None or bites > 0:
            _, finished = self.primary.append_snapshot(records_max)
            self.deliver()
            if finished:
                return True
            if bites is not None:
                bites -= 1
        return False

    def deliver(self) -> None:
        while (drained := self.primary.drain())[1]:
            first, count, records = drained
            self.kinds.update(record_kinds(records))
            install(self.backup, records)
            self.primary.acknowledge(first + count - 1)

    def end(self) -> None:
        self.backup.end_sync()
        self.findings = self.backup.sync_findings()
        assert self.backup.digest() == self.primary.digest()


_MAPPING_MAX = 1 << 36
"""Bytes; what is longer is a sanitizer's shadow."""
_READ_BYTES = 1 << 24
_SEARCHES = 3
_TOLD_S = 4321
"""A timeout that nobody else has."""


class Memory:
    """The flows of one engine of this process, found and written as a broken memory module would."""

    def __init__(self, engine: Engine, record: bytes) -> None:
        """`record`: the ADD of a flow that the engine holds, unarmed.

        Copies of its table lie elsewhere too: engines that are gone, what a sanitizer keeps, what we read ourselves.
        Only the engine's own follows when it is told another timeout.
        """
        slot, version, timeout_s = struct.unpack(">IHH", record[4:12])
        # What a sanitizer maps and unmaps while we read can hide the table once, not again and again.
        for _ in range(_SEARCHES):
            candidates, moment = self.places(self.tuples(record)), now_ns()
            for told_s in (_TOLD_S, timeout_s):
                update = short(UPDATE, slot, version, state=record[1], timeout_s=told_s)
                assert engine.install(update, moment) == (1, None)
                expires = struct.pack("=Q", moment // 1_000_000 + told_s * 1000)
                candidates = {at for at in candidates if self._read(at + AT_EXPIRES, 8) == expires}
            if candidates:
                break
        [first] = candidates
        self._first = first - slot * FLOW_BYTES

    @staticmethod
    def tuples(record: bytes) -> bytes:
        """Both tuples of an `add`, as they lie in memory."""
        there = record[12:24] + b"\x11\0\0\0"
        return there + record[16:20] + record[12:16] + record[22:24] + record[20:22] + b"\x11\0\0\0"

    @classmethod
    def places(cls, wanted: bytes) -> set[int]:
        """Where in the process a live flow has these tuples, or seems to."""
        found: set[int] = set()
        for line in Path("/proc/self/maps").read_text().splitlines():
            bounds, rights, *_ = line.split()
            first, last = (int(end, 16) for end in bounds.split("-"))
            if not rights.startswith("rw") or "[v" in line or last - first > _MAPPING_MAX:
                continue
            for start in range(first, last, _READ_BYTES):
                found |= cls._places_within(wanted, start, min(start + _READ_BYTES + FLOW_BYTES, last))
        return found

    @classmethod
    def _places_within(cls, wanted: bytes, first: int, last: int) -> set[int]:
        found: set[int] = set()
        held = cls._read_what_is_there(first, last)
        at = held.find(wanted)
        while at >= 0:
            lived, state = held[at + 75 : at + 76], held[at + AT_STATE : at + AT_STATE + 1]
            if lived == b"\x01" and state in (b"\x01", b"\x02"):
                found.add(first + at)
            at = held.find(wanted, at + 1)
        return found

    @classmethod
    def _read_what_is_there(cls, first: int, last: int) -> bytes:
        """Zeros for pages that are gone. Mappings that touch are one line of /proc/self/maps, and a sanitizer gives
        back what was freed long ago whenever it is asked for more (by our own reading, too): then a hole lies before
        the table, in what was one mapping when it was listed."""
        held = bytearray(last - first)
        at = first
        while at < last:
            try:
                part = cls._read(at, last - at)
            except OSError:
                part = b""
            held[at - first : at - first + len(part)] = part
            at += len(part)
            if at < last:
                at = (at // mmap.PAGESIZE + 1) * mmap.PAGESIZE
        return bytes(held)

    @staticmethod
    def _read(at: int, length: int) -> bytes:
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.seek(at)
            return memory.read(length)

    def write(self, slot: int, offset: int, value: bytes) -> None:
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(self._first + slot * FLOW_BYTES + offset)
            assert memory.write(value) == len(value)

    def flip(self, slot: int, offset: int, bit: int = 0) -> None:
        [old] = self._read(self._first + slot * FLOW_BYTES + offset, 1)
        self.write(slot, offset, bytes([old ^ 1 << bit]))
