"""hasyncd.runtime.metrics_server: what anybody who reaches the address may do, and may not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import pytest

from hasyncd.config_values import Endpoint
from hasyncd.runtime import metrics_server
from hasyncd.runtime.metrics_server import CONNECTIONS_MAX, REQUEST_BYTES_MAX, MetricsError, MetricsServer
from tests.runtime.pair import loopback_addresses

TEXT = b"hasyncd_up 1\n" * 100_000


@asynccontextmanager
async def served(body: bytes = TEXT) -> AsyncIterator[tuple[str, int]]:
    (address,) = loopback_addresses(1)
    listen = Endpoint(IPv4Address(address), 9107)

    async def text() -> bytes:
        if not body:
            raise RuntimeError("a metric is at fault")
        return body

    server = MetricsServer(listen, text)
    await server.start()
    try:
        yield address, 9107
    finally:
        await server.stop()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """The server has ended the connection without a byte."""
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


async def talk(where: tuple[str, int], request: bytes) -> tuple[bytes, bytes, bytes]:
    """(status line, header, body) of the answer; empty where the server only closes."""
    reader, writer = await asyncio.open_connection(*where)
    writer.write(request)
    answer = await reader.read()
    await close(writer)
    head, _, body = answer.partition(b"\r\n\r\n")
    status, _, header = head.partition(b"\r\n")
    return status, header, body


async def test_a_scrape_gets_the_whole_text() -> None:
    async with served() as where:
        status, header, body = await talk(where, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == b"HTTP/1.1 200 OK"
        assert b"Content-Type: text/plain; version=0.0.4" in header
        assert f"Content-Length: {len(TEXT)}".encode() in header
        assert body == TEXT
        assert (await talk(where, b"HEAD /metrics HTTP/1.1\r\n\r\n"))[2] == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/../x HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * REQUEST_BYTES_MAX + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_is_no_scrape_is_refused_by_its_status(request_: bytes, status: bytes) -> None:
    async with served() as where:
        assert (await talk(where, request_))[0].split(b" ")[1] == status
        assert (await talk(where, b"GET /metrics HTTP/1.0\r\n\r\n"))[0] == b"HTTP/1.1 200 OK"


async def test_whoever_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_TIMEOUT_S", 0.05)
    async with served() as where:
        assert (await talk(where, b"GET /met"))[0] == b"HTTP/1.1 408 Request Timeout"


async def test_a_crowd_is_not_let_in_and_the_room_is_free_again_afterwards() -> None:
    async with served() as where:
        crowd = [await asyncio.open_connection(*where) for _ in range(CONNECTIONS_MAX)]
        reader, writer = await asyncio.open_connection(*where)
        assert await is_closed(reader)
        await close(writer)
        for _, each in crowd:
            await close(each)
        status = b""
        while not status:
            with contextlib.suppress(ConnectionResetError):
                status = (await talk(where, b"GET /metrics HTTP/1.1\r\n\r\n"))[0]
        assert status == b"HTTP/1.1 200 OK"


async def test_a_reader_that_stops_reading_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "SEND_TIMEOUT_S", 0.1)
    async with served(TEXT * 20) as where:
        reader, writer = await asyncio.open_connection(*where, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await reader.readexactly(1)
        await asyncio.sleep(0.5)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(20 * len(TEXT))
        await close(writer)


async def test_a_metrics_fault_is_not_the_daemons() -> None:
    async with served(b"") as where:
        status, _, body = await talk(where, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 500")
        assert body == b"see the daemon's log\n"


async def test_a_bad_address_is_told_by_its_key() -> None:
    async def text() -> bytes:
        return b""

    with pytest.raises(
        MetricsError, match=r"^metrics\.listen 192\.0\.2\.1:9107: cannot assign requested address$"
    ):
        await MetricsServer(Endpoint(IPv4Address("192.0.2.1"), 9107), text).start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MetricsError, match="address already in use"):
            await MetricsServer(Endpoint(IPv4Address("127.0.0.1"), port), text).start()


async def test_stop_ends_who_is_served() -> None:
    async with served() as where:
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET /met")
        await asyncio.sleep(0.05)
    assert await is_closed(reader)
    await close(writer)
