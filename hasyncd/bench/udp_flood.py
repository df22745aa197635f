"""A program for the client's namespace: 64-byte frames from 1,024 ports, in bursts of 16 a port.

Arguments: address, port, seconds, and packets a second (without: all it can). The kernel cuts each burst (UDP_SEGMENT),
so that one process on one core offers as much as a gateway can take.
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
_ROUND_BURSTS = 4
"""So many at once where a rate is wanted: 64 packets."""
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
    a_round_s = _ROUND_BURSTS * _BURST / float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    began = time.monotonic()
    deadline, rounds = began + seconds, 0
    while time.monotonic() < deadline:
        for first in range(0, _PORTS, _ROUND_BURSTS):
            for one in sockets[first : first + _ROUND_BURSTS]:
                with contextlib.suppress(OSError):  # no buffer, or an ICMP error: a flood does not mind
                    one.send(burst)
            rounds += 1
            if (ahead_s := began + rounds * a_round_s - time.monotonic()) > 0 and a_round_s:
                time.sleep(ahead_s)


if __name__ == "__main__":
    main()
