"""The peer port: TCP connections in and out, heartbeats on every path, and the probe for a dead process.

Where the pair has keys, what leaves this file has been authenticated (proto/sync.md §11, proto/pair.md §8).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, NamedTuple

from hasyncd.config_values import Endpoint
from hasyncd.core.paths import SYNC
from hasyncd.runtime.heartbeat_path import HeartbeatPath, Route
from hasyncd.runtime.pair_keys import PairKeys
from hasyncd.runtime.tls import PeerRefused, TlsSession, Untrusted

_CONNECT_TIMEOUT_S: Final = 1.0
_HANDSHAKE_TIMEOUT_S: Final = 1.0
_HANDSHAKES_MAX: Final = 8
_HANDSHAKE_READ_BYTES: Final = 65_536
_BACKLOG: Final = 16
_SILENT_CONNECTIONS_MAX: Final = 8


class PeerPortError(Exception):
    """`peer.listen` cannot be used; says why."""


class Connection(NamedTuple):
    """A connected socket and, where the pair has keys, its finished handshake."""

    socket: socket.socket
    tls: TlsSession | None


class PeerPort:
    """Sockets of `peer.listen`, spoken to by `peer.address` alone.

    What arrives is handed on unparsed. A connection becomes a stream with its first byte (a probe that
    only connects says nothing) or, with `keys`, once its handshake has shown the peer's certificate.
    `keys` None: nothing is authenticated. `lans`: the heartbeats' paths beside this one.
    """

    def __init__(
        self, listen: Endpoint, peer: Endpoint, keys: PairKeys | None = None, lans: Sequence[Route] = ()
    ) -> None:
        self._keys = keys
        self._where = str(listen)
        self._wheres = [f"peer.listen {listen}", *(f"peer.{lan.name}.listen {lan.listen}" for lan in lans)]
        self._listen = (str(listen.address), listen.port)
        self._peer = (str(peer.address), peer.port)
        self._family = socket.AF_INET if listen.address.version == 4 else socket.AF_INET6
        self.counters: Counter[str] = Counter()
        self._listener: socket.socket | None = None
        self._paths = [
            HeartbeatPath(route, keys, self.counters) for route in (Route(SYNC, listen, peer), *lans)
        ]
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}  # oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes: dict[asyncio.Task[None], None] = {}  # of accepted connections, oldest first

    def open(
        self,
        *,
        on_connection: Callable[[Connection], None],
        on_datagram: Callable[[bytes, str], None],
        on_untrusted: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Binds all sockets; a datagram is handed on with the name of its path; `on_untrusted` hears why something
        was not taken. Raises PeerPortError."""
        self._on_connection = on_connection
        self._on_untrusted = on_untrusted
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(self._listen)
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self.close()
            raise PeerPortError(f"peer.listen {self._where}: {error.strerror}") from error
        self._loop.add_reader(self._listener.fileno(), self._accept)
        for path, where in zip(self._paths, self._wheres, strict=True):
            try:
                path.open(on_datagram, on_untrusted)
            except OSError as error:
                self.close()
                raise PeerPortError(f"{where}: {error.strerror}") from error

    def close(self) -> None:
        """Closes the sockets. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._silent):
            self._drop(connection)
        if self._listener is not None and self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for path in self._paths:
            path.close()

    def send_datagram(self, payload: bytes, path: str | None = None) -> None:
        """Sends one heartbeat on every path, or on one alone."""
        sealed = self._paths[0].seal(payload)
        for each in self._paths:
            if path is None or each.name == path:
                each.send(sealed)

    def heartbeats(self) -> list[tuple[str, int, int]]:
        """(path, heartbeats sent by it, heartbeats that came by it) since the start."""
        return [(path.name, path.sent, path.received) for path in self._paths]

    def connect(self, on_done: Callable[[Connection | None], None]) -> Callable[[], object]:
        """Connects to the peer; `on_done` gets the connection or None. What is returned gives the attempt up:
        then `on_done` is not called."""
        return self._spawn(self._connect(on_done)).cancel

    def probe(self, on_refused: Callable[[], None]) -> None:
        """Tries to connect; calls `on_refused` only when the peer's kernel says that nobody listens.

        The SYN leaves before this returns, and the answer is often there by then: a takeover waits for it.
        """
        connection = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.bind((self._listen[0], 0))
            error = connection.connect_ex(self._peer)
        except OSError:
            error = errno.EADDRNOTAVAIL
        if error == errno.EINPROGRESS:
            self._spawn(self._await_answer(connection, on_refused))
            return
        connection.close()
        if error == errno.ECONNREFUSED:
            self._loop.call_soon(on_refused)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _open_connection(self) -> socket.socket:
        connection = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.bind((self._listen[0], 0))
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self._loop.sock_connect(connection, self._peer)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _connect(self, on_done: Callable[[Connection | None], None]) -> None:
        connection = None
        with contextlib.suppress(OSError, TimeoutError):
            connection = await self._authenticate(await self._open_connection(), accepted=False)
        on_done(connection)

    async def _authenticate(self, connection: socket.socket, *, accepted: bool) -> Connection | None:
        """The handshake, bounded in time; None where the other side is not the peer, or does not take us.
        Closes the socket then. Raises OSError, TimeoutError."""
        if self._keys is None:
            return Connection(connection, None)
        session = TlsSession(self._keys, accepted=accepted)
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                await self._shake_hands(connection, session)
        except (Untrusted, PeerRefused) as error:
            connection.close()
            self.count_untrusted(error)
            return None
        except BaseException:
            connection.close()
            raise
        return Connection(connection, session)

    async def _shake_hands(self, connection: socket.socket, session: TlsSession) -> None:
        received, done = b"", False
        while not done:
            try:
                done = session.shake(received)
            finally:
                # Also the alert that tells the other side why.
                if answer := session.outgoing():
                    await self._loop.sock_sendall(connection, answer)
            if not done:
                received = await self._loop.sock_recv(connection, _HANDSHAKE_READ_BYTES)
                if not received:
                    raise ConnectionAbortedError

    def count_untrusted(self, error: Untrusted | PeerRefused) -> None:
        """Somebody is not who he must be, or we are not to him."""
        if isinstance(error, Untrusted):
            self.counters["rejected_unauthenticated"] += 1
            self._on_untrusted(str(error))
        else:
            self.counters["refused_by_peer"] += 1
            self._on_untrusted(f"the peer refuses our certificate: {error}")

    async def _await_answer(self, connection: socket.socket, on_refused: Callable[[], None]) -> None:
        answered = asyncio.Event()
        self._loop.add_writer(connection.fileno(), answered.set)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await answered.wait()
            refused = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        except (OSError, TimeoutError):
            refused = False
        finally:
            self._loop.remove_writer(connection.fileno())
            connection.close()
        if refused:
            on_refused()

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
        if self._keys is None:
            self._on_connection(Connection(connection, None))
            return
        if len(self._handshakes) >= _HANDSHAKES_MAX:
            next(iter(self._handshakes)).cancel()  # the oldest, as with silent ones
        task = self._spawn(self._welcome(connection))
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            welcome = await self._authenticate(connection, accepted=True)
        except (OSError, TimeoutError):
            self.counters["handshakes_unfinished"] += 1
            return
        if welcome is not None:
            self._on_connection(welcome)

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
