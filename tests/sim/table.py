"""A flow table and its delta log as plain dicts: what the C engine promises, in a few lines.

It speaks the packed records of proto/sync.md §3 and keeps the rules of §3.2 (versions), §6 (commit) and §8 (digest).
"""

from __future__ import annotations

import functools
import hashlib
import struct
from dataclasses import dataclass

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


class Table:
    """One node's table: it writes a log while primary, and installs records while backup."""

    def __init__(self, capacity: int, seed: bytes, log_records: int) -> None:
        self.capacity = capacity
        self.log_records = log_records
        self.seed = seed
        self.flows: dict[int, Flow] = {}
        self._slot_of: dict[int, int] = {}
        self._digest = 0
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
        """A full sync is under way; with `cursor` None all that is missing is on its way to the stream."""
        self.held: dict[int, int] = {}
        self.holding = False
        self._started = 1
        # The full sync in which a slot was last written (mirror).
        self._rounds: dict[int, int] = {}
        self._round = 0
        self._syncing = False

    # --- the primary -----------------------------------------------------------------------------

    @property
    def head(self) -> int:
        return self.oldest + len(self.log) - 1

    def open_flow(self, key: int) -> bool:
        """A packet of a new flow came; False when the table is full or the flow is there already."""
        if len(self.flows) >= self.capacity or key in self._slot_of:
            return False
        # Any free slot will do; the key spreads them, so that slots are used again at all distances.
        slot = next(s for k in range(self.capacity) if (s := (key + k) % self.capacity) not in self.flows)
        self.versions[slot] = (self.versions.get(slot, 0) + 1) % 65536
        self._put(slot, Flow(key, 1, self.versions[slot], 0))
        self._append_add(slot)
        if self.holding:
            self.held[slot] = self.head
        return True

    def update_flow(self, slot: int) -> None:
        flow = self.flows[slot]
        self._set_state(flow, flow.state % 9 + 1)
        self._append(_HEAD.pack(UPDATE, flow.state, 0, 0, slot, flow.version, 60))
        flow.written = self.head

    def close_flow(self, slot: int) -> None:
        flow = self._take(slot)
        self.held.pop(slot, None)
        self._append(_HEAD.pack(DEL, 0, 0, 0, slot, flow.version, 0))

    def _append_add(self, slot: int) -> None:
        flow = self.flows[slot]
        head = _HEAD.pack(ADD, flow.state, 0, 0, slot, flow.version, 60)
        self._append(head + _TUPLES.pack(flow.key, 1, 2, 3, 4, 5, 0))
        flow.written = self.head

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

    def start_log(self) -> None:
        """What was not sent is forgotten; the cursor begins at the first slot."""
        self.next_to_send = self._started = self.head + 1
        self.acked = self.head
        self.cursor = 0
        self.snapshotting = True
        self.sending = True

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
        """Appends the ADDs of up to `count` live flows."""
        if self.cursor is None:
            return
        slots = sorted(slot for slot in self.flows if slot >= (self.cursor or 0))[:count]
        for slot in slots:
            self._append_add(slot)
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
        self.versions.clear()
        self._digest = 0

    def begin_sync(self) -> None:
        self._round += 1
        self._syncing = True

    def end_sync(self) -> None:
        self._syncing = False
        for slot in [slot for slot in self.flows if not self._settled(slot)]:
            self._take(slot)

    def _settled(self, slot: int) -> bool:
        """Written since the last full sync began."""
        return self._rounds.get(slot, 0) == self._round

    def install(self, records: bytes) -> tuple[int, str | None]:
        installed, offset = 0, 0
        while offset < len(records):
            kind = records[offset]
            if kind not in _SIZES:
                return installed, "unknown_kind"
            record = records[offset : offset + _SIZES[kind]]
            rejection = self._install_one(kind, record)
            if rejection is not None:
                return installed, rejection
            installed += 1
            offset += len(record)
        return installed, None

    def _install_one(self, kind: int, record: bytes) -> str | None:
        _, state, _, _, slot, version, _ = _HEAD.unpack_from(record)
        held = self.flows.get(slot)
        if kind == ADD:
            newer = serial(version, self.versions.get(slot, 0))
            # proto/sync.md §3.2: in a full sync the first ADD of a slot is the sender's whole word.
            if self._settled(slot) and slot in self.versions and (newer < 0 or (newer == 0 and not held)):
                return "stale_version"
            key = _TUPLES.unpack_from(record, _HEAD.size)[0]
            for former in {slot, self._slot_of.get(key, slot)} & self.flows.keys():
                self._take(former)
            self.versions[slot] = version
            self._put(slot, Flow(key, state, version, 0))
        elif self._syncing and not self._settled(slot):
            return None  # the cursor has not been here: its ADD, if there is one, says it all
        elif held is None or held.version != version:
            return "unknown_handle"
        elif kind == UPDATE:
            self._set_state(held, state)
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
        return sum(self._word(flow) for flow in self.flows.values()) % 2**64

    def _word(self, flow: Flow) -> int:
        return _hash(self.seed, flow.key, flow.state, flow.version)

    def _put(self, slot: int, flow: Flow) -> None:
        self.flows[slot] = flow
        self._slot_of[flow.key] = slot
        self._digest = (self._digest + self._word(flow)) % 2**64

    def _take(self, slot: int) -> Flow:
        flow = self.flows.pop(slot)
        del self._slot_of[flow.key]
        self._digest = (self._digest - self._word(flow)) % 2**64
        return flow

    def _set_state(self, flow: Flow, state: int) -> None:
        self._digest = (self._digest - self._word(flow)) % 2**64
        flow.state = state
        self._digest = (self._digest + self._word(flow)) % 2**64


@functools.cache
def _hash(seed: bytes, key: int, state: int, version: int) -> int:
    word = struct.pack(">QBH", key, state, version)
    return int.from_bytes(hashlib.blake2b(word, key=seed, digest_size=8).digest(), "big")


def serial(newer: int, older: int) -> int:
    """The distance of two versions in the arithmetic of RFC 1982."""
    return (newer - older + 32768) % 65536 - 32768
