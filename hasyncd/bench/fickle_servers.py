"""A program for the backends' namespace: one listener an address, opened and closed by turns.

Arguments: first address, count, port. Each line of its input is an address's place: whoever listens there stops,
whoever does not begins. So a health check finds a backend dead or alive without anything else changing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import selectors
import socket
import sys


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.create_server((address, port), backlog=16)
    listener.setblocking(False)
    return listener


def main() -> None:
    first, count, port = ipaddress.IPv4Address(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    ready = selectors.DefaultSelector()
    listeners: list[socket.socket | None] = [None] * count
    for place in range(count):
        listeners[place] = listener = _listen(str(first + place), port)
        ready.register(listener, selectors.EVENT_READ)
    ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if isinstance(key.fileobj, socket.socket):
                with contextlib.suppress(OSError):
                    key.fileobj.accept()[0].close()
                continue
            line = sys.stdin.readline()
            if not line:
                return
            place = int(line)
            if (closing := listeners[place]) is not None:
                ready.unregister(closing)
                closing.close()
                listeners[place] = None
                continue
            listeners[place] = opened = _listen(str(first + place), port)
            ready.register(opened, selectors.EVENT_READ)


if __name__ == "__main__":
    main()
