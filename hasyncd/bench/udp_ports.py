"""A program for the client's namespace: one datagram from each of many ports, of a source that need not be its own.

Arguments: source, destination, ports (`first-last` in order, or `COUNT:SEED` at random, none twice). Prints the
microseconds that one took: on veth the gateway's whole part is done inside the sender's system call.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time

_DISCARD_PORT = 9


def main() -> None:
    source, destination, wanted = sys.argv[1:4]
    if "-" in wanted:
        first, last = map(int, wanted.split("-"))
        ports = list(range(first, last + 1))
    else:
        count, seed = map(int, wanted.split(":"))
        ports = random.Random(seed).sample(range(1024, 65536), count)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0, socket.inet_aton(source), socket.inet_aton(destination),
    )  # fmt: skip
    packets = [header + struct.pack("!HHHH", port, _DISCARD_PORT, 8, 0) for port in ports]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.connect((destination, 0))
        began = time.perf_counter_ns()
        for packet in packets:
            raw.send(packet)
        print((time.perf_counter_ns() - began) / 1000 / len(packets))


if __name__ == "__main__":
    main()
