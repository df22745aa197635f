"""`sync.drift`: memory of the backup is corrupted beneath the program, as by a broken memory module.

The flows of the running daemon are found through /proc/PID/mem (hasyncd/native/README.md) and one in a thousand has a
bit of its tuple flipped. Nothing tells the backup: its scrub comes by, its digest is another than the primary's, and
the least sync repairs what differs. *Found* counts from the corruption to the first event `drift`, *repaired* to the
last `sync_ready` after which all of them were replaced.
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from hasyncd.bench.pair_bed import PairBed, is_ready
from hasyncd.bench.row import Row
from hasyncd.lab.namespaces import LabError

FLOWS = 1 << 20
ROUNDS = 3
SCRUB_S = 5
"""A whole turn of the scrub; 30 is what nodes have where nothing is said."""
SHARE_MAX = 0.05
_CORRUPTED = 0.001
_FLOW_BYTES, _AT_STATE, _AT_LIVED = 96, 72, 75
_AT_REPLY_PORT = 26
"""The public port, in the reply tuple."""
_PATIENCE_S = 3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Repair:
    """One round: until the first was found, until the last was repaired, the share of the table that was sent."""

    corrupted: int
    replaced: int
    """Of these, by syncs of what differs; others by one of everything."""
    found_s: float
    repaired_s: float
    repairs: int
    share: float


class FlowMemory:
    """The flows of a running daemon whose table is full of flows of `load_flows`."""

    def __init__(self, pid: int, slots: int) -> None:
        """Raises LabError: they are not found."""
        self._path = Path(f"/proc/{pid}/mem")
        # Any flow of ours will do: 10.1.x.x to 198.18.x.x is found by the first bytes of both and the stride.
        self.slots = self._find(slots)

    def flip(self, address: int) -> None:
        """Changes one bit of a flow."""
        with self._path.open("r+b", buffering=0) as memory:
            memory.seek(address + _AT_REPLY_PORT)
            [byte] = memory.read(1)
            memory.seek(address + _AT_REPLY_PORT)
            memory.write(bytes([byte ^ 1]))

    def _find(self, slots: int) -> list[int]:
        """The addresses of all flows, in the one mapping that holds so many."""
        for line in self._path.with_name("maps").read_text().splitlines():
            bounds, rights, *_ = line.split()
            first, last = (int(end, 16) for end in bounds.split("-"))
            if not rights.startswith("rw") or last - first < slots * _FLOW_BYTES:
                continue
            with self._path.open("rb", buffering=0) as memory:
                memory.seek(first)
                held = memory.read(last - first)
            begin = held.find(socket.inet_aton("10.1.0.1")[:2])
            while begin >= 0 and not self._is_flow(held, begin):
                begin = held.find(socket.inet_aton("10.1.0.1")[:2], begin + 1)
            if begin < 0:
                continue
            begin %= _FLOW_BYTES
            found = [
                first + at
                for at in range(begin, len(held) - _FLOW_BYTES + 1, _FLOW_BYTES)
                if self._is_flow(held, at)
            ]
            if len(found) >= slots:
                return found
        raise LabError("the flows were not found in the backup's memory")

    @staticmethod
    def _is_flow(held: bytes, at: int) -> bool:
        source, destination, _, _, proto = struct.unpack_from("=4s4s2s2sB", held, at)
        return (
            source[:2] == b"\x0a\x01"
            and destination[:2] == b"\xc6\x12"
            and proto == socket.IPPROTO_UDP
            and held[at + _AT_LIVED : at + _AT_LIVED + 1] == b"\x01"
            and held[at + _AT_STATE : at + _AT_STATE + 1] in (b"\x01", b"\x02")
        )


def _events(bed: PairBed, name: str, since: float) -> list[tuple[float, str]]:
    """(seconds after `since`, detail) of the events of that name, from what the daemons have logged."""
    found = []
    for line in (bed.directory / "out.log").read_text().splitlines():
        if f'"event": "{name}"' in line:
            told = json.loads(line)
            after = datetime.fromisoformat(told["time"]).timestamp() - since
            found += [(after, str(told.get("detail", "")))] if after >= 0 else []
    return found


def _replaced(detail: str) -> int:
    """Of `17 of 65,536 buckets differed: 1,034 flows replaced, …`."""
    count = re.search(r"([\d,]+) flows replaced", detail)
    return int(count[1].replace(",", "")) if count else 0


def _round(bed: PairBed, memory: FlowMemory, seed: int, patience_s: float) -> _Repair:
    """Corrupts, and waits until every flow was replaced, or until the scrub has come by twice and the tables are proven
    equal: then a sync of everything has done it. Raises LabError."""
    chosen = random.Random(seed).sample(memory.slots, max(1, int(len(memory.slots) * _CORRUPTED)))
    before = bed.await_status("bench-a", is_ready, "was in step")
    since, deadline = time.time(), time.monotonic() + patience_s
    for address in chosen:
        memory.flip(address)
    replaced = 0
    while replaced < len(chosen) and time.monotonic() < deadline:
        time.sleep(0.05)
        replaced = sum(_replaced(detail) for _, detail in _events(bed, "sync_repaired", since))
    drifts = _events(bed, "drift", since)
    if not drifts:
        raise LabError(f"nothing was found:\n{bed.messages()}")
    after = bed.await_status("bench-a", is_ready, "was in step again")
    proofs = _events(bed, "sync_ready", since)
    sent = int(after["sync"]["head"]) - int(before["sync"]["head"])
    return _Repair(
        len(chosen), replaced, drifts[0][0], proofs[-1][0], len(proofs), sent / int(after["flows"]["total"])
    )


def measure(
    program: Path, say: Say, *, flows: int = FLOWS, rounds: int = ROUNDS, scrub_s: int = SCRUB_S
) -> list[Row]:
    """The rows of this file. Raises LabError."""
    capacity = max(1024, flows)
    with PairBed("drift", "ack", capacity=capacity, options=f"scrub_s = {scrub_s}") as bed:
        bed.fill(program, flows, bed.flows)
        bed.await_status("bench-a", lambda status: status["sync"]["at_risk_flows"] == 0, "had all confirmed")
        memory = FlowMemory(bed.pid("bench-b"), flows)
        seen = []
        for turn in range(rounds):
            say(f"sync.drift: {len(memory.slots):,} flows, round {turn + 1} of {rounds}")
            seen.append(_round(bed, memory, turn, _PATIENCE_S + 2 * scrub_s))
    shares = [one.share for one in seen]
    what = f"{seen[0].corrupted:,} of {flows:,} flows corrupted in memory, scrub_s = {scrub_s}"
    return [
        Row(
            "sync.drift", "found", "s", "lower", median(one.found_s for one in seen), "the scrub's turn",
            float(scrub_s), rounds, notes=f"{what}; the first that the scrub meets, then two heartbeats",
        ),
        Row(
            "sync.drift", "repaired", "s", "lower", median(one.repaired_s for one in seen), "the scrub's turn",
            float(scrub_s), rounds,
            notes=f"until the tables are proven equal, in {median(one.repairs for one in seen):.0f} syncs; replaced by "
            f"what differed {median(one.replaced for one in seen):,.0f} of {seen[0].corrupted:,}",
        ),
        Row(
            "sync.drift", "sent", "share of the table", "lower", median(shares), "goal", SHARE_MAX, rounds,
            notes=f"records of every kind, beside the table's flows; {min(shares):.2%} to {max(shares):.2%}",
        ),
    ]  # fmt: skip
