"""Packed records (proto/sync.md §3) as dictionaries, packed by their table and nothing cleverer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

Record = Mapping[str, object]

_HEAD = struct.Struct(">BBBBIHH")
_KINDS = {"ADD": 1, "UPDATE": 2, "DEL": 3, "COUNTERS": 4, "ADD_BOTH": 5, "ADD6": 6}


def address(dotted: str) -> int:
    return int.from_bytes(bytes(int(part) for part in dotted.split(".")), "big")


def _numbers(record: Record, *names: str) -> list[int]:
    values = [record[name] for name in names]
    assert all(isinstance(value, int) for value in values)
    return values  # type: ignore[return-value]


def pack(record: Record) -> bytes:
    kind = str(record["kind"])
    handle, version = _numbers(record, "handle", "version")
    if kind == "DEL":
        return _HEAD.pack(3, *_numbers(record, "reason"), 0, 0, handle, version, 0)
    if kind == "COUNTERS":
        counts = _numbers(record, "packets", "bytes", "reply_packets", "reply_bytes")
        return _HEAD.pack(4, 0, 0, 0, handle, version, 0) + struct.pack(">IQIQ", *counts)
    state, flags, timeout_s = _numbers(record, "state", "flags", "timeout_s")
    head = _HEAD.pack(_KINDS[kind], state, flags, 0, handle, version, timeout_s)
    if kind == "UPDATE":
        return head
    if kind == "ADD6":
        addresses = [
            socket.inet_pton(socket.AF_INET6, str(record[end]))
            for end in ("src_addr", "dst_addr", "nat_addr")
        ]
        ports = _numbers(record, "src_port", "dst_port", "nat_port")
        return head + b"".join(addresses) + struct.pack(">HHHH", *ports, 0)
    tuples = _numbers(record, "src_addr", "dst_addr", "src_port", "dst_port", "nat_addr", "nat_port")
    packed = head + struct.pack(">IIHHIHH", *tuples, 0)
    if kind == "ADD":
        return packed
    return packed + struct.pack(">IHH", *_numbers(record, "public_addr", "public_port"), 0)


ADD_LB: Record = {
    "kind": "ADD", "handle": 17, "version": 1, "state": 1, "flags": 1, "timeout_s": 120,
    "src_addr": address("203.0.113.100"), "dst_addr": address("203.0.113.5"), "src_port": 40_000, "dst_port": 80,
    "nat_addr": address("10.0.1.21"), "nat_port": 8080,
}  # fmt: skip
ADD_NAT: Record = {
    "kind": "ADD", "handle": 3, "version": 1, "state": 1, "flags": 4, "timeout_s": 30,
    "src_addr": address("10.0.1.7"), "dst_addr": address("8.8.8.8"), "src_port": 51_515, "dst_port": 53,
    "nat_addr": address("203.0.113.5"), "nat_port": 40_004,
}  # fmt: skip
ADD_PING: Record = {
    "kind": "ADD", "handle": 4, "version": 9, "state": 2, "flags": 10, "timeout_s": 30,
    "src_addr": address("10.0.1.7"), "dst_addr": address("203.0.113.50"), "src_port": 777, "dst_port": 0,
    "nat_addr": address("203.0.113.5"), "nat_port": 1777,
}  # fmt: skip
ADD_HAIRPIN: Record = {
    "kind": "ADD_BOTH", "handle": 5, "version": 1, "state": 1, "flags": 1, "timeout_s": 240,
    "src_addr": address("10.0.1.7"), "dst_addr": address("203.0.113.5"), "src_port": 51_515, "dst_port": 8443,
    "nat_addr": address("10.0.1.9"), "nat_port": 443,
    "public_addr": address("203.0.113.5"), "public_port": 40_004,
}  # fmt: skip
ADD6_LB: Record = {
    "kind": "ADD6", "handle": 19, "version": 1, "state": 1, "flags": 1, "timeout_s": 240,
    "src_addr": "2001:db8:2::100", "dst_addr": "2001:db8:2::5", "src_port": 40_000, "dst_port": 80,
    "nat_addr": "2001:db8:1::21", "nat_port": 8080,
}  # fmt: skip
ADD6_PASS: Record = {
    "kind": "ADD6", "handle": 20, "version": 1, "state": 1, "flags": 4, "timeout_s": 300,
    "src_addr": "2001:db8:1::7", "dst_addr": "2001:4860:4860::8888", "src_port": 51_515, "dst_port": 53,
    "nat_addr": "2001:db8:1::7", "nat_port": 51_515,
}  # fmt: skip
ADD6_PING: Record = {
    "kind": "ADD6", "handle": 21, "version": 3, "state": 2, "flags": 10, "timeout_s": 60,
    "src_addr": "2001:db8:1::7", "dst_addr": "2001:db8:2::50", "src_port": 777, "dst_port": 0,
    "nat_addr": "2001:db8:1::7", "nat_port": 777,
}  # fmt: skip
UPDATE: Record = {"kind": "UPDATE", "handle": 17, "version": 1, "state": 3, "flags": 3, "timeout_s": 7440}
COUNTERS: Record = {
    "kind": "COUNTERS", "handle": 17, "version": 1, "packets": 5, "bytes": 2**33, "reply_packets": 7,
    "reply_bytes": 9000,
}  # fmt: skip
DEL: Record = {"kind": "DEL", "handle": 17, "version": 1, "reason": 0}
