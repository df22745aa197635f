"""Every vector of `decode: records` in proto/vectors, through the engine that reads records in production."""

from __future__ import annotations

from typing import Any

import pytest

from hasyncd._native import Engine
from tests.native.engines import SECOND_NS, bare_engine, now_ns
from tests.native.frames6 import number6
from tests.proto.vector_files import Vector, load

VECTORS = [vector for vector in load() if vector.decode == "records"]
DNAT, UDP, ICMP = 1, 4, 8
Row = tuple[object, ...]


def row_of(record: dict[str, Any]) -> Row:
    """What `list_flows` shows of a flow whose ADD this is (sync.md §3: the reply tuple is derived)."""
    flags = record["flags"]
    proto = 17 if flags & UDP else 1 if flags & ICMP else 6
    source, sport = record["src_addr"], record["src_port"]
    target, dport = record["dst_addr"], record["dst_port"]
    if record["kind"] == "ADD6":
        return row6_of(record, 58 if proto == 1 else proto)
    if record["kind"] == "ADD_BOTH":
        reply = record["nat_addr"], record["nat_port"], record["public_addr"], record["public_port"]
    elif flags & DNAT:
        reply = record["nat_addr"], record["nat_port"], source, sport
    elif flags & ICMP:
        reply = target, record["nat_port"], record["nat_addr"], 0
    else:
        reply = target, dport, record["nat_addr"], record["nat_port"]
    return proto, source, sport, target, dport, *reply, record["state"], record["timeout_s"]


def row6_of(record: dict[str, Any], proto: int) -> Row:
    source, target, nat = (number6(record[end]) for end in ("src_addr", "dst_addr", "nat_addr"))
    sport, dport = record["src_port"], record["dst_port"]
    if record["flags"] & DNAT:
        reply = nat, record["nat_port"], source, sport
    elif record["flags"] & ICMP:
        reply = target, sport, source, 0
    else:
        reply = target, dport, source, sport
    return proto, source, sport, target, dport, *reply, record["state"], record["timeout_s"]


def table_after(records: list[dict[str, Any]]) -> set[Row]:
    """The table that accepted records make, by a dictionary."""
    held: dict[int, dict[str, Any]] = {}
    for record in records:
        match record["kind"]:
            case "ADD" | "ADD_BOTH" | "ADD6":
                held[record["handle"]] = record
            case "UPDATE":
                changed = {key: record[key] for key in ("state", "flags", "timeout_s")}
                held[record["handle"]] = held[record["handle"]] | changed
            case "DEL":
                del held[record["handle"]]
    return {row_of(record) for record in held.values()}


def listed(engine: Engine, at_ns: int) -> set[Row]:
    return {row[:11] for row in engine.list_flows(0, 1 << 20, at_ns)[1]}


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 20


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.expect == "accepted"], ids=lambda v: v.name)
def test_accepted_records_make_the_table_that_they_describe(vector: Vector) -> None:
    engine, now = bare_engine(), now_ns() // SECOND_NS * SECOND_NS
    assert isinstance(vector.value, list)
    assert engine.install(vector.data, now) == (len(vector.value), None)
    assert listed(engine, now) == table_after(vector.value)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.expect != "accepted"], ids=lambda v: v.name)
def test_rejected_records_are_rejected_by_their_name(vector: Vector) -> None:
    engine = bare_engine()
    name = vector.expect.removeprefix("rejected ")
    assert engine.install(vector.data, now_ns()) == (vector.installed, name)
    assert engine.counters()[f"rejected_{name}"] == 1
    assert engine.digest()[0] == len(listed(engine, now_ns()))
