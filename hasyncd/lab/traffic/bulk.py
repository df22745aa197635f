"""One long TCP transfer with a checksum at both ends.

The side that connects says what it wants in one line: `PUT bytes seed` or `GET bytes seed`. The sender sends
so many bytes of the stream that the seed names, in chunks: four bytes of length (big-endian), then the chunk;
a length of 0 is the end. The receiver hashes what arrives; then the listener writes one JSON line,
`{"sha256", "bytes", "silences"}`, about its own side, and the connector reports both. Blocking sockets, one
thread each.

How long a fault lets one wait is not known beforehand, so a transfer may be told to end before its bytes are through:
the connector then sends no further chunk, or closes its half, at which the listener sends none.

Task of the connecting process: {"target": [address, port], "source": address, "verb": "PUT"|"GET", "bytes": n,
"seed": n}; order: {"do": "finish"}. Reports {"moved": n} fifty times a second and, at the end,
{"finished": true, "mine", "theirs", "error"}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import select
import socket
import struct
import threading
from typing import Any

from hasyncd.lab.traffic import process

_CHUNK = 256 * 1024
_LENGTH = struct.Struct("!I")
_SILENCE_MAX_S = 10
"""A transfer that stands still for so long has stalled; as long as the window of the judge."""
_REPORT_NS = 20_000_000


class Side:
    """One end of a transfer: what it moved, its checksum, when it last made progress."""

    def __init__(self, bytes_total: int) -> None:
        self.bytes_total = bytes_total
        self.moved = 0
        self.progress: list[tuple[int, int]] = []
        """(from, to) ns: the silences longer than 20 ms."""
        self.told_to_end = threading.Event()
        """A sender looks at it before each chunk."""
        self._hash = hashlib.sha256()
        self._last_ns = process.now_ns()

    def send(self, connected: socket.socket, seed: int) -> None:
        """Sends `bytes_total` bytes of the stream of `seed`, or less when it is told to end."""
        block = random.Random(seed).randbytes(_CHUNK + 4096)
        while self.moved < self.bytes_total and not self.told_to_end.is_set():
            # The window slides by an odd step, so that no two of 4,096 chunks in a row (1 GiB) are alike.
            offset = (self.moved // _CHUNK) * 4_093 % 4_096
            chunk = memoryview(block)[offset : offset + min(_CHUNK, self.bytes_total - self.moved)]
            connected.sendall(_LENGTH.pack(len(chunk)))
            connected.sendall(chunk)
            self._took(chunk)
        connected.sendall(_LENGTH.pack(0))

    def receive(self, connected: socket.socket) -> None:
        """Receives chunks until the empty one. Raises ConnectionError when the stream ends early."""
        while length := self._receive_length(connected):
            while length:
                data = connected.recv(min(_CHUNK, length))
                if not data:
                    raise self._ended_early()
                self._took(data)
                length -= len(data)

    def _receive_length(self, connected: socket.socket) -> int:
        head = b""
        while len(head) < _LENGTH.size:
            more = connected.recv(_LENGTH.size - len(head))
            if not more:
                raise self._ended_early()
            head += more
        (length,) = _LENGTH.unpack(head)
        if length > min(_CHUNK, self.bytes_total - self.moved):
            raise ConnectionError(f"after {self.moved} bytes came a chunk of {length}, which nobody sends")
        return int(length)

    def _ended_early(self) -> ConnectionError:
        return ConnectionError(f"the stream ended after {self.moved} bytes")

    def _took(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.moved += len(data)
        now = process.now_ns()
        if now - self._last_ns > 20_000_000:
            self.progress.append((self._last_ns, now))
        self._last_ns = now

    def summary(self) -> dict[str, Any]:
        """What this side can say at its end."""
        return {"sha256": self._hash.hexdigest(), "bytes": self.moved, "silences": self.progress}


class BulkListener:
    """The listening side, in threads of the server's process (hashing and socket calls release the GIL)."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=16)

    def start(self) -> None:
        """Accepts in the background until the process ends."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connected, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        with connected, contextlib.suppress(OSError, ValueError):
            request = _read_line(connected).split()
            verb, count, seed = request[0], int(request[1]), int(request[2])
            side = Side(count)
            if verb == b"PUT":
                side.receive(connected)
            else:
                threading.Thread(target=_end_with_its_half, args=(connected, side), daemon=True).start()
                side.send(connected, seed)
            connected.sendall(json.dumps(side.summary()).encode() + b"\n")


def _end_with_its_half(connected: socket.socket, side: Side) -> None:
    """Tells a sender to end when the other side closes its half, or the whole connection has ended."""
    with contextlib.suppress(OSError):
        connected.recv(1)
    side.told_to_end.set()


def _end_when_ordered(connected: socket.socket, side: Side, sends: bool) -> None:
    """Waits for the order to finish, or for the lab to be gone."""
    orders = process.Orders()
    while not orders.closed and not any(order["do"] == "finish" for order in orders.read()):
        select.select([0], [], [])
    side.told_to_end.set()
    with contextlib.suppress(OSError):  # the transfer may have ended meanwhile
        if not sends:
            connected.shutdown(socket.SHUT_WR)


def _read_line(connected: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = connected.recv(1)
        if not byte or len(line) > 1 << 20:
            raise ConnectionError("the stream ended before its line")
        line += byte
    return line


def transfer(task: dict[str, Any]) -> None:
    """The connecting side: runs one transfer and reports it; an error is part of the report."""
    side, sends = Side(task["bytes"]), task["verb"] == "PUT"
    outcome: dict[str, Any] = {"finished": True, "theirs": None, "error": None, "opened_ns": process.now_ns()}
    done = threading.Event()
    ticker = threading.Thread(target=_report_progress, args=(side, done), daemon=True)
    try:
        with socket.create_connection(tuple(task["target"]), 30, (task["source"], 0)) as connected:
            connected.settimeout(_SILENCE_MAX_S)
            outcome["near"] = connected.getsockname()
            ticker.start()
            threading.Thread(target=_end_when_ordered, args=(connected, side, sends), daemon=True).start()
            connected.sendall(f"{task['verb']} {task['bytes']} {task['seed']}\n".encode())
            if sends:
                side.send(connected, task["seed"])
            else:
                side.receive(connected)
            outcome["theirs"] = json.loads(_read_line(connected))
    except (OSError, ValueError) as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
    done.set()
    if ticker.is_alive():
        ticker.join()
    process.report(
        outcome | {"mine": side.summary(), "ended_ns": process.now_ns(), "cpu_s": process.cpu_seconds()}
    )


def _report_progress(side: Side, done: threading.Event) -> None:
    while not done.wait(_REPORT_NS / 1e9):
        process.report({"moved": side.moved})


if __name__ == "__main__":
    transfer(process.start())
