"""The peer port: TCP connections in and out, heartbeat datagrams, and the probe for a dead process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Final

from hasyncd.config_values import Endpoint

_CONNECT_TIMEOUT_S: Final = 1.0
_BACKLOG: Final = 16
_HEARTBEAT_BYTES_MAX: Final = 512
_DATAGRAMS_PER_TURN: Final = 64
_SILENT_CONNECTIONS_MAX: Final = 8


class PeerPortError(Exception):
    """`peer.listen` cannot be used; says why."""


class PeerPort:
    """Sockets of `peer.listen`, spoken to by `peer.address` alone.

    What arrives is handed on unparsed. A connection becomes a stream with its first byte: a probe that
    only connects says nothing.
    """

    def __init__(self, listen: Endpoint, peer: Endpoint) -> None:
        self._listen = (str(listen.address), listen.port)
        self._peer = (str(peer.address), peer.port)
        self.counters: Counter[str] = Counter()
        self._listener: socket.socket | None = None
        self._datagrams: socket.socket | None = None
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}  # oldest first
        self._tasks: set[asyncio.Task[None]] = set()

    def open(
        self,
        *,
        on_connection: Callable[[socket.socket], None],
        on_datagram: Callable[[bytes], None],
    ) -> None:
        """Binds both sockets. Raises PeerPortError."""
        self._on_connection, self._on_datagram = on_connection, on_datagram
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(self._listen)
            self._listener.listen(_BACKLOG)
            self._datagrams.bind(self._listen)
        except OSError as error:
            self.close()
            address, port = self._listen
            raise PeerPortError(f"peer.listen {address}:{port}: {error.strerror}") from error
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._loop.add_reader(self._datagrams.fileno(), self._receive)

    def close(self) -> None:
        """Closes the sockets. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._silent):
            self._drop(connection)
        for port in (self._listener, self._datagrams):
            if port is not None and port.fileno() >= 0:
                self._loop.remove_reader(port.fileno())
                port.close()

    def send_datagram(self, payload: bytes) -> None:
        """Sends one heartbeat; what cannot leave is lost, as on a wire, and counted."""
        if self._datagrams is None or self._datagrams.fileno() < 0:
            return
        try:
            self._datagrams.sendto(payload, self._peer)
        except OSError as error:
            # ECONNREFUSED-like news of an earlier datagram is no evidence: only the stream's probe is.
            self.counters[f"heartbeat_send_{error.errno}"] += 1

    def connect(self, on_done: Callable[[socket.socket | None], None]) -> Callable[[], object]:
        """Connects to the peer; `on_done` gets the socket or None. What is returned gives the attempt up:
        then `on_done` is not called."""
        return self._spawn(self._connect(on_done)).cancel

    def probe(self, on_refused: Callable[[], None]) -> None:
        """Tries to connect; calls `on_refused` only when the peer's kernel says that nobody listens."""
        self._spawn(self._probe(on_refused))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _open_connection(self) -> socket.socket:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.bind((self._listen[0], 0))
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self._loop.sock_connect(connection, self._peer)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _connect(self, on_done: Callable[[socket.socket | None], None]) -> None:
        connection = None
        with contextlib.suppress(OSError, TimeoutError):
            connection = await self._open_connection()
        on_done(connection)

    async def _probe(self, on_refused: Callable[[], None]) -> None:
        try:
            connection = await self._open_connection()
        except ConnectionRefusedError:
            on_refused()
        except (OSError, TimeoutError):
            pass
        else:
            connection.close()

    def _accept(self) -> None:
        assert self._listener is not None, "called by its reader"
        try:
            connection, address = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if address[0] != self._peer[0]:
            self.counters["connections_refused"] += 1
            connection.close()
            return
        if len(self._silent) >= _SILENT_CONNECTIONS_MAX:
            # The oldest goes: whoever holds silent connections must not keep the peer itself out.
            self._expire(next(iter(self._silent)))
        timer = self._loop.call_later(_CONNECT_TIMEOUT_S, self._expire, connection)
        self._silent[connection] = timer
        self._loop.add_reader(connection.fileno(), self._first_byte, connection)

    def _first_byte(self, connection: socket.socket) -> None:
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self._drop(connection)
            return
        self._forget(connection)
        self._on_connection(connection)

    def _expire(self, connection: socket.socket) -> None:
        self.counters["connections_silent"] += 1
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        """It has said something, or never will."""
        self._silent.pop(connection).cancel()
        self._loop.remove_reader(connection.fileno())

    def _receive(self) -> None:
        assert self._datagrams is not None, "called by its reader"
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                payload, address = self._datagrams.recvfrom(_HEARTBEAT_BYTES_MAX + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error for a datagram of ours
            if address[0] != self._peer[0]:
                self.counters["datagrams_refused"] += 1
                continue
            self._on_datagram(payload)
