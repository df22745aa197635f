"""One long TCP transfer with a checksum at both ends.

The side that connects says what it wants in one line: `PUT bytes seed` or `GET bytes seed`. The sender sends
exactly so many bytes of the stream that the seed names; the receiver hashes what arrives; then the listener
writes one JSON line, `{"sha256", "bytes", "silences"}`, about its own side, and the connector reports both.
Blocking sockets, one thread each.

Task of the connecting process: {"target": [address, port], "source": address, "verb": "PUT"|"GET", "bytes": n,
"seed": n}. Reports {"moved": n} fifty times a second and, at the end, {"finished": true, "mine", "theirs", "error"}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import threading
from typing import Any

from hasyncd.lab.traffic import process

_CHUNK = 256 * 1024
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
        self._hash = hashlib.sha256()
        self._last_ns = process.now_ns()

    def send(self, connected: socket.socket, seed: int) -> None:
        """Sends `bytes_total` bytes of the stream of `seed`."""
        block = random.Random(seed).randbytes(_CHUNK + 4096)
        while self.moved < self.bytes_total:
            # The window slides by an odd step, so that no two of 4,096 chunks in a row (1 GiB) are alike.
            offset = (self.moved // _CHUNK) * 4_093 % 4_096
            chunk = memoryview(block)[offset : offset + min(_CHUNK, self.bytes_total - self.moved)]
            connected.sendall(chunk)
            self._took(chunk)

    def receive(self, connected: socket.socket) -> None:
        """Receives `bytes_total` bytes. Raises ConnectionError when the stream ends early."""
        while self.moved < self.bytes_total:
            data = connected.recv(min(_CHUNK, self.bytes_total - self.moved))
            if not data:
                raise ConnectionError(f"the stream ended after {self.moved} bytes")
            self._took(data)

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
                side.send(connected, seed)
            connected.sendall(json.dumps(side.summary()).encode() + b"\n")


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
    side = Side(task["bytes"])
    outcome: dict[str, Any] = {"finished": True, "theirs": None, "error": None, "opened_ns": process.now_ns()}
    done = threading.Event()
    ticker = threading.Thread(target=_report_progress, args=(side, done), daemon=True)
    try:
        with socket.create_connection(tuple(task["target"]), 30, (task["source"], 0)) as connected:
            connected.settimeout(_SILENCE_MAX_S)
            outcome["near"] = connected.getsockname()
            ticker.start()
            connected.sendall(f"{task['verb']} {task['bytes']} {task['seed']}\n".encode())
            if task["verb"] == "PUT":
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
