"""Captures for tshark, and what tshark makes of them with proto/hasync.lua."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DISSECTOR = Path(__file__).parents[2] / "proto" / "hasync.lua"
PORT = 7077
HERE, THERE = "169.254.10.1", "169.254.10.2"
_RAW_IP = 101
"""pcap's link type for packets without a link."""
ETHERNET = 1


def packet(protocol: int, payload: bytes) -> bytes:
    addresses = ipaddress.IPv4Address(HERE).packed + ipaddress.IPv4Address(THERE).packed
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + addresses + payload


def datagram(payload: bytes, port: int = PORT) -> bytes:
    return packet(17, struct.pack(">HHHH", port, port, 8 + len(payload), 0) + payload)


def segment(payload: bytes, source: int, sequence: int = 1, port: int = PORT) -> bytes:
    """One TCP segment; `source`, the port it comes from, tells streams apart."""
    return packet(6, struct.pack(">HHIIBBHHH", source, port, sequence, 1, 0x50, 0x18, 65_535, 0, 0) + payload)


def write_capture(path: Path, packets: Iterable[bytes], link: int = _RAW_IP) -> Path:
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link))
        for number, each in enumerate(packets):
            file.write(struct.pack("<IIII", number // 1000, number % 1000, len(each), len(each)) + each)
    return path


@functools.cache
def _tshark() -> str:
    """The command; installed where it is missing."""
    if shutil.which("tshark") is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        options = ("-q", "-y", "-o", "DPkg::Lock::Timeout=300")
        for action in (["update"], ["install", "--no-install-recommends", "tshark"]):
            subprocess.run(["apt-get", *options, *action], check=True, env=environment, capture_output=True)
    return "tshark"


def findings(packet_fields: dict[str, list[str]]) -> list[str]:
    """The names of the rejections that the dissector has marked."""
    told = (re.match(r"([a-z_]+): ", text) for text in packet_fields.get("_ws.expert.message", []))
    return [found[1] for found in told if found]  # TCP's own findings are sentences


def tshark(capture: Path, *arguments: str) -> str:
    """Its standard output. An error of the dissector itself would stand in the protocol tree, or on stderr."""
    command = [_tshark(), "-X", f"lua_script:{DISSECTOR}", "-r", str(capture), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    assert "Lua Error" not in done.stdout
    return done.stdout


def dissect(capture: Path, *arguments: str) -> list[dict[str, list[str]]]:
    """The fields of each packet, in its order: name to everything that was found under it, in depth first order."""
    # Objects as lists of pairs: a name that stands several times in one is not lost.
    told = json.loads(tshark(capture, "-T", "json", *arguments), object_pairs_hook=list)
    return [_flat(dict(dict(each)["_source"])["layers"]) for each in told]


def _flat(tree: Any, into: dict[str, list[str]] | None = None, name: str = "") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {} if into is None else into
    if isinstance(tree, str):
        found.setdefault(name, []).append(tree)
        return found
    for each in tree:
        if isinstance(each, tuple):
            _flat(each[1], found, each[0])
        else:
            _flat(each, found, name)
    return found
