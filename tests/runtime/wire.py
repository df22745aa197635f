"""A cable between two nodes that a test can disturb: it relays stream and heartbeats between two addresses.

Node A's peer is `near`, node B's peer is `far`; what A says to `near` reaches B from `far`, and the reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from tests.runtime.pair import PORT

_CHUNK = 65_536
_BUFFER_BYTES = 8192
"""Small, so that a stalled stream is felt soon."""


class Wire:
    def __init__(self, node_a: str, node_b: str, near: str, far: str) -> None:
        self._ways = ((near, far, node_b), (far, near, node_a))
        self._reading = asyncio.Event()
        self._reading.set()
        self._servers: list[socket.socket] = []
        self._datagrams: dict[str, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.tamper: Callable[[bytes], bytes] | None = None
        """What becomes of the next bytes of a stream on their way."""
        self.cut_after: int | None = None
        """So many more bytes of streams pass, then every one of them is cut, once."""

    def stall_stream(self) -> None:
        """Nobody reads the streams any more; heartbeats go on."""
        self._reading.clear()

    def resume_stream(self) -> None:
        self._reading.set()

    async def open(self) -> None:
        for here, _, _ in self._ways:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            listener.bind((here, PORT))
            listener.listen()
            self._servers.append(listener)
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            datagrams.bind((here, PORT))
            self._datagrams[here] = datagrams
        for listener, (here, there, target) in zip(self._servers, self._ways, strict=True):
            self._spawn(self._accept(listener, there, target))
            ends = self._datagrams[here], self._datagrams[there]
            asyncio.get_running_loop().add_reader(ends[0].fileno(), self._relay_datagrams, *ends, target)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._datagrams.values():
            asyncio.get_running_loop().remove_reader(each.fileno())
        for each in (*self._servers, *self._datagrams.values()):
            each.close()

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket, source: str, target: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._spawn(self._relay_stream(connection, source, target))

    async def _relay_stream(self, one: socket.socket, source: str, target: str) -> None:
        other = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        halves: list[asyncio.Future[None]] = []
        try:
            other.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(other, (target, PORT))
            halves += [
                asyncio.ensure_future(self._copy(one, other)),
                asyncio.ensure_future(self._copy(other, one)),
            ]
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the one at the far end refuses: the near end hears of it by the close below
        finally:
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)
            one.close()
            other.close()

    async def _copy(self, source: socket.socket, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._reading.wait()
            data = await loop.sock_recv(source, _CHUNK)
            if not data:
                return
            await self._reading.wait()
            if self.tamper is not None:
                tamper, self.tamper = self.tamper, None
                data = tamper(data)
            if self.cut_after is not None:
                self.cut_after -= len(data)
                if self.cut_after < 0:
                    self.cut_after = None
                    return
            await loop.sock_sendall(target, data)

    def _relay_datagrams(self, here: socket.socket, there: socket.socket, target: str) -> None:
        with contextlib.suppress(OSError):
            there.sendto(here.recv(2048), (target, PORT))
