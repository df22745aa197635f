"""A program for the client's namespace: SYNs from many sources, at a rate, as frames to one MAC.

Arguments: MAC, address, SYNs a second, seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
import time

from hasyncd.lab.traffic.syn_flood import syn

_SOURCES = [f"10.0.1.{host}" for host in range(20, 250)]
_FRAMES = 8192
_BURST = 50
_PORT = 9


def _sum(header: bytes) -> bytes:
    """An IPv4 header with its length and its checksum."""
    header = header[:2] + struct.pack("!H", 40) + header[4:]
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + header[12:]


def main() -> None:
    mac, address = bytes.fromhex(sys.argv[1].replace(":", "")), sys.argv[2]
    rate, seconds = float(sys.argv[3]), float(sys.argv[4])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    chance = random.Random(1)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("c0", 0x0800))
    here = wire.getsockname()[4]
    frames = []
    for _ in range(_FRAMES):
        packet = syn(
            socket.inet_aton(chance.choice(_SOURCES)), socket.inet_aton(address),
            chance.randrange(1024, 65_536), _PORT, chance.getrandbits(32),
        )  # fmt: skip
        frames.append(mac + here + b"\x08\x00" + _sum(packet[:20]) + packet[20:])
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        while sent < now * rate:
            for frame in frames[sent % _FRAMES : sent % _FRAMES + _BURST]:
                with contextlib.suppress(OSError):
                    wire.send(frame)
            sent += _BURST
        time.sleep(_BURST / rate)


if __name__ == "__main__":
    main()
