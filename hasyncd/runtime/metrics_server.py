"""`GET /metrics` on an address of choice: one request a connection, in the daemon's own event loop.

The loop is the data path's, and whoever reaches the address may be anybody. So this is neither a web framework, which
bounds no header's time and no number of connections, nor prometheus-client's server, whose threads would read the
engine and the core beside their one thread: a request has a size and a time, connections a number, scrapes a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog

from hasyncd.config_values import Endpoint

if TYPE_CHECKING:
    from hasyncd.balance.services import Services
    from hasyncd.config import Settings
    from hasyncd.runtime.loop_lag import LoopLag
    from hasyncd.runtime.shell import Shell
    from hasyncd.runtime.status import StatusReport

CONNECTIONS_MAX: Final = 16
REQUEST_BYTES_MAX: Final = 8192
REQUEST_TIMEOUT_S: Final = 5.0
"""From connecting until the header is there whole."""
SEND_TIMEOUT_S: Final = 10.0
"""For a reader to take the answer."""
_BACKLOG: Final = 16
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger("hasyncd.metrics")


class MetricsError(Exception):
    """`metrics.listen` cannot be used; says why."""


class _Refused(Exception):
    """No metrics for this request: an HTTP status and its sentence."""

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class MetricsServer:
    """Answers from `start` to `stop`; `make_text` makes what a scrape gets, one at a time."""

    def __init__(self, listen: Endpoint, make_text: Callable[[], Awaitable[bytes]]) -> None:
        self._listen = listen
        self._make_text = make_text
        self._turn = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Binds and listens. Raises MetricsError."""
        try:
            self._server = await asyncio.start_server(
                self._accept,
                str(self._listen.address),
                self._listen.port,
                limit=REQUEST_BYTES_MAX,
                backlog=_BACKLOG,
                reuse_address=True,
            )
        except OSError as error:
            # asyncio words it anew; the kernel's own word is enough.
            why = error.strerror or str(error)
            raise MetricsError(f"metrics.listen {self._listen}: {why.rpartition(': ')[2]}") from error

    async def stop(self) -> None:
        """Ends what is under way. Harmless when not started."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio serves every connection in a task"
        if len(self._answers) >= CONNECTIONS_MAX:
            writer.transport.abort()  # not a byte for a crowd
            return
        self._answers.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()  # the reader is gone or stuck; there is nobody to tell
        except asyncio.CancelledError:
            pass  # stop() ended it; asyncio would only log the cancellation of its own task
        finally:
            self._answers.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, kind, body, is_head = "200 OK", _TEXT, b"", False
        try:
            is_head = await _read_request(reader) == "HEAD"
            async with self._turn:
                body = await self._make_text()
        except _Refused as refused:
            status, kind = refused.status, "text/plain; charset=utf-8"
            body = f"{refused.sentence}\n".encode()
        except (OSError, TimeoutError):
            raise
        except Exception:  # a metric's fault must not be the daemon's
            _log.exception("metrics_failed")
            status, kind, body = "500 Internal Server Error", "text/plain", b"see the daemon's log\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() if is_head else head.encode() + body)
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await writer.drain()
            writer.write_eof()
            # What is left in the kernel is taken within the time, or the reader is stuck.
            while writer.transport.get_write_buffer_size():  # noqa: ASYNC110 - no event says that it is empty
                await asyncio.sleep(0.05)


def make_metrics(
    settings: Settings, shell: Shell, report: StatusReport, services: Services, loop_lag: LoopLag
) -> MetricsServer | None:
    """None where nobody asked for metrics."""
    if settings.metrics is None:
        return None
    from hasyncd.runtime.metrics import Exposition  # and its library, for those who have a use for it

    return MetricsServer(
        settings.metrics.listen, Exposition(settings, shell, report, services, loop_lag).text
    )


async def _read_request(reader: asyncio.StreamReader) -> str:
    """The method of a request for the metrics. Raises _Refused, and OSError where there is none at all."""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            header = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused("431 Request Header Fields Too Large", f"{REQUEST_BYTES_MAX} bytes at most") from None
    except asyncio.IncompleteReadError as end:
        raise ConnectionResetError("no request") from end
    except TimeoutError:
        raise _Refused("408 Request Timeout", f"no request within {REQUEST_TIMEOUT_S:g} s") from None
    words = header.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused("400 Bad Request", "this is HTTP/1.1: GET /metrics")
    method, target, _ = words
    if method not in ("GET", "HEAD"):
        raise _Refused("405 Method Not Allowed", "only GET is answered")
    if target.partition("?")[0] != "/metrics":
        raise _Refused("404 Not Found", "the metrics are at /metrics")
    return method
