"""A flow table and its delta log as plain dicts: what the C engine promises, in a few lines.

It speaks the packed records of proto/sync.md §3 and keeps the rules of §3.2 (versions), §6 (commit), §7 (suspects) and
§8 (digests). `memory.py` is what changes flows beneath it.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from dataclasses import dataclass, replace

from hasyncd.core.buckets import SLOTS_MIN, bucket_count, slots_of_bucket
from hasyncd.core.types import Findings

ADD, UPDATE, DEL = 1, 2, 3
_HEAD = struct.Struct(">BBBBIHH")
_TUPLES = struct.Struct(">IIHHIHH")
_SIZES = {ADD: 32, UPDATE: 12, DEL: 12}


@dataclass(slots=True)
class Flow:
    key: int
    """Which flow it is; stands for the tuples."""
    state: int
    version: int
    written: int
    """Sequence of its last ADD or UPDATE in our own log; 0 on a mirror."""
    port: int = 0
    """Stands for the reply tuple: no two flows have one. 0: whoever changed the memory gave it none."""
    timeout: int = 0
    """Stands for the moment of its last refresh: never in a digest, and alike on both nodes all the same."""


class Table:
    """One node's table: it writes a log while primary, and installs records while backup."""

    def __init__(self, capacity: int, seed: bytes, log_records: int) -> None:
        self.capacity = capacity
        self.log_records = log_records
        self.seed = seed
        self.flows: dict[int, Flow] = {}
        self._slot_of: dict[int, int] = {}
        self._slot_of_port: dict[int, int] = {}
        self._digest = 0
        self._sums: dict[int, int] = {}
        """Digests as they were written, by 16 slots."""
        self._refreshes = 0
        self.versions: dict[int, int] = {}
        self.log: dict[int, bytes] = {}
        """By sequence."""
        self.oldest = 1
        self.next_to_send = 1
        self.acked = 0
        self.window = 1
        self.sending = False
        self.cursor: int | None = None
        self.snapshotting = False
        """A sync is under way; with `cursor` None all that is missing is on its way to the stream."""
        self.flows_sent = self.refreshed = 0
        """By the cursor."""
        self._refreshes_others = False
        self.held: dict[int, int] = {}
        self.holding = False
        self._started = 1
        self.solo = False
        self.half = 0
        self.told: set[int] = set()
        """Slots whose flows the log spoke of while solo."""
        self.judged: set[tuple[int, int]] = set()
        """(key, port) of offered flows."""
        # The sync in which a slot was last written (mirror).
        self._rounds: dict[int, int] = {}
        self._round = 0
        self._syncing = False
        self._suspects, self._suspect_capacity = b"", capacity
        self.findings = Findings()
        self.scrub_mismatches = 0

    # --- the primary -----------------------------------------------------------------------------

    @property
    def head(self) -> int:
        return self.oldest + len(self.log) - 1

    def open_flow(self, key: int) -> bool:
        """A packet of a new flow came; False when the table is full or the flow is there already."""
        return key not in self._slot_of and self.add_flow(key, self._free_port(key), 1)

    def add_flow(self, key: int, port: int, state: int) -> bool:
        """Nobody has its tuples; False when the table is full."""
        if len(self.flows) >= self.capacity:
            return False
        # Any free slot will do; the key spreads them, so that slots are used again at all distances.
        slot = next(s for k in range(self.capacity) if (s := (key + k) % self.capacity) not in self.flows)
        self.versions[slot] = (self.versions.get(slot, 0) + 1) % 65536
        self._put(slot, Flow(key, state, self.versions[slot], 0, port, self._next_refresh()))
        self._append_add(slot)
        if self.holding:
            self.held[slot] = self.head
        return True

    def _free_port(self, key: int) -> int:
        """Alone, of this node's half while there is one (P20): pairs by turns."""
        count = max(8, self.capacity * 5 // 4)
        free = [p for k in range(count) if (p := (key + k) % count + 2) not in self._slot_of_port]
        own = [port for port in free if not self.solo or port >> 1 & 1 == self.half]
        return (own or free)[0]

    def slot_of_key(self, key: int) -> int | None:
        return self._slot_of.get(key)

    def slot_of_port(self, port: int) -> int | None:
        return self._slot_of_port.get(port)

    def update_flow(self, slot: int) -> None:
        self._set_state(slot, self.flows[slot].state % 9 + 1)
        self.refresh_flow(slot)

    def refresh_flow(self, slot: int) -> None:
        """Its timeout begins anew, and nothing else changes."""
        self.flows[slot].timeout = self._next_refresh()
        self._append_update(slot)

    def _next_refresh(self) -> int:
        self._refreshes = self._refreshes % 65_535 + 1
        return self._refreshes

    def close_flow(self, slot: int) -> None:
        flow = self._take(slot)
        self.held.pop(slot, None)
        self._append(_HEAD.pack(DEL, 0, 0, 0, slot, flow.version, 0))

    def _append_add(self, slot: int) -> None:
        self._append(self.add_of(slot))
        self._note_told(slot)

    def add_of(self, slot: int) -> bytes:
        flow = self.flows[slot]
        head = _HEAD.pack(ADD, flow.state, 0, 0, slot, flow.version, flow.timeout)
        return head + _TUPLES.pack(flow.key, 1, 2, 3, 4, flow.port, 0)

    def _note_told(self, slot: int) -> None:
        self.flows[slot].written = self.head
        if self.solo:
            self.told.add(slot)

    def _append_update(self, slot: int) -> None:
        flow = self.flows[slot]
        self._append(_HEAD.pack(UPDATE, flow.state, 0, 0, slot, flow.version, flow.timeout))
        self._note_told(slot)

    def _append(self, record: bytes) -> None:
        self.log[self.head + 1] = record
        if len(self.log) > self.log_records:
            del self.log[self.oldest]
            self.oldest += 1

    @property
    def overrun(self) -> bool:
        """A record that the connected peer has not acknowledged was overwritten."""
        return self.sending and self.oldest > max(self.acked + 1, self._started)

    @property
    def may_send(self) -> bool:
        """The peer's window is open."""
        return self.next_to_send - 1 - max(self.acked, self._started - 1) < self.window

    @property
    def unacknowledged(self) -> int:
        """Records written since sending began that the peer has not confirmed."""
        return self.head - max(self.acked, self._started - 1)

    def start_snapshot(self, first: int, suspects: bytes, *, refresh: bool) -> bool:
        """Sending begins at `first`, the cursor at the first slot; False when the log does not hold `first`."""
        if not self.rewind(first):
            return False
        self.acked = max(self.acked, first - 1)
        self.cursor = self.flows_sent = self.refreshed = 0
        self._suspects, self._suspect_capacity, self._refreshes_others = suspects, self.capacity, refresh
        self._recount_suspects()
        self.snapshotting = True
        return True

    def rewind(self, sequence: int) -> bool:
        if not self.oldest <= sequence <= self.head + 1:
            return False
        self.next_to_send = self._started = sequence
        self.cursor = None
        self.snapshotting = False
        self.sending = True
        return True

    def stop(self) -> None:
        self.sending = False
        self.cursor = None
        self.snapshotting = False

    def step_cursor(self, count: int) -> None:
        """Appends the records of up to `count` flows: an ADD of one in a suspect bucket, an UPDATE of another."""
        if self.cursor is None:
            return
        slots = sorted(
            slot for slot in self.flows
            if slot >= (self.cursor or 0) and (self._refreshes_others or self._is_suspect(slot))
        )[:count]  # fmt: skip
        for slot in slots:
            if self._is_suspect(slot):
                self._append_add(slot)
                self.flows_sent += 1
            else:
                self._append_update(slot)
                self.refreshed += 1
        self.cursor = slots[-1] + 1 if len(slots) == count else None

    @property
    def drained(self) -> bool:
        """Everything that was written is on the stream."""
        return self.next_to_send > self.head

    def drain(self, records_max: int) -> tuple[int, int, bytes]:
        first = self.next_to_send
        if not self.oldest <= first <= self.head:
            return first, 0, b""
        batch = [self.log[sequence] for sequence in range(first, min(first + records_max, self.head + 1))]
        self.next_to_send = first + len(batch)
        return first, len(batch), b"".join(batch)

    def acknowledge(self, sequence: int) -> None:
        self.acked = max(self.acked, sequence)
        self.held = {slot: added for slot, added in self.held.items() if added > sequence}

    def hold(self, holding: bool) -> None:
        self.holding = holding
        if not holding:
            self.held.clear()

    @property
    def at_risk(self) -> set[int]:
        """Keys of flows with a record that the peer has not confirmed."""
        return {flow.key for flow in self.flows.values() if flow.written > self.acked}

    def committed(self) -> set[int]:
        """Keys of flows whose every record the peer has confirmed."""
        return {flow.key for flow in self.flows.values() if 0 < flow.written <= self.acked}

    # --- the mirror ------------------------------------------------------------------------------

    def reset(self, seed: bytes) -> None:
        self.seed = seed
        self.flows.clear()
        self._slot_of.clear()
        self._slot_of_port.clear()
        self.told.clear()
        self.versions.clear()
        self._digest = 0
        self._sums.clear()

    def begin_sync(self, suspects: bytes, capacity: int) -> None:
        self._round += 1
        self._syncing = True
        self._suspects, self._suspect_capacity = suspects, capacity
        self._recount_suspects()
        self.findings = Findings()

    def end_sync(self) -> None:
        self._syncing = False
        for slot in [slot for slot in self.flows if not self._settled(slot)]:
            self._take(slot)
            self._find(removed=1)

    def _is_suspect(self, slot: int) -> bool:
        if not self._suspects or slot >= self._suspect_capacity:
            return True
        bucket = slot // slots_of_bucket(self._suspect_capacity)
        return bool(self._suspects[bucket // 8] >> bucket % 8 & 1)

    def _settled(self, slot: int) -> bool:
        """proto/sync.md §3.2: written since the last sync began, or of a bucket that was alike then."""
        return self._rounds.get(slot, 0) == self._round or (slot in self.flows and not self._is_suspect(slot))

    def _find(self, **more: int) -> None:
        self.findings = replace(
            self.findings, **{name: getattr(self.findings, name) + count for name, count in more.items()}
        )

    def install(self, records: bytes) -> tuple[int, str | None]:
        installed, offset = 0, 0
        while offset < len(records):
            kind = records[offset]
            if kind not in _SIZES:
                return installed, "unknown_kind"
            record = records[offset : offset + _SIZES[kind]]
            rejection = self._install_one(kind, record)
            if rejection is not None:
                self._recount(_HEAD.unpack_from(record)[4] // SLOTS_MIN)
                return installed, rejection
            installed += 1
            offset += len(record)
        return installed, None

    def _install_one(self, kind: int, record: bytes) -> str | None:
        _, state, _, _, slot, version, timeout = _HEAD.unpack_from(record)
        if slot >= self.capacity:
            return "handle_out_of_range"
        held = self.flows.get(slot)
        if kind == ADD:
            newer = serial(version, self.versions.get(slot, 0))
            # proto/sync.md §3.2: in a full sync the first ADD of a slot is the sender's whole word.
            if self._settled(slot) and slot in self.versions and (newer < 0 or (newer == 0 and not held)):
                return "stale_version"
            key, _, _, _, _, port, _ = _TUPLES.unpack_from(record, _HEAD.size)
            if self._syncing and not self._settled(slot):
                same = held is not None and (held.key, held.port, held.state, held.version) == (
                    key, port, state, version,
                )  # fmt: skip
                self._find(**{"unchanged" if same else "replaced" if held else "added": 1})
            displaced = {slot, self._slot_of.get(key, slot), self._slot_of_port.get(port, slot)}
            for former in displaced & self.flows.keys():
                self._take(former)
            self.versions[slot] = version
            self._put(slot, Flow(key, state, version, 0, port, timeout))
        elif self._syncing and not self._settled(slot):
            return None  # the cursor has not been here: its ADD, if there is one, says it all
        elif held is None or held.version != version:
            return "unknown_handle"
        elif kind == UPDATE:
            self._set_state(slot, state)
            held.timeout = timeout
        else:
            self._take(slot)
        self._rounds[slot] = self._round
        return None

    # --- both ------------------------------------------------------------------------------------

    @property
    def keys(self) -> set[int]:
        return {flow.key for flow in self.flows.values()}

    def digest(self) -> int:
        return self._digest

    def recount(self) -> int:
        """The digest from scratch: independent of order, the sum of a keyed hash of each flow."""
        return sum(self._word(slot, flow) for slot, flow in self.flows.items()) % 2**64

    def scrub(self) -> None:
        """proto/sync.md S8a, the whole table at once."""
        for grain in range(-(-self.capacity // SLOTS_MIN)):
            self._recount(grain)

    def _recount(self, grain: int) -> None:
        """What is kept of these 16 slots becomes what memory holds."""
        slots = range(grain * SLOTS_MIN, (grain + 1) * SLOTS_MIN)
        found = sum(self._word(slot, self.flows[slot]) for slot in slots if slot in self.flows) % 2**64
        kept = self._sums.get(grain, 0)
        self.scrub_mismatches += found != kept
        self._sums[grain], self._digest = found, (self._digest + found - kept) % 2**64

    def _recount_suspects(self) -> None:
        for grain in range(-(-self.capacity // SLOTS_MIN)):
            if self._is_suspect(grain * SLOTS_MIN):
                self._recount(grain)

    def bucket_digests(self, capacity: int) -> bytes:
        slots = slots_of_bucket(capacity)
        digests = [0] * bucket_count(capacity)
        for grain, digest in self._sums.items():
            if grain * SLOTS_MIN < capacity:
                digests[grain * SLOTS_MIN // slots] += digest
        return b"".join((digest % 2**64).to_bytes(8, "big") for digest in digests)

    def compare_buckets(self, digests: bytes) -> bytes:
        """The suspects."""
        own = self.bucket_digests(self.capacity)
        suspects = bytearray(-(-len(own) // 64))
        for bucket in range(len(own) // 8):
            differs = own[8 * bucket : 8 * bucket + 8] != digests[8 * bucket : 8 * bucket + 8]
            suspects[bucket // 8] |= differs << bucket % 8
        return bytes(suspects)

    def _word(self, slot: int, flow: Flow) -> int:
        return _hash(self.seed, slot, flow.key, flow.state, flow.version, flow.port)

    def _put(self, slot: int, flow: Flow) -> None:
        self.flows[slot] = flow
        self._slot_of[flow.key] = slot
        if flow.port:
            self._slot_of_port[flow.port] = slot
        self._account(slot, self._word(slot, flow))

    def _take(self, slot: int) -> Flow:
        flow = self.flows.pop(slot)
        # Memory may have changed beneath the index.
        for key in [key for key in (flow.key,) if self._slot_of.get(key) == slot] or [
            key for key, at in self._slot_of.items() if at == slot
        ]:
            del self._slot_of[key]
        for port in [port for port, at in self._slot_of_port.items() if at == slot]:
            del self._slot_of_port[port]
        self.told.discard(slot)
        self._account(slot, -self._word(slot, flow))
        return flow

    def _set_state(self, slot: int, state: int) -> None:
        flow = self.flows[slot]
        self._account(slot, -self._word(slot, flow))
        flow.state = state
        self._account(slot, self._word(slot, flow))

    def _account(self, slot: int, difference: int) -> None:
        self._digest = (self._digest + difference) % 2**64
        grain = slot // SLOTS_MIN
        self._sums[grain] = (self._sums.get(grain, 0) + difference) % 2**64


def read_add(record: bytes) -> Flow | None:
    """The flow that an ADD describes, whoever's its slot."""
    if len(record) != _SIZES[ADD] or record[0] != ADD:
        return None
    _, state, _, _, _, version, timeout = _HEAD.unpack_from(record)
    key, _, _, _, _, port, _ = _TUPLES.unpack_from(record, _HEAD.size)
    return Flow(key, state, version, 0, port, timeout)


@functools.cache
def _hash(seed: bytes, slot: int, key: int, state: int, version: int, port: int) -> int:
    word = struct.pack(">IQBHH", slot, key, state, version, port)
    return int.from_bytes(hashlib.blake2b(word, key=seed, digest_size=8).digest(), "big")


def serial(newer: int, older: int) -> int:
    """The distance of two versions in the arithmetic of RFC 1982."""
    return (newer - older + 32768) % 65536 - 32768
