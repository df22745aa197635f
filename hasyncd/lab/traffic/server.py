"""One server: answers requests over TCP and UDP, saying who it is and whom it saw.

Task: {"server": id, "seed": n, "addresses": [address…], "tcp": [port…], "udp": port, "bulk": port, "forever": true
where it outlives the lab's process}. Reports {"ready": true} and, at its end, its counters. To people it speaks HTTP:
any request that begins with GET is answered in plain words.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from hasyncd.lab.traffic import process
from hasyncd.lab.traffic.bulk import BulkListener
from hasyncd.lab.traffic.message import HEADER, REQUEST_BYTES_MAX, REQUEST_MAGIC, Payloads, pack_identity

_READS_PER_EVENT = 64
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python 3.11 does not name it


class _Connection:
    __slots__ = ("buffer", "identity", "socket")

    def __init__(self, connected: socket.socket, identity: bytes) -> None:
        self.socket = connected
        self.identity = identity
        self.buffer = b""


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
            for descriptor, _ in self._epoll.poll():
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
            data = b""
        if not data:
            self._close(descriptor)
            return
        data = connection.buffer + data
        if data.startswith(b"GET "):
            self._answer_person(descriptor, data)
            return
        replies = []
        while len(data) >= HEADER.size:
            magic, length, _, _ = HEADER.unpack_from(data)
            if magic != REQUEST_MAGIC or length > REQUEST_BYTES_MAX:
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
        connection.buffer = data
        if replies:
            self._counters["requests"] += len(replies)
            try:
                connection.socket.sendall(b"".join(replies))
            except OSError:
                self._counters["resets"] += 1
                self._close(descriptor)

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
