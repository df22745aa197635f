"""`sync.drift`: memory of the backup is corrupted beneath the program, as by a broken memory module.

The flows of the running daemon are found through /proc/PID/mem (hasyncd/native/README.md) and one in a thousand has a
bit of its tuple flipped. Nothing tells the backup: its scrub comes by, its digest is another than the primary's, and
the least sync repairs what differs. *Found* counts from the corruption to the event `drift`, *repaired* to
`sync_repaired`.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Callable
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
_PATIENCE_S = 60
Say = Callable[[str], None]


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
                for at in range(begin, len(held) - _FLOW_BYTES, _FLOW_BYTES)
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


def _event(bed: PairBed, name: str, since: float) -> dict[str, str] | None:
    """The first event of that name after `since`, from what the daemons have logged."""
    for line in (bed.directory / "out.log").read_text().splitlines():
        if f'"{name}"' not in line:
            continue
        told: dict[str, str] = json.loads(line)
        if told["event"] == name and datetime.fromisoformat(told["time"]).timestamp() >= since:
            return told
    return None


def _await_event(bed: PairBed, name: str, since: float) -> tuple[float, str]:
    """(seconds after `since`, detail). Raises LabError."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        told = _event(bed, name, since)
        if told is not None:
            return datetime.fromisoformat(told["time"]).timestamp() - since, told.get("detail", "")
        time.sleep(0.05)
    raise LabError(f"no event {name} within {_PATIENCE_S} s")


def _round(bed: PairBed, memory: FlowMemory, seed: int) -> tuple[float, float, float, str]:
    """(seconds until found, until repaired, share of the table that was sent, what was told)."""
    chosen = random.Random(seed).sample(memory.slots, max(1, int(len(memory.slots) * _CORRUPTED)))
    before = bed.status("bench-a")
    since = time.time()
    for address in chosen:
        memory.flip(address)
    found_s, _ = _await_event(bed, "drift", since)
    repaired_s, detail = _await_event(bed, "sync_repaired", since)
    after = bed.await_status("bench-a", is_ready, "was in step again")
    if before is None:
        raise LabError("the gateway does not answer")
    sent = int(after["sync"]["head"]) - int(before["sync"]["head"])
    return found_s, repaired_s, sent / int(after["flows"]["total"]), detail


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
            seen.append(_round(bed, memory, turn))
    found, repaired, shares, details = zip(*seen, strict=True)
    what = f"{_CORRUPTED:.1%} of {flows:,} flows corrupted in memory"
    return [
        Row(
            "sync.drift", "found", "s", "lower", median(found), "the scrub's turn", float(scrub_s), rounds,
            notes=f"{what}, scrub_s = {scrub_s}; the first is met in a fraction of the turn, then two heartbeats",
        ),
        Row(
            "sync.drift", "repaired", "s", "lower", median(repaired), samples=rounds,
            notes=f"from the corruption until the tables are proven equal again; last round: {details[-1]}",
        ),
        Row(
            "sync.drift", "sent", "share of the table", "lower", median(shares), "goal", SHARE_MAX, rounds,
            notes=f"records of every kind beside the table's flows; {min(shares):.2%} to {max(shares):.2%}",
        ),
    ]  # fmt: skip
