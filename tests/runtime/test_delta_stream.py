"""hasyncd.runtime.delta_stream: bytes over real loopback connections, under the daemon's loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from hasyncd.runtime.delta_stream import DeltaStream
from tests.runtime.pair import until


class End:
    """One end as a stream, and what it told; the other end as a plain socket."""

    def __init__(self, *, buffer_bytes: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            if buffer_bytes is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            connection = socket.socket()
            if buffer_bytes is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            connection.connect(listener.getsockname())
            self.other, _ = listener.accept()
        self.other.setblocking(False)
        self.received = bytearray()
        self.ends = self.drained = 0
        self.stream = DeltaStream(connection, self._take, self._end, self._drain)

    def _take(self, stream: DeltaStream, data: bytes) -> None:
        assert stream is self.stream
        self.received += data

    def _end(self, stream: DeltaStream) -> None:
        assert stream is self.stream
        self.ends += 1

    def _drain(self) -> None:
        self.drained += 1

    async def read_other(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < size and (more := await loop.sock_recv(self.other, size - len(data))):
            data += more
        return bytes(data)

    def close(self) -> None:
        self.stream.close()
        self.other.close()


@pytest.fixture
async def ends() -> AsyncIterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def end(ends: contextlib.ExitStack, *, buffer_bytes: int | None = None) -> End:
    return ends.enter_context(contextlib.closing(End(buffer_bytes=buffer_bytes)))


async def test_bytes_go_both_ways_in_order(ends: contextlib.ExitStack) -> None:
    one = end(ends)
    one.stream.write(b"first ")
    one.stream.write(b"second")
    assert await one.read_other(12) == b"first second"
    one.other.send(b"answer")
    await until(lambda: one.received == b"answer", "the answer")
    assert (one.ends, one.drained, one.stream.backlog) == (0, 0, 0)


async def test_the_backlog_is_what_the_kernel_has_not_taken(ends: contextlib.ExitStack) -> None:
    one = end(ends, buffer_bytes=8192)
    data = bytes(range(256)) * 8192
    one.stream.write(data)
    assert 0 < one.stream.backlog < len(data)
    one.stream.write(b"behind it")
    assert await one.read_other(len(data) + 9) == data + b"behind it"
    await until(lambda: one.drained, "told that everything was taken")
    assert (one.stream.backlog, one.drained) == (0, 1)


async def test_the_end_comes_once_and_after_everything_that_had_arrived(ends: contextlib.ExitStack) -> None:
    one = end(ends)
    one.other.send(b"last words")
    one.other.close()
    await until(lambda: one.ends, "the end")
    assert (one.received, one.ends) == (b"last words", 1)
    one.stream.write(b"to nobody")
    one.stream.close()
    assert one.ends == 1


@pytest.mark.parametrize("size", [0, 10, 300_000, 2_000_000])
async def test_a_reset_is_an_end_too_and_swallows_nothing_that_had_arrived(
    ends: contextlib.ExitStack, size: int
) -> None:
    """What a killed process with an unread byte leaves: data, then RST, in one turn of the loop."""
    one = end(ends)
    one.other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
    one.stream.write(b"unread")
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < size:
            sent += one.other.send(bytes(size - sent))
    one.other.close()
    await until(lambda: one.ends, "the end")
    if sent <= 65_536:  # beyond the receiver's window a reset throws away what was not sent yet
        assert len(one.received) == sent


async def test_a_peer_that_is_gone_while_we_write_is_no_error(ends: contextlib.ExitStack) -> None:
    one = end(ends, buffer_bytes=8192)
    one.stream.write(bytes(1_000_000))
    one.other.close()
    await until(lambda: one.ends, "the end")
    assert one.stream.backlog == 0


async def test_close_is_silent_and_may_be_repeated(ends: contextlib.ExitStack) -> None:
    one = end(ends)
    one.stream.close()
    one.stream.close(flush=True)
    one.stream.write(b"nothing")
    assert await one.read_other(1) == b""
    assert one.ends == 0


async def test_close_with_flush_writes_what_is_queued_first(ends: contextlib.ExitStack) -> None:
    one = end(ends, buffer_bytes=8192)
    data = bytes(range(256)) * 4096
    one.stream.write(data)
    assert one.stream.backlog
    one.stream.close(flush=True)
    one.stream.write(b"too late")
    assert await one.read_other(len(data) + 1) == data
    assert (one.ends, one.drained) == (0, 0)


async def test_close_with_flush_gives_up_on_a_reader_that_does_not_read(ends: contextlib.ExitStack) -> None:
    one = end(ends, buffer_bytes=8192)
    one.stream.write(bytes(1_000_000))
    one.stream.close(flush=True)
    await until(lambda: one.stream.backlog == 0, "given up")
