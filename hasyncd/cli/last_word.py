"""`hasyncd last-word`: what a node that died had not got confirmed, read from its delta log (proto/last_word.md)."""

from __future__ import annotations

import argparse
import json
import struct
import sys
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from hasyncd.cli.client import RUN_DIRECTORY

_HEAD: Final = struct.Struct("=8s9I4xQQ")
_HEAD_SIZE: Final = 4096
_LAYOUT: Final = 1
_COMMITS: Final = ("none", "emit", "ack")
_ADD, _UPDATE, _DEL, _ADD_BOTH, _ADD_6 = 1, 2, 3, 5, 6
_DNAT, _UDP, _ICMP = 1, 4, 8
_PREFIX: Final = struct.Struct(">BBBBIHH")
Flow = dict[str, Any]


class Unreadable(Exception):
    """The file is no last word."""


@dataclass(slots=True)
class LastWord:
    """What the file says. `flows_at_risk`: by (handle, version), in the order of the log."""

    active: bool
    commit: str
    at_risk: int
    flows: int
    acknowledged: int
    next: int
    whole: bool
    """False: the log was overrun, the list is not whole."""
    oldest_ns: int | None = None
    """CLOCK_BOOTTIME of the first unconfirmed at-risk record."""
    flows_at_risk: dict[tuple[int, int], Flow] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """All but the flows."""
        kinds = [flow["risk"] for flow in self.flows_at_risk.values()]
        return {
            "active": self.active,
            "commit": self.commit,
            "flows": self.flows,
            "at_risk": self.at_risk,
            "new": kinds.count("new"),
            "changed": kinds.count("changed"),
            "acknowledged": self.acknowledged,
            "next": self.next,
            "whole": self.whole,
            "oldest_ns": self.oldest_ns,
        }


def read_last_word(content: bytes) -> LastWord:
    """Raises Unreadable."""
    if len(content) < _HEAD_SIZE:
        raise Unreadable("is too short")
    magic, layout, entry_size, capacity, record_at, risk_at, *said = _HEAD.unpack_from(content)
    active, commit, at_risk, flows, acknowledged, following = said
    if magic != b"hasynclg" or layout != _LAYOUT:
        raise Unreadable("is no last word of this version")
    sound = capacity > 0 and max(record_at, risk_at) < entry_size and commit < len(_COMMITS)
    if not sound or len(content) < _HEAD_SIZE + capacity * entry_size:
        raise Unreadable("is damaged: its head does not fit its size")
    first = max(acknowledged + 1, following - capacity, 1)
    word = LastWord(
        active == 1, _COMMITS[commit], at_risk, flows, acknowledged, following, first == acknowledged + 1
    )
    for sequence in range(first, following):
        begin = _HEAD_SIZE + sequence % capacity * entry_size
        _replay(word, sequence, content[begin : begin + entry_size], record_at, risk_at)
    return word


def _replay(word: LastWord, sequence: int, entry: bytes, record_at: int, risk_at: int) -> None:
    record = entry[record_at:]
    kind, state, flags, _, handle, version, timeout_s = _PREFIX.unpack_from(record)
    key = (handle, version)
    if kind == _DEL:
        word.flows_at_risk.pop(key, None)
        return
    if not entry[risk_at]:
        return
    if word.oldest_ns is None:
        (word.oldest_ns,) = struct.unpack_from("=Q", entry)
    known = word.flows_at_risk.setdefault(key, {"handle": handle, "risk": "changed"})
    known |= {"sequence": sequence, "proto": _protocol(flags), "state": state, "timeout_s": timeout_s}
    if kind in (_ADD, _ADD_BOTH, _ADD_6):
        known |= {"risk": "new"} | _tuples(kind, flags, record)


def _protocol(flags: int) -> str:
    return "udp" if flags & _UDP else "icmp" if flags & _ICMP else "tcp"


def _tuples(kind: int, flags: int, record: bytes) -> Flow:
    """Both tuples of an ADD, in the words of `hasyncd flows --json`; proto/sync.md §3 derives the reply tuple."""
    size = 16 if kind == _ADD_6 else 4
    src, dst, nat, sport, dport, nat_port = _ends(kind, record, size)
    reply_dst, reply_dport, reply_src, reply_sport = nat, nat_port, dst, dport
    if flags & _DNAT:
        reply_src, reply_sport, reply_dst, reply_dport = nat, nat_port, src, sport
    if kind == _ADD_BOTH:
        reply_dst, reply_dport = struct.unpack_from(">4sH", record, 32)
    if flags & _ICMP:
        reply_sport, reply_dport = reply_dport, 0
    return {
        "src": str(ip_address(src)), "sport": sport, "dst": str(ip_address(dst)), "dport": dport,
        "reply_src": str(ip_address(reply_src)), "reply_sport": reply_sport,
        "reply_dst": str(ip_address(reply_dst)), "reply_dport": reply_dport,
    }  # fmt: skip


def _ends(kind: int, record: bytes, size: int) -> tuple[bytes, bytes, bytes, int, int, int]:
    if kind == _ADD_6:
        src, dst, nat, sport, dport, nat_port = struct.unpack_from(">16s16s16sHHH", record, _PREFIX.size)
    else:
        src, dst, sport, dport, nat, nat_port = struct.unpack_from(">4s4sHH4sH", record, _PREFIX.size)
    return src, dst, nat, sport, dport, nat_port


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--node", metavar="NAME", help=f"the node's file in {RUN_DIRECTORY}")
    where.add_argument(
        "file", metavar="FILE", nargs="?", type=Path, help="[control] last_word, or its .previous"
    )
    parser.add_argument("--json", action="store_true", help="a line that sums up, then one for each flow")


def run(args: argparse.Namespace) -> int:
    path = args.file or RUN_DIRECTORY / f"{args.node}.lastword"
    try:
        word = read_last_word(path.read_bytes())
    except OSError as error:
        print(f"hasyncd last-word: {path}: {error.strerror}", file=sys.stderr)
        return 3
    except Unreadable as error:
        print(f"hasyncd last-word: {path} {error}", file=sys.stderr)
        return 2
    if args.json:
        for item in (word.summary(), *word.flows_at_risk.values()):
            print(json.dumps(item))
        return 0
    print(sentence(word))
    for flow in word.flows_at_risk.values():
        print(line(flow))
    return 0


def sentence(word: LastWord) -> str:
    """The file in one sentence."""
    if not word.active:
        return f"It was no primary: nothing was at risk; it held {word.flows:,} flows for its peer."
    if word.commit == "none":
        return f"No peer was ready: all of its {word.flows:,} flows were at risk."
    kinds = word.summary()
    text = (
        f"{word.at_risk:,} of {word.flows:,} flows were not confirmed by the peer: {kinds['new']:,} new, "
        f"{kinds['changed']:,} in an older state. "
        f"The log stood at {word.next - 1:,}, confirmed up to {word.acknowledged:,}."
    )
    return text if word.whole else text + " The log was overrun: the list below is not whole."


def line(flow: Flow) -> str:
    """One flow at risk."""
    if flow["risk"] == "changed":
        return f"changed {flow['proto']:<4} handle={flow['handle']} (the peer has it in an older state)"
    there = "src={src} dst={dst} sport={sport} dport={dport}".format_map(flow)
    back = "src={reply_src} dst={reply_dst} sport={reply_sport} dport={reply_dport}".format_map(flow)
    return f"new     {flow['proto']:<4} {there} {back}"
