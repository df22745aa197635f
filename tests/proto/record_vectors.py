"""The records among the vectors: make_vectors.py writes them with the others."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.proto.record_bytes import (
    ADD6_LB,
    ADD6_PASS,
    ADD6_PING,
    ADD_HAIRPIN,
    ADD_LB,
    ADD_NAT,
    ADD_PING,
    COUNTERS,
    DEL,
    UPDATE,
    Record,
    pack,
)
from tests.proto.vector_files import Vector

RECORDS = "sync.md#3-records"
VERSIONS = "sync.md#32-handles-and-versions"
REJECTIONS = "sync.md#9-rejections"


def good_records(name: str, sequence: list[Record], comment: str) -> Vector:
    return make_records(name, sequence, "accepted", comment, value=[dict(record) for record in sequence])


def make_records(
    name: str, sequence: list[Record], expect: str, comment: str, *, spec: str = RECORDS,
    data: bytes | None = None, value: object = None, installed: int | None = None,
) -> Vector:  # fmt: skip
    notes, end = [], 0
    for record in sequence:
        end += len(pack(record))
        notes.append((end, f"{record['kind']} handle {record['handle']} version {record['version']}"))
    whole = b"".join(map(pack, sequence)) if data is None else data
    return Vector(name, spec, "records", expect, comment, whole, value, installed, tuple(notes))


def bad_records(
    name: str, rejection: str, comment: str, data: bytes, *before: Record, spec: str = REJECTIONS
) -> Vector:
    return make_records(
        name, list(before), f"rejected {rejection}", comment, spec=spec,
        data=b"".join(map(pack, before)) + data, installed=len(before),
    )  # fmt: skip


def patched(record: Record, at: int, value: int) -> bytes:
    data = bytearray(pack(record))
    data[at] = value
    return bytes(data)


def accepted_records() -> Iterator[Vector]:
    yield good_records("records_add_lb", [ADD_LB], "a balanced TCP flow: the NAT address is the backend's")
    yield good_records(
        "records_add_nat", [ADD_NAT], "a UDP flow through NAT: the NAT address is the public one"
    )
    yield good_records(
        "records_add_ping", [ADD_PING], "an ICMP echo through NAT: identifiers in place of ports"
    )
    yield good_records(
        "records_add_hairpin", [ADD_HAIRPIN], "both ends translated: from inside back to inside"
    )
    yield good_records("records_add6_lb", [ADD6_LB], "a balanced TCP flow over IPv6")
    yield good_records(
        "records_add6_pass", [ADD6_PASS], "untranslated: the third address is the source again"
    )
    yield good_records("records_add6_ping", [ADD6_PING], "an echo's identifier is its own on both sides")
    yield good_records(
        "records_both_families",
        [
            ADD_LB,
            ADD6_LB,
            UPDATE,
            {**UPDATE, "handle": ADD6_LB["handle"]},
            {**DEL, "handle": ADD6_LB["handle"]},
        ],
        "what follows an ADD is the same for both",
    )
    yield good_records(
        "records_life_of_a_flow", [ADD_LB, UPDATE, COUNTERS, DEL], "opened, established, counted, closed"
    )
    yield good_records(
        "records_slot_used_again", [ADD_LB, DEL, {**ADD_NAT, "handle": ADD_LB["handle"], "version": 2}],
        "the next life of the slot bears the next version",
    )  # fmt: skip
    yield good_records(
        "records_version_wraps", [{**ADD_LB, "version": 65_535}, {**ADD_LB, "version": 0}],
        "serial arithmetic: 0 is newer than 65535",
    )  # fmt: skip


def rejected_records6() -> Iterator[Vector]:
    cut = pack(ADD6_LB)[:67]
    yield bad_records("records_add6_cut_short", "record_truncated", "67 of 68 bytes", cut, ADD_LB)
    yield bad_records(
        "records_add6_tail_set", "nonzero_padding", "the last two bytes are 0", patched(ADD6_LB, 67, 1)
    )
    yield bad_records(
        "records_add6_ping_second_port",
        "nonzero_padding",
        "an echo has one identifier",
        patched(ADD6_PING, 63, 1),
    )
    yield bad_records("records_add6_state_10", "bad_state", "TCP ends at 9", patched(ADD6_LB, 1, 10))
    for name, end, address in (
        ("unspecified", "src_addr", "::"), ("loopback", "dst_addr", "::1"), ("link_local", "nat_addr", "fe80::1"),
        ("multicast", "dst_addr", "ff02::1"), ("mapped", "nat_addr", "::ffff:10.0.1.21"),
        ("compatible", "src_addr", "::10.0.1.21"),
    ):  # fmt: skip
        data = pack({**ADD6_LB, end: address})
        yield bad_records(f"records_add6_{name}", "bad_address", f"{end} is {address}", data)
    yield bad_records(
        "records_add6_snat", "bad_address", "not DNAT, and another source",
        pack({**ADD6_PASS, "nat_addr": "2001:db8:2::5"}),
    )  # fmt: skip
    yield bad_records(
        "records_add6_snat_port",
        "bad_address",
        "not DNAT, and another port",
        pack({**ADD6_PASS, "nat_port": 1}),
    )


def rejected_records() -> Iterator[Vector]:
    yield bad_records(
        "records_kind_255", "unknown_kind", "no record is of kind 255", patched(ADD_LB, 0, 255), ADD_NAT
    )
    yield from rejected_records6()
    yield bad_records(
        "records_add_cut_short", "record_truncated", "31 of 32 bytes", pack(ADD_LB)[:31], ADD_NAT
    )
    yield bad_records("records_add_hairpin_snat", "bad_state", "kind 5 is DNAT", patched(ADD_HAIRPIN, 2, 0))
    yield bad_records(
        "records_add_hairpin_tail_set",
        "nonzero_padding",
        "the last two bytes are 0",
        patched(ADD_HAIRPIN, 39, 1),
    )
    yield bad_records(
        "records_add_hairpin_cut_short", "record_truncated", "39 of 40 bytes", pack(ADD_HAIRPIN)[:39]
    )
    yield bad_records(
        "records_add_hairpin_one_end", "bad_state", "kind 5 translates both ends: public_addr is not src_addr",
        pack({**ADD_HAIRPIN, "public_addr": ADD_HAIRPIN["src_addr"]}),
    )  # fmt: skip
    yield bad_records("records_byte_3_set", "nonzero_padding", "byte 3 is 0", patched(ADD_LB, 3, 1))
    yield bad_records(
        "records_add_tail_set", "nonzero_padding", "the last two bytes are 0", patched(ADD_LB, 31, 1)
    )
    yield bad_records(
        "records_del_timeout_set", "nonzero_padding", "a DEL has no timeout", patched(DEL, 11, 1), ADD_LB
    )
    yield bad_records("records_state_0", "bad_state", "states start at 1", patched(ADD_LB, 1, 0))
    yield bad_records("records_state_10", "bad_state", "TCP ends at 9", patched(ADD_LB, 1, 10))
    yield bad_records("records_udp_state_3", "bad_state", "UDP knows two states", patched(ADD_NAT, 1, 3))
    yield bad_records("records_del_reason_4", "bad_state", "reasons are 0 to 3", patched(DEL, 1, 4), ADD_LB)
    far = struct.pack(">I", 2**32 - 1)
    yield bad_records(
        "records_handle_far", "handle_out_of_range", "no table is that long",
        pack(ADD_LB)[:4] + far + pack(ADD_LB)[8:], spec=VERSIONS,
    )  # fmt: skip
    yield bad_records(
        "records_update_of_nothing", "unknown_handle", "an empty slot", pack(UPDATE), spec=VERSIONS
    )
    yield bad_records(
        "records_del_of_another_life", "unknown_handle", "the slot's flow has version 1",
        pack({**DEL, "version": 2}), ADD_LB, spec=VERSIONS,
    )  # fmt: skip
    yield bad_records(
        "records_add_of_an_older_life", "stale_version", "the slot has seen version 3",
        pack({**ADD_LB, "version": 2}), {**ADD_LB, "version": 3}, spec=VERSIONS,
    )  # fmt: skip
    yield bad_records(
        "records_add_after_del", "stale_version", "a deleted flow does not come back",
        pack(ADD_LB), ADD_LB, DEL, spec=VERSIONS,
    )  # fmt: skip
