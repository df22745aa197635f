"""Writes proto/vectors: `python -m tests.proto.make_vectors`. A test holds the files to this script.

A released vector is never changed: a new version of the protocol brings new names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgpack

from hasyncd.core.members import MemberWord, encode_members
from hasyncd.core.messages import (
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
from hasyncd.core.seal import TAG_BYTES, derive_key, seal
from hasyncd.core.types import Role
from hasyncd.core.wire import encode_frame, encode_heartbeat
from tests.proto.messages_json import to_json
from tests.proto.record_bytes import ADD6_LB, ADD_HAIRPIN, ADD_LB, UPDATE, pack
from tests.proto.record_vectors import REJECTIONS, accepted_records, rejected_records
from tests.proto.vector_files import FOLDER, Vector, text

FRAMES = "sync.md#4-frames"
HEARTBEAT = "pair.md#5-heartbeat"
SEAL = "pair.md#8-who-speaks-sealed-heartbeats"

HELLO = Hello(
    1, "gw-a", 0x1122334455667788, 7, bytes.fromhex("c0ffee0000c0ffee"), 1_000, bytes(range(16)), 12_346,
    features=0b11, resume_from=4_155,
)  # fmt: skip
BEAT = Heartbeat(
    protocol=1, node="gw-a", boot_id=0x1122334455667788, counter=4711, role=Role.PRIMARY, generation=7,
    priority=200, leaving=False, ready=True, solo=False, sent_ns=86_400_000_000_000,
    echo_boot_id=0x99AABBCCDDEEFF00, echo_sent_ns=3_600_000_000_000, heard_ms=12, ack_boot_id=0,
    ack_sequence=0, head_sequence=12_345, flow_count=1500, digest_sequence=12_345,
    digest=0xDEADBEEFCAFEF00D, config_hash=bytes.fromhex("c0ffee0000c0ffee"), ring_generations=(3, 300),
    at_risk=17, at_risk_oldest_ms=4,
)  # fmt: skip
BACKUP_BEAT = replace(
    BEAT, node="gw-b", boot_id=0x99AABBCCDDEEFF00, counter=99, role=Role.BACKUP, priority=100,
    ack_boot_id=0x1122334455667788, ack_sequence=12_345, digest_sequence=0, digest=0, head_sequence=0,
    at_risk=0, at_risk_oldest_ms=0,
)  # fmt: skip
FIRST_BEAT = Heartbeat(
    1, "a", 1, 1, Role.INIT, 0, 100, False, False, False, 1, 0, 0, 2**32 - 1, 0, 0, 0, 0, 0, 0, bytes(8), ()
)
DIGESTS = b"".join((0x9E3779B97F4A7C15 * bucket % 2**64).to_bytes(8, "big") for bucket in range(63))
WORDS = (
    MemberWord(21, bytes([10, 0, 1, 21]), 8080, 1, 0, 1, 4, 120_000),
    MemberWord(22, bytes([10, 0, 1, 22]), 8080, 3, 5, 0, 2, 0),
    MemberWord(300, bytes.fromhex("20010db8000100000000000000000021"), 8080, 1, 0, 2, 4, 0),
    MemberWord(301, bytes([10, 0, 1, 23]), 8080, 256, 0, 3, 4, 0xFFFFFFFF),
)
DELTAS = Deltas(7, 12_346, 2, pack(ADD_LB) + pack(UPDATE))


def body(frame: Frame) -> bytes:
    return encode_frame(frame)[4:]


def packed(*fields: object) -> bytes:
    data: bytes = msgpack.packb(list(fields), use_bin_type=True)
    return data


def frame(name: str, message: Frame, comment: str) -> Vector:
    return Vector(name, FRAMES, "frame", "accepted", comment, body(message), to_json(message))


def bad_frame(name: str, rejection: str, data: bytes, comment: str) -> Vector:
    return Vector(name, REJECTIONS, "frame", f"rejected {rejection}", comment, data)


def accepted_frames() -> Iterator[Vector]:
    yield frame("hello", HELLO, "a primary of generation 7 whose next record will be 12346")
    yield frame(
        "hello_reply", HelloReply(1, "gw-b", 0x99AABBCCDDEEFF00, 7, HELLO.boot_id, 12_000, True, 0b11),
        "the backup holds everything up to 12000 of this very log",
    )  # fmt: skip
    yield frame(
        "hello_reply_empty", HelloReply(1, "gw-b", 5, 0, 0, 0, False, 0b11), "a backup that holds nothing"
    )
    yield frame(
        "hello_reply_digests", HelloReply(1, "gw-b", 5, 6, 9, 800, False, 0b11, digests=DIGESTS),
        "of generation 6: what it holds, by 63 buckets of 16 slots",
    )  # fmt: skip
    yield frame(
        "hello_compare", replace(HELLO, resume_from=12_347), "nothing can be resumed: a comparison is wanted"
    )
    yield frame(
        "hello_newer", replace(HELLO, protocol=3, protocol_min=1, features=5),
        "a later version that still speaks this one, with a feature that is not known here",
    )  # fmt: skip
    yield frame(
        "hello_reply_window", HelloReply(1, "gw-b", 5, 0, 0, 0, False, 0, 1000),
        "no feature in common, and a thousand records ahead of the acknowledgement",
    )  # fmt: skip
    for reason in ("generation", "capacity", "protocol", "role", "features"):
        yield frame(f"refuse_{reason}", Refuse(reason), "instead of HELLO_REPLY")
    yield frame("resume", Resume(7, 12_001), "what follows continues where the backup stopped")
    yield frame("sync_begin", SyncBegin(7, 12_346, 1500), "everything anew")
    yield frame(
        "sync_begin_least", SyncBegin(7, 12_001, 1500, bytes.fromhex("0100000000000040")),
        "the first and the last of 63 buckets; the log goes on where the backup stopped",
    )  # fmt: skip
    yield frame("sync_begin_nothing", SyncBegin(7, 12_346, 1500, bytes(8)), "no bucket differs")
    yield frame("deltas", DELTAS, "an ADD and an UPDATE of the same flow")
    yield frame("deltas_longest", Deltas(7, 12_346, 1, pack(ADD6_LB)), "the longest kind of record, alone")
    yield frame("sync_end", SyncEnd(7, 13_850, 1500, 0xDEADBEEFCAFEF00D), "the table after record 13850")
    yield frame("leaving", Leaving(7, 13_850, True), "a hand-over")
    yield frame(
        "offer", Offer(7, 2, pack(ADD_LB) + pack(ADD6_LB)), "after a split: flows that only the backup has"
    )
    yield frame(
        "members", Members(7, "web", 12, WORDS),
        "of service web: 21 drains for two more minutes, 22 warms up, 300 is down, 301 is used in a panic",
    )  # fmt: skip
    yield frame("members_none", Members(7, "web", 13, ()), "nobody serves it")
    yield frame("leaving_without_handover", Leaving(7, 13_850, False), "it goes, and hands nothing over")


def rejected_hellos(hello: list[object]) -> Iterator[Vector]:
    yield bad_frame("hello_version_0", "unknown_protocol", packed(1, 0, "whatever"), "versions begin with 1")
    yield bad_frame(
        "hello_versions_crossed",
        "bad_field",
        packed(*hello[:9], 2, 1, 1),
        "the oldest is newer than the newest",
    )
    yield bad_frame("hello_field_too_many", "bad_field", packed(*hello, 0), "version 1 ends with resume_from")
    yield bad_frame(
        "hello_resumes_the_future", "bad_field", packed(*hello[:11], 12_348), "two behind the next record"
    )
    yield bad_frame("hello_resumes_at_zero", "bad_field", packed(*hello[:11], 0), "sequences start at 1")
    yield bad_frame("hello_reply_window_shut", "bad_field",
        packed(2, 1, "gw-b", 5, 0, 0, 0, True, 0, 0, b""), "at least one record ahead")  # fmt: skip
    yield bad_frame("hello_reply_half_a_digest", "bad_field",
        packed(2, 1, "gw-b", 5, 6, 9, 800, False, 0, 1, DIGESTS[:-4]), "each digest has 8 bytes")  # fmt: skip
    yield bad_frame("hello_reply_digest_as_number", "bad_field",
        packed(2, 1, "gw-b", 5, 6, 9, 800, False, 0, 1, 7), "digests are one bin")  # fmt: skip
    yield bad_frame(
        "hello_short_seed", "bad_field", packed(*hello[:7], bytes(15), *hello[8:]), "15 bytes of seed"
    )
    yield bad_frame("hello_bad_node", "bad_field", packed(1, 1, "gw a", *hello[3:]), "a space in the name")
    yield bad_frame(
        "hello_text_for_bytes", "bad_field", packed(*hello[:5], "c0ffee00", *hello[6:]), "str is no bin"
    )
    yield bad_frame(
        "hello_reply_number_for_true",
        "bad_field",
        packed(2, 1, "gw-b", 5, 0, 0, 0, 1, 0, 1, b""),
        "1 is not true",
    )


def rejected_frames() -> Iterator[Vector]:
    hello = msgpack.unpackb(body(HELLO), raw=False)
    yield bad_frame("frame_empty", "malformed", b"", "no msgpack at all")
    yield bad_frame("frame_is_map", "malformed", b"\x81\x01\x02", "arrays and never maps")
    yield bad_frame("frame_is_number", "malformed", b"\x04", "a value, but no array")
    yield bad_frame("frame_type_unknown", "unknown_type", packed(11, 7), "there is no type 11")
    yield bad_frame("frame_without_type", "unknown_type", b"\x90", "an empty array")
    yield from rejected_hellos(hello)
    yield bad_frame("refuse_reason_unknown", "bad_field", packed(3, "mood"), "not one of the four")
    yield bad_frame("resume_at_zero", "bad_field", packed(4, 7, 0), "sequences start at 1")
    yield bad_frame("resume_float", "bad_field", packed(4, 7, 12_001.0), "no floats")
    yield bad_frame(
        "resume_long_integer", "non_canonical", b"\x93\x04\x07\xcd\x00\xc8", "200 in three bytes, where two do"
    )  # fmt: skip
    yield bad_frame("sync_begin_field_missing", "bad_field", packed(5, 7, 12_346, 1500), "no suspects")
    yield bad_frame(
        "sync_begin_field_too_many", "bad_field", packed(5, 7, 12_346, 1500, b"", 0), "one field more"
    )
    yield bad_frame(
        "deltas_truncated", "malformed", body(DELTAS)[:-1], "the bin promises one byte more than there is"
    )
    yield bad_frame(
        "deltas_array_too_long", "malformed", b"\x96" + body(DELTAS)[1:], "one element more than there is"
    )
    yield bad_frame(
        "deltas_count_too_high", "count_mismatch", packed(6, 7, 12_346, 4, DELTAS.records),
        "44 bytes cannot be 4 records",
    )  # fmt: skip
    yield bad_frame(
        "deltas_count_too_low", "count_mismatch", packed(6, 7, 12_346, 1, pack(ADD_LB) + pack(ADD_HAIRPIN)),
        "72 bytes cannot be 1 record",
    )  # fmt: skip
    yield bad_frame("deltas_without_records", "bad_field", packed(6, 7, 12_346, 0, b""), "count starts at 1")
    yield bad_frame("sync_end_negative", "bad_field", packed(7, 7, 13_850, -1, 0), "integers are unsigned")
    yield bad_frame(
        "leaving_and_more", "non_canonical", body(Leaving(7, 1, True)) + b"\xc0", "bytes after the array"
    )
    yield bad_frame("offer_without_flows", "bad_field", packed(9, 7, 0, b""), "count starts at 1")
    yield bad_frame(
        "offer_count_too_high", "count_mismatch", packed(9, 7, 4, pack(ADD_LB)), "32 bytes cannot be 4 flows"
    )
    words = encode_members(WORDS)
    yield bad_frame(
        "members_half_a_backend", "bad_field", packed(10, 7, "web", 1, words[:-1]), "34 bytes each"
    )
    yield bad_frame(
        "members_out_of_order", "bad_field", packed(10, 7, "web", 1, words[34:] + words[:34]), "by their ids"
    )
    yield bad_frame(
        "members_twice", "bad_field", packed(10, 7, "web", 1, words[:34] * 2), "one id, one backend"
    )
    yield bad_frame("members_generation_0", "bad_field", packed(10, 7, "web", 0, words), "they begin with 1")
    yield bad_frame("members_bad_service", "bad_field", packed(10, 7, "w b", 1, words), "a space in the name")
    yield bad_frame(
        "members_state_4", "bad_field", packed(10, 7, "web", 1, words[:11] + b"\x04" + words[12:34]),
        "states are 0 to 3",
    )  # fmt: skip
    yield Vector(
        "stream_length_zero", FRAMES, "stream", "rejected oversized", "a frame has at least one byte", bytes(4)
    )  # fmt: skip
    yield Vector(
        "stream_length_too_long", FRAMES, "stream", "rejected oversized", "1 MiB and one byte",
        (1_048_577).to_bytes(4, "big"),
    )  # fmt: skip


def heartbeats() -> Iterator[Vector]:
    for name, beat, comment in [
        ("heartbeat_primary", BEAT, "a paired primary with two services"),
        ("heartbeat_backup", BACKUP_BEAT, "its backup, which acknowledges everything"),
        (
            "heartbeat_paths",
            replace(BACKUP_BEAT, hears=0b101),
            "it hears its peer on sync and outside, not on inside",
        ),
        (
            "heartbeat_young",
            replace(BEAT, protocol=2, young=True, ready=False, solo=True),
            "it began alone, with nothing",
        ),
        ("heartbeat_first", FIRST_BEAT, "the first of a process that has heard nobody"),
        (
            "heartbeat_leaving",
            replace(BACKUP_BEAT, leaving=True, ready=False),
            "it said LEAVING, or will not come back",
        ),
        (
            "heartbeat_fitness",
            replace(BEAT, protocol=2, fitness=750),
            "of version 2: the first 22 elements are the same, then its fitness and whether its history is young",
        ),
        (
            "heartbeat_tables",
            replace(BEAT, protocol=3, tables=0x0123456789ABCDEF),
            "of version 3: behind those of version 2 a digest over the backend tables",
        ),
        ("heartbeat_version_4", replace(BEAT, protocol=4), "of a later version: 25 elements are the same"),
    ]:
        yield Vector(name, HEARTBEAT, "heartbeat", "accepted", comment, encode_heartbeat(beat), to_json(beat))


def rejected_heartbeats() -> Iterator[Vector]:
    fields = msgpack.unpackb(encode_heartbeat(BEAT), raw=False)

    def bad(name: str, rejection: str, data: bytes, comment: str) -> Vector:
        return Vector(name, HEARTBEAT, "heartbeat", f"rejected {rejection}", comment, data)

    yield bad("heartbeat_version_0", "unknown_protocol", packed(0, *fields[1:]), "versions begin with 1")
    yield bad("heartbeat_role_4", "bad_field", packed(*fields[:4], 4, *fields[5:]), "roles are 0 to 3")
    yield bad(
        "heartbeat_flag_unknown", "bad_field", packed(*fields[:7], 64, *fields[8:]), "bit 6 means nothing"
    )
    yield bad("heartbeat_fitness_missing", "bad_field", packed(2, *fields[1:]), "version 2 has 24 elements")
    yield bad(
        "heartbeat_fitness_of_version_1", "bad_field", packed(*fields, 1000), "version 1 has 22 elements"
    )
    yield bad(
        "heartbeat_fitness_too_high", "bad_field", packed(2, *fields[1:], 1001, 0), "1000 is all there is"
    )
    yield bad("heartbeat_young_too_high", "bad_field", packed(2, *fields[1:], 1000, 2), "it is 0 or 1")
    yield bad(
        "heartbeat_tables_missing", "bad_field", packed(3, *fields[1:], 1000, 0), "version 3 has 25 elements"
    )
    yield bad("heartbeat_cut_short", "malformed", encode_heartbeat(BEAT)[:40], "the datagram was cut")
    yield bad(
        "heartbeat_ring_too_wide",
        "bad_field",
        packed(*fields[:19], [2**32], *fields[20:]),
        "ring generations are u32",
    )
    yield bad(
        "heartbeat_too_long",
        "oversized",
        packed(*fields[:19], [2**32 - 1] * 90, *fields[20:]),
        "more than 512 bytes",
    )
    yield bad("heartbeat_at_risk_too_wide", "bad_field", packed(*fields[:20], 2**32, 0), "at_risk is a u32")
    yield bad(
        "heartbeat_without_at_risk",
        "bad_field",
        packed(*fields[:20]),
        "no element of a version may be left away",
    )


def sealed() -> Iterator[Vector]:
    secret = bytes(range(32))
    names = f"{secret.hex()} gw-a gw-b"
    whole = seal(derive_key(secret, "gw-a", "gw-b"), encode_heartbeat(BEAT))

    def bad(name: str, data: bytes, comment: str) -> Vector:
        return Vector(name, SEAL, "sealed", "rejected unauthenticated", comment, data, seal=names)

    yield Vector(
        "sealed_heartbeat", SEAL, "sealed", "accepted", "heartbeat_primary, as gw-a sends it to gw-b",
        whole, to_json(BEAT), seal=names, notes=((TAG_BYTES, "the tag"),),
    )  # fmt: skip
    yield bad("sealed_tampered", whole[:-1] + b"\x00", "the last byte was another")
    yield bad("sealed_tag_tampered", b"\x00" + whole[1:], "the first byte was another")
    yield bad("sealed_cut_short", whole[:-1], "the last byte is missing")
    yield bad("sealed_tag_only", whole[:TAG_BYTES], "a tag of nothing that was said")
    yield bad("sealed_tag_cut_short", whole[:7], "less than a tag")
    yield bad("sealed_nothing", b"", "an empty datagram")
    yield bad("sealed_not_at_all", encode_heartbeat(BEAT), "a good heartbeat, in the plain")
    yield bad(
        "sealed_reflected", seal(derive_key(secret, "gw-b", "gw-a"), encode_heartbeat(BACKUP_BEAT)),
        "gw-b's own, sent back to it: the other direction has another key",
    )  # fmt: skip
    yield bad(
        "sealed_by_another_pair", seal(derive_key(bytes(32), "gw-a", "gw-b"), encode_heartbeat(BEAT)),
        "another secret",
    )  # fmt: skip
    yield Vector(
        "sealed_rubbish", SEAL, "sealed", "rejected malformed", "sealed by the peer, and still hostile until decoded",
        seal(derive_key(secret, "gw-a", "gw-b"), b"\xc1"), seal=names,
    )  # fmt: skip


def vectors() -> list[Vector]:
    frames = [*accepted_frames(), *rejected_frames()]
    return [
        *frames,
        *heartbeats(),
        *rejected_heartbeats(),
        *sealed(),
        *accepted_records(),
        *rejected_records(),
    ]


if __name__ == "__main__":
    for vector in vectors():
        (FOLDER / f"{vector.name}.txt").write_text(text(vector))
