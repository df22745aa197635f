"""One server: answers requests over TCP and UDP, saying who it is and whom it saw.

Task: {"server": id, "seed": n, "addresses": [address…], "tcp": [port…], "udp": port, "bulk": port, "forever": true
where it outlives the lab's process}. Reports {"ready": true} and, at its end, its counters. To people it speaks HTTP:
any request that begins with GET is answered in plain words.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from typing import Any

from hasyncd.lab.traffic import process
from hasyncd.lab.traffic.bulk import BulkListener
from hasyncd.lab.traffic.message import (
    FAREWELL_MAGIC,
    HEADER,
    MORE_MAGIC,
    REQUEST_BYTES_MAX,
    REQUEST_MAGICS,
    Payloads,
    pack_identity,
)

_READS_PER_EVENT = 64
_PUSH_NS = 150_000_000
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python 3.11 does not name it


class _Connection:
    __slots__ = ("buffer", "identity", "mute", "pushed", "socket")

    def __init__(self, connected: socket.socket, identity: bytes) -> None:
        self.socket = connected
        self.identity = identity
        self.buffer = b""
        self.mute = False
        """One FIN was said: what still comes is checked, and not answered."""
        self.pushed: tuple[int, int] | None = None
        """(flow, sequence) of the newest answer to a client that wants pushes after its FIN."""


class Server:
    """One process's epoll loop over its listeners, its connections and its datagram sockets."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._id: int = task["server"]
        self._payloads = Payloads(task["seed"])
        self._connections: dict[int, _Connection] = {}
        self._counters = {"accepted": 0, "requests": 0, "corrupt": 0, "resets": 0}
        self._listeners: dict[int, socket.socket] = {}
        self._datagrams: dict[int, socket.socket] = {}
        for address in task["addresses"]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port in task["tcp"]:
                listener = socket.create_server((address, port), family=family, backlog=16_384)
                listener.setblocking(False)
                self._listeners[listener.fileno()] = listener
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            datagrams.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
            datagrams.bind((address, task["udp"]))
            datagrams.setblocking(False)
            self._datagrams[datagrams.fileno()] = datagrams
        self._identities: dict[tuple[str, int], bytes] = {}
        self._bulk = [BulkListener(address, task["bulk"]) for address in task["addresses"]]
        self._pushes: deque[tuple[int, int, _Connection]] = deque()
        """(due, descriptor, connection); all have the same pace, so they stay in order."""
        self._epoll = select.epoll()
        for readable in (*self._listeners, *self._datagrams):
            self._epoll.register(readable, select.EPOLLIN)
        if not task.get("forever"):
            self._epoll.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Serves until standard input closes."""
        orders = process.Orders()
        for bulk in self._bulk:
            bulk.start()
        process.report({"ready": True})
        while not orders.closed:
            for descriptor, _ in self._epoll.poll(self._push_due()):
                if descriptor in self._datagrams:
                    self._answer_datagrams(self._datagrams[descriptor])
                elif descriptor in self._listeners:
                    self._accept(self._listeners[descriptor])
                elif descriptor == 0:
                    orders.read()
                else:
                    self._answer_stream(descriptor)
        process.report(self._counters | {"cpu_s": process.cpu_seconds()})

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_READS_PER_EVENT):
            try:
                connected, (address, port, *_) = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._counters["accepted"] += 1
            self._connections[connected.fileno()] = _Connection(
                connected, pack_identity(self._id, address, port)
            )
            self._epoll.register(connected, select.EPOLLIN)

    def _answer_stream(self, descriptor: int) -> None:
        connection = self._connections[descriptor]
        try:
            data = connection.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            self._counters["resets"] += 1
            connection.pushed, data = None, b""
        if not data:
            if connection.pushed is not None and not connection.mute:
                self._begin_pushes(descriptor, connection)
            else:
                self._close(descriptor)
            return
        data = connection.buffer + data
        if data.startswith(b"GET "):
            self._answer_person(descriptor, data)
            return
        replies = []
        farewell = False
        while len(data) >= HEADER.size:
            magic, length, flow, sequence = HEADER.unpack_from(data)
            if magic not in REQUEST_MAGICS or length > REQUEST_BYTES_MAX:
                self._counters["corrupt"] += 1
                self._close(descriptor)
                return
            if len(data) < length:
                break
            reply = self._payloads.reply_to(data[:length], connection.identity)
            if reply is None:
                self._counters["corrupt"] += 1
                self._close(descriptor)
                return
            replies.append(reply)
            data = data[length:]
            if magic == MORE_MAGIC:
                connection.pushed = flow, sequence
            farewell = farewell or magic == FAREWELL_MAGIC
        connection.buffer = data
        if replies:
            self._counters["requests"] += len(replies)
            if not connection.mute:
                self._send(descriptor, connection, b"".join(replies))
        if farewell and descriptor in self._connections:
            connection.mute = True
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)

    def _send(self, descriptor: int, connection: _Connection, data: bytes) -> bool:
        try:
            connection.socket.sendall(data)
        except OSError:
            self._counters["resets"] += 1
            self._close(descriptor)
            return False
        return True

    def _begin_pushes(self, descriptor: int, connection: _Connection) -> None:
        connection.mute = True
        self._epoll.modify(descriptor, 0)  # its end would be told again and again; a reset is still
        self._pushes.append((process.now_ns() + _PUSH_NS, descriptor, connection))

    def _push_due(self) -> float | None:
        """Sends the pushes that are due; seconds until the next one."""
        while self._pushes:
            due, descriptor, connection = self._pushes[0]
            if due > (now := process.now_ns()):
                return (due - now) / 1e9
            self._pushes.popleft()
            if self._connections.get(descriptor) is not connection or connection.pushed is None:
                continue
            flow, sequence = connection.pushed
            connection.pushed = flow, sequence + 1
            if self._send(descriptor, connection, self._payloads.push(flow, sequence + 1, now)):
                self._pushes.append((due + _PUSH_NS, descriptor, connection))
        return None

    def _answer_person(self, descriptor: int, data: bytes) -> None:
        connection = self._connections[descriptor]
        if b"\r\n\r\n" not in data:
            connection.buffer = data[-4096:]
            return
        address, port = connection.socket.getpeername()[:2]
        seen = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        body = f"server {self._id} saw {seen}\n"
        with contextlib.suppress(OSError):
            head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.socket.sendall((head + body).encode())
        self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        self._connections.pop(descriptor).socket.close()

    def _answer_datagrams(self, datagrams: socket.socket) -> None:
        for _ in range(_READS_PER_EVENT):
            try:
                request, peer = datagrams.recvfrom(2048)
            except OSError:
                return
            identity = self._identities.get(peer)
            if identity is None:
                identity = self._identities[peer] = pack_identity(self._id, *peer[:2])
            reply = self._payloads.reply_to(request, identity)
            if reply is None:
                self._counters["corrupt"] += 1
                continue
            self._counters["requests"] += 1
            with contextlib.suppress(OSError):
                datagrams.sendto(reply, peer)


if __name__ == "__main__":
    Server(process.start()).run()
