"""Two programs for round trips: `serve ADDRESS PORT` answers, `ask ADDRESS PORT COUNT` prints each time in us."""

from __future__ import annotations

import socket
import sys
import time


def serve(address: str, port: int) -> None:
    """Answers every datagram until it is killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, port))
        while True:
            data, sender = server.recvfrom(2048)
            server.sendto(data, sender)


def ask(address: str, port: int, count: int) -> None:
    """One question at a time; the first tenth warms up and is not told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((address, port))
        client.settimeout(2)
        for number in range(count + count // 10):
            began = time.perf_counter_ns()
            client.send(b"%d" % number)
            client.recv(64)
            if number >= count // 10:
                print((time.perf_counter_ns() - began) / 1000)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
