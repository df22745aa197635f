"""The model's packets as frames, and back."""

from __future__ import annotations

import struct

from tests.native import frames
from tests.native.frames import ICMP, TCP, UDP
from tests.native.model_rules import Ends, Packet


def frame_of(packet: Packet) -> bytes:
    ends = packet.ends
    if ends.proto == ICMP:
        return frames.echo(ends.src, ends.dst, ends.sport, reply=packet.answers)
    if ends.proto == UDP:
        return frames.udp(*ends[1:], b"datagram")
    body = bytearray(frames.segment(*ends[1:], packet.flags))
    body[4:8], body[16:18] = struct.pack("!I", packet.sequence), b"\0\0"
    pseudo = frames.pseudo_header(ends.src, ends.dst, TCP, len(body))
    body[16:18] = struct.pack("!H", frames.checksum(pseudo + body))
    return frames.ethernet(frames.ipv4(ends.src, ends.dst, TCP, bytes(body)))


def packet_of(frame: bytes) -> Packet:
    """Read back, every checksum verified (N10)."""
    seen = frames.read(frame)
    sequence = int.from_bytes(seen.packet[24:28], "big") if seen.protocol == TCP else 1
    return Packet(Ends(seen.protocol, *seen.ends), seen.flags, sequence, answers=seen.icmp_type == 0)
