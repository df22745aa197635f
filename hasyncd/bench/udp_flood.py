"""A program for the client's namespace: 64-byte frames from 1,024 ports, in bursts of 16 a port.

Arguments: address, port, seconds. The kernel cuts each burst (UDP_SEGMENT), so that one process on one core
offers as much as a gateway can take.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

_PAYLOAD = 18  # 14 + 20 + 8 + 18 = 60 bytes, 64 with the frame check
_BURST = 16
_PORTS = 1024
_SOL_UDP, _UDP_SEGMENT = 17, 103


def main() -> None:
    address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sockets = []
    for _ in range(_PORTS):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(_SOL_UDP, _UDP_SEGMENT, _PAYLOAD)
        one.connect((address, port))
        sockets.append(one)
    burst = bytes(_PAYLOAD * _BURST)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for one in sockets:
            with contextlib.suppress(OSError):  # no buffer, or an ICMP error: a flood does not mind
                one.send(burst)


if __name__ == "__main__":
    main()
