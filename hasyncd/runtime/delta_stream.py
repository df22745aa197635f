"""One TCP connection between the nodes, as bytes; encrypted where the pair has keys (proto/sync.md §11).

A plain non-blocking socket instead of a transport: commit = "emit" is a statement about what write(2) has
accepted, and a transport would not tell (proto/sync.md §6). Under TLS that is the whole record.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from hasyncd.runtime.tls import TlsSession

_READ_BYTES: Final = 262_144
_READS_PER_TURN: Final = 4
_FLUSH_TIMEOUT_S: Final = 1.0


class DeltaStream:
    """Owns a connected socket until `close` or until the peer ends it.

    `on_data` gets bytes as they come, `on_end` is called once when the peer or the kernel ends the
    connection (never after `close`), `on_drained` when write(2) has taken everything that was queued.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_data: Callable[[DeltaStream, bytes], None],
        on_end: Callable[[DeltaStream], None],
        on_drained: Callable[[], None],
        tls: TlsSession | None = None,
    ) -> None:
        """`tls`: the session of a finished handshake; what came with its end is handed on from the loop."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._on_data, self._on_end, self._on_drained = on_data, on_end, on_drained
        self._queue = bytearray()
        self._closing = False
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._read)
        self.tls = tls
        if tls is not None:
            self._loop.call_soon(self._take, b"")

    @property
    def backlog(self) -> int:
        """Bytes that write(2) has not accepted yet."""
        return len(self._queue)

    def write(self, data: bytes) -> None:
        """Writes as much as the kernel takes now and the rest when it can. Nothing after `close`."""
        if not self._open or self._closing:
            return
        if self.tls is not None:
            data = self.tls.encrypt(data)
        if self._queue:
            self._queue += data
            return
        sent = self._send(data)
        if sent < len(data) and self._open:
            self._queue += memoryview(data)[sent:]
            self._loop.add_writer(self._socket.fileno(), self._write_on)

    def close(self, *, flush: bool = False) -> None:
        """Ends the connection; with `flush` after what is queued was written, or a second."""
        if not self._open:
            return
        if flush and self._queue:
            self._closing = True
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(_FLUSH_TIMEOUT_S, self._shut)
            return
        self._shut()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # The reading side learns of it, after whatever had still arrived.
            return len(data)

    def _write_on(self) -> None:
        sent = self._send(self._queue)
        del self._queue[:sent]
        if self._queue:
            return
        self._loop.remove_writer(self._socket.fileno())
        if self._closing:
            self._shut()
        else:
            self._on_drained()

    def _read(self) -> None:
        """Reads until nothing is left: uvloop gives up a descriptor that reported an error (a reset), and calls
        only this once for everything that had still arrived, and for the end behind it."""
        for _ in range(_READS_PER_TURN):
            if not self._open or self._closing:
                return
            try:
                data = self._socket.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._end()
                return
            self._take(data)
        self._loop.call_soon(self._read)

    def _take(self, data: bytes) -> None:
        """Hands on what arrived, decrypted. What is not genuine ends the connection."""
        if not self._open or self._closing:
            return
        if self.tls is None:
            self._on_data(self, data)
            return
        plain = self.tls.decrypt(data)
        if plain:
            self._on_data(self, plain)
        if self.tls.ended:
            self._end()

    def _end(self) -> None:
        if self._open and not self._closing:
            self._shut()
            self._on_end(self)

    def _shut(self) -> None:
        if not self._open:
            return
        self._open = False
        self._queue.clear()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
