"""Bytes to messages and back: canonical msgpack, proto/README.md and proto/sync.md §4.

1. A decoder returns a message or raises `Rejected` with a name from proto/sync.md §9; nothing else leaves it.
2. What does not encode again to the same bytes is `non_canonical`: one value, one form.
3. Memory is bounded: a frame's length is judged before its body is kept, and one unfinished frame is held.

Order of judgement: malformed, non_canonical, unknown_type, unknown_protocol, bad_field, count_mismatch.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

import msgpack

from hasyncd.core.buckets import BUCKETS_MAX, DIGEST_BYTES
from hasyncd.core.members import MEMBER_BYTES, MEMBERS_MAX, MemberWord, decode_members, encode_members
from hasyncd.core.messages import (
    FITNESS_FULL,
    HEARD_NEVER,
    PROTOCOL,
    Deltas,
    Frame,
    Heartbeat,
    Hello,
    HelloReply,
    Leaving,
    Members,
    Offer,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.types import Role

FRAME_BYTES_MAX = 1_048_576
HEARTBEAT_BYTES_MAX = 512
RECORD_BYTES_MIN = 12
RECORD_BYTES_MAX = 68
REFUSALS = frozenset({"generation", "capacity", "protocol", "role", "features"})

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1

_LENGTH = struct.Struct(">I")
_NODE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_ROLES = (Role.INIT, Role.BACKUP, Role.PRIMARY, Role.FAULT)
_FLAG_LEAVING, _FLAG_READY, _FLAG_SOLO = 1, 2, 4
_HEARS_SHIFT, _FLAGS_MAX = 3, 0b111111
_RINGS = 19


class Rejected(Exception):
    """Bytes from the peer that are no message; `name` is from proto/sync.md §9 or pair.md §5."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


# --- encoding ------------------------------------------------------------------------------------


def encode_frame(frame: Frame) -> bytes:
    """The whole frame, length prefix included."""
    body: bytes = msgpack.packb(_frame_fields(frame), use_bin_type=True)
    return _LENGTH.pack(len(body)) + body


def _frame_fields(frame: Frame) -> list[object]:
    match frame:
        case Hello():
            return [1, frame.protocol, frame.node, frame.boot_id, frame.generation, frame.config_hash,
                    frame.capacity, frame.seed, frame.log_next, frame.protocol_min, frame.features,
                    frame.resume_from]  # fmt: skip
        case HelloReply():
            return [2, frame.protocol, frame.node, frame.boot_id, frame.generation, frame.log_boot_id,
                    frame.installed, frame.synced, frame.features, frame.window, frame.digests]  # fmt: skip
        case Refuse():
            return [3, frame.reason]
        case Resume():
            return [4, frame.generation, frame.next]
        case SyncBegin():
            return [5, frame.generation, frame.next, frame.flow_count, frame.suspects]
        case Deltas():
            return [6, frame.generation, frame.first, frame.count, frame.records]
        case SyncEnd():
            return [7, frame.generation, frame.sequence, frame.flow_count, frame.digest]
        case Leaving():
            return [8, frame.generation, frame.sequence, frame.handover]
        case Offer():
            return [9, frame.generation, frame.count, frame.records]
        case Members():
            return [10, frame.generation, frame.service, frame.ring_generation, encode_members(frame.members)]


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """One datagram. Ring generations that would not fit into the limit are left away from the end."""
    flags = beat.leaving * _FLAG_LEAVING + beat.ready * _FLAG_READY + beat.solo * _FLAG_SOLO
    flags += beat.hears << _HEARS_SHIFT
    fields: list[object] = [
        beat.protocol, beat.node, beat.boot_id, beat.counter, _ROLES.index(beat.role), beat.generation,
        beat.priority, flags, beat.sent_ns, beat.echo_boot_id, beat.echo_sent_ns, beat.heard_ms,
        beat.ack_boot_id, beat.ack_sequence, beat.head_sequence, beat.flow_count, beat.digest_sequence,
        beat.digest, beat.config_hash, list(beat.ring_generations), min(beat.at_risk, U32_MAX),
        min(beat.at_risk_oldest_ms, U32_MAX),
    ]  # fmt: skip
    if beat.protocol >= 2:
        fields += [beat.fitness, int(beat.young)]
    if beat.protocol >= 3:
        fields.append(beat.tables)
    payload: bytes = msgpack.packb(fields, use_bin_type=True)
    while len(payload) > HEARTBEAT_BYTES_MAX:
        rings = fields[_RINGS]
        assert isinstance(rings, list), "the list of ring generations"
        assert rings, "without rings a heartbeat is at most 3 + 66 + 18 x 9 + 14 bytes"
        excess = len(payload) - HEARTBEAT_BYTES_MAX
        del rings[-max(1, excess // 5) :]
        payload = msgpack.packb(fields, use_bin_type=True)
    return payload


# --- decoding ------------------------------------------------------------------------------------


class FrameReader:
    """Cuts a byte stream into frame bodies, whatever the chunks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def unfinished(self) -> bool:
        """The rest of a frame is still to come."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields every body that `data` completes; raises `Rejected` (`oversized`)."""
        self._buffer += data
        offset = 0
        try:
            while len(self._buffer) - offset >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, offset)
                if not 1 <= length <= FRAME_BYTES_MAX:
                    raise Rejected("oversized")
                end = offset + _LENGTH.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(memoryview(self._buffer)[offset + _LENGTH.size : end])
                offset = end
                yield body
        finally:
            del self._buffer[:offset]


def decode_frame(body: bytes) -> Frame:
    """One frame's body (without its length). Raises `Rejected`."""
    fields = _unpack(body)
    kind = fields[0] if fields else None
    decoder = _FRAME_DECODERS.get(kind) if type(kind) is int else None
    if decoder is None:
        raise Rejected("unknown_type")
    return decoder(_Fields(fields[1:]))


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """One datagram. Raises `Rejected`."""
    if len(payload) > HEARTBEAT_BYTES_MAX:
        raise Rejected("oversized")
    f = _Fields(_unpack(payload))
    protocol = f.protocol()
    node = f.node()
    boot_id, counter = f.integer(), f.integer()
    role = _ROLES[f.integer(len(_ROLES) - 1)]
    generation, priority = f.integer(), f.integer()
    flags = f.integer(_FLAGS_MAX)
    beat = Heartbeat(
        protocol, node, boot_id, counter, role, generation, priority,
        bool(flags & _FLAG_LEAVING), bool(flags & _FLAG_READY), bool(flags & _FLAG_SOLO),
        f.integer(), f.integer(), f.integer(), f.integer(HEARD_NEVER),
        f.integer(), f.integer(), f.integer(), f.integer(), f.integer(), f.integer(),
        f.binary(8), f.integers(U32_MAX), f.integer(U32_MAX), f.integer(U32_MAX), flags >> _HEARS_SHIFT,
        f.integer(FITNESS_FULL) if protocol >= 2 else FITNESS_FULL, protocol >= 2 and bool(f.integer(1)),
        f.integer() if protocol >= 3 else 0,
    )  # fmt: skip
    f.end_of_version(protocol)
    return beat


def _unpack(data: bytes) -> list[object]:
    """A msgpack array in canonical form. Raises `Rejected`: malformed, non_canonical."""
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=256,
            max_map_len=0,
            max_str_len=1024,
            max_bin_len=FRAME_BYTES_MAX,
            max_ext_len=0,
        )
    except msgpack.ExtraData:
        # A complete value and something after it: it would not encode again to these bytes.
        raise Rejected("non_canonical") from None
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError, OverflowError):
        raise Rejected("malformed") from None
    if not isinstance(value, list):
        raise Rejected("malformed")
    try:
        again = msgpack.packb(value, use_bin_type=True)
    except (ValueError, TypeError, OverflowError):
        raise Rejected("non_canonical") from None
    if again != data:
        raise Rejected("non_canonical")
    return value


class _Fields:
    """The fields of one array, taken in order; whatever is not as promised is `bad_field`."""

    def __init__(self, values: list[object]) -> None:
        self._values = values
        self._next = 0

    def _take(self) -> object:
        if self._next >= len(self._values):
            raise Rejected("bad_field")
        value = self._values[self._next]
        self._next += 1
        return value

    def end(self) -> None:
        if self._next != len(self._values):
            raise Rejected("bad_field")

    def protocol(self, maximum: int = U64_MAX) -> int:
        """Judged first: the fields of a version that there is not are not ours to judge."""
        value = self._take()
        if type(value) is not int:
            raise Rejected("bad_field")
        if not 1 <= value <= maximum:
            raise Rejected("unknown_protocol")
        return value

    def end_of_version(self, protocol: int) -> None:
        """A later version may say more behind what every version says; ours does not (proto/sync.md §4.1)."""
        if protocol <= PROTOCOL:
            self.end()

    def integer(self, maximum: int = U64_MAX, minimum: int = 0) -> int:
        value = self._take()
        # bool is a subclass of int: true is no number here.
        if type(value) is not int or not minimum <= value <= maximum:
            raise Rejected("bad_field")
        return value

    def boolean(self) -> bool:
        value = self._take()
        if type(value) is not bool:
            raise Rejected("bad_field")
        return value

    def binary(self, length: int | None = None) -> bytes:
        value = self._take()
        if type(value) is not bytes or (length is not None and len(value) != length):
            raise Rejected("bad_field")
        return value

    def binary_up_to(self, maximum: int, unit: int = 1) -> bytes:
        """At most `maximum` bytes, and whole units."""
        value = self.binary()
        if len(value) > maximum or len(value) % unit:
            raise Rejected("bad_field")
        return value

    def text(self) -> str:
        value = self._take()
        if type(value) is not str:
            raise Rejected("bad_field")
        return value

    def node(self) -> str:
        value = self.text()
        if _NODE.match(value) is None:
            raise Rejected("bad_field")
        return value

    def integers(self, maximum: int) -> tuple[int, ...]:
        value = self._take()
        if type(value) is not list:
            raise Rejected("bad_field")
        if not all(type(item) is int and 0 <= item <= maximum for item in value):
            raise Rejected("bad_field")
        return tuple(value)


def _hello(f: _Fields) -> Hello:
    frame = Hello(
        f.protocol(), f.node(), f.integer(), f.integer(), f.binary(8), f.integer(U32_MAX, 1),
        f.binary(16), f.integer(U64_MAX, 1), f.integer(U64_MAX, 1), f.integer(), f.integer(U64_MAX, 1),
    )  # fmt: skip
    f.end_of_version(frame.protocol)
    if frame.protocol_min > frame.protocol or frame.resume_from > frame.log_next + 1:
        raise Rejected("bad_field")
    return frame


def _hello_reply(f: _Fields) -> HelloReply:
    frame = HelloReply(
        f.protocol(), f.node(), f.integer(), f.integer(), f.integer(), f.integer(), f.boolean(),
        f.integer(), f.integer(U32_MAX, 1), f.binary_up_to(BUCKETS_MAX * DIGEST_BYTES, DIGEST_BYTES),
    )  # fmt: skip
    f.end_of_version(frame.protocol)
    return frame


def _refuse(f: _Fields) -> Refuse:
    frame = Refuse(f.text())
    f.end()
    if frame.reason not in REFUSALS:
        raise Rejected("bad_field")
    return frame


def _resume(f: _Fields) -> Resume:
    frame = Resume(f.integer(), f.integer(U64_MAX, 1))
    f.end()
    return frame


def _sync_begin(f: _Fields) -> SyncBegin:
    frame = SyncBegin(f.integer(), f.integer(U64_MAX, 1), f.integer(), f.binary_up_to(BUCKETS_MAX // 8))
    f.end()
    return frame


def _deltas(f: _Fields) -> Deltas:
    frame = Deltas(f.integer(), f.integer(U64_MAX, 1), f.integer(U32_MAX, 1), f.binary())
    f.end()
    _check_count(frame.count, frame.records)
    if frame.first > U64_MAX - frame.count:
        raise Rejected("bad_field")
    return frame


def _check_count(count: int, records: bytes) -> None:
    # The exact sum needs a walk over the records, which is the C core's: a count that no mixture of
    # kinds could make up is refused here, any other when fewer were installed than promised.
    if not count * RECORD_BYTES_MIN <= len(records) <= count * RECORD_BYTES_MAX:
        raise Rejected("count_mismatch")


def _offer(f: _Fields) -> Offer:
    frame = Offer(f.integer(), f.integer(U32_MAX, 1), f.binary())
    f.end()
    _check_count(frame.count, frame.records)
    return frame


def _members(f: _Fields) -> Members:
    generation, service, ring_generation = f.integer(), f.node(), f.integer(U32_MAX, 1)
    frame = Members(generation, service, ring_generation, _backends(f))
    f.end()
    return frame


def _backends(f: _Fields) -> tuple[MemberWord, ...]:
    try:
        return decode_members(f.binary_up_to(MEMBERS_MAX * MEMBER_BYTES, MEMBER_BYTES))
    except ValueError:
        raise Rejected("bad_field") from None


def _sync_end(f: _Fields) -> SyncEnd:
    frame = SyncEnd(f.integer(), f.integer(), f.integer(), f.integer())
    f.end()
    return frame


def _leaving(f: _Fields) -> Leaving:
    frame = Leaving(f.integer(), f.integer(), f.boolean())
    f.end()
    return frame


_FRAME_DECODERS: dict[int, Callable[[_Fields], Frame]] = {
    1: _hello, 2: _hello_reply, 3: _refuse, 4: _resume, 5: _sync_begin, 6: _deltas, 7: _sync_end, 8: _leaving,
    9: _offer, 10: _members,
}  # fmt: skip
