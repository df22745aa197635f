"""The control socket: one JSON line asks, JSON lines answer, an end line closes.

The server knows nothing of the daemon: it is given one handler a verb. A handler is called with the
request (`{"verb": …, …}`) and yields the objects of the answer. It may end with a `Conclusion` (raised
from anywhere in it) to say what the operator's exit code and message are; else both are good.

Whoever may open the socket is an operator (mode 0600), but may still be wrong: requests are bounded in
size and time, connections in number, and an answer stops when its reader goes away or stops reading. The
event loop is shared with the data path, so a long answer yields to it every few objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

REQUEST_BYTES_MAX: Final = 65_536
REQUEST_TIMEOUT_S: Final = 10.0
"""From connecting until the request is there whole."""
STALL_TIMEOUT_S: Final = 30.0
"""How long a reader may leave its socket full."""
CONNECTIONS_MAX: Final = 32
OBJECTS_PER_TURN: Final = 32
"""Objects written between two turns of the event loop."""
CLOSE_POLL_S: Final = 1.0

EXIT_GOOD: Final = 0
EXIT_AGAINST: Final = 1
EXIT_USAGE: Final = 2

Request = dict[str, Any]
Item = dict[str, Any] | bytes
"""One object of an answer, or whole lines of them that are JSON already."""
Handler = Callable[[Request], AsyncIterator[Item]]

_log = structlog.get_logger("hasyncd.control")


class Conclusion(Exception):
    """Ends an answer: what the operator's command says and exits with."""

    def __init__(self, message: str, exit_code: int = EXIT_AGAINST) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class SocketTaken(Exception):
    """Another daemon answers at the socket."""


class ControlServer:
    """Serves one Unix socket from `start` to `stop`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Opens the socket; from here on the daemon counts as ready.

        Raises:
            SocketTaken: a living daemon has it. One that a dead daemon left behind is replaced.
            OSError: the path cannot be used.
        """
        listener = _bind(self._path)
        try:
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listener, limit=REQUEST_BYTES_MAX
            )
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Ends every answer that is under way and removes the socket. Harmless when not started."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio serves every connection in a task"
        crowded = len(self._answers) >= CONNECTIONS_MAX
        self._answers.add(task)
        try:
            if crowded:
                await _write(writer, _end("too many connections to the control socket", EXIT_AGAINST))
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError):
            pass  # the reader is gone or stuck; there is nobody to tell
        except asyncio.CancelledError:
            pass  # stop() ended it; asyncio would only log the cancellation of its own task
        finally:
            self._answers.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request, handler = self._judge(await _read_line(reader))
        except Conclusion as refusal:
            await _write(writer, _end(refusal.message, refusal.exit_code))
            return
        answer = asyncio.ensure_future(_answer(writer, handler, request))
        departure = asyncio.ensure_future(_wait_for_departure(reader, writer))
        try:
            await asyncio.wait((answer, departure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            departure.cancel()
            answer.cancel()
            await asyncio.gather(answer, departure, return_exceptions=True)

    def _judge(self, line: bytes) -> tuple[Request, Handler]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            raise Conclusion("the request is no JSON", EXIT_USAGE) from None
        if not isinstance(request, dict):
            raise Conclusion("the request is no JSON object", EXIT_USAGE)
        verb = request.get("verb")
        handler = self._handlers.get(verb) if isinstance(verb, str) else None
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            raise Conclusion(f"the daemon has no such verb; it knows {known}", EXIT_USAGE)
        return request, handler


def _bind(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    clear_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # born 0600: there is no moment at which others could open it
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def clear_socket(path: Path) -> None:
    """Removes the socket of a dead daemon, and nothing else. Raises SocketTaken, OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except TimeoutError:
            pass
    raise SocketTaken(f"another daemon answers at {path}")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """The request's line. Raises Conclusion when there is none worth judging."""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise Conclusion(f"the request is longer than {REQUEST_BYTES_MAX} bytes", EXIT_USAGE) from None
    except asyncio.IncompleteReadError:
        raise Conclusion("the request has no end of line", EXIT_USAGE) from None
    except TimeoutError:
        raise Conclusion(f"no request within {REQUEST_TIMEOUT_S:g} s", EXIT_USAGE) from None


async def _answer(writer: asyncio.StreamWriter, handler: Handler, request: Request) -> None:
    message, code = "", EXIT_GOOD
    objects = handler(request)
    try:
        count = 0
        async for item in objects:
            await _write(writer, item)
            count += 1
            if count % OBJECTS_PER_TURN == 0 or isinstance(item, bytes):
                await asyncio.sleep(0)
    except Conclusion as conclusion:
        message, code = conclusion.message, conclusion.exit_code
    except (OSError, TimeoutError):
        raise
    except Exception as error:  # a handler's fault must not be the daemon's
        _log.exception("control_handler_failed", verb=request["verb"])
        message, code = f"internal error: {type(error).__name__}", EXIT_AGAINST
    finally:
        if (close := getattr(objects, "aclose", None)) is not None:
            with contextlib.suppress(Exception):
                await close()
    await _write(writer, _end(message, code))


async def _wait_for_departure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Returns when the other side is gone, or sends what nobody asked for.

    The end of its *sending* is no departure (`printf … | socat` closes that half at once), so after it
    the socket itself is asked now and then whether both halves are closed.
    """
    if await reader.read(1):
        return
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)  # POLLHUP comes unasked
    while not poll.poll(0):  # noqa: ASYNC110 - neither loop reports POLLHUP as an event
        await asyncio.sleep(CLOSE_POLL_S)


async def _write(writer: asyncio.StreamWriter, item: Mapping[str, Any] | bytes) -> None:
    text = item if isinstance(item, bytes) else json.dumps(item, separators=(",", ":")).encode() + b"\n"
    writer.write(text)
    try:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            await writer.drain()
    except TimeoutError:
        writer.transport.abort()  # a close would wait for the reader to empty the buffer
        raise


def _end(message: str, code: int) -> dict[str, Any]:
    return {"end": True, "exit": code, "message": message}
