#!/usr/bin/env python3
"""Answers every line (TCP) and every datagram (UDP) with itself, this server's name and the source it saw.

A request is `SEQUENCE PAYLOAD`; the reply is `SEQUENCE PAYLOAD SERVER ADDRESS:PORT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import cast

PORT = 7000
NAME = socket.gethostname().encode()


def reply_to(request: bytes, source: tuple[str, int]) -> bytes:
    address, port = source
    return b"%s %s %s:%d\n" % (request.rstrip(b"\n"), NAME, address.encode(), port)


async def answer_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    source = writer.get_extra_info("peername")[:2]
    with contextlib.suppress(ConnectionError):
        async for line in reader:
            writer.write(reply_to(line, source))
            await writer.drain()
    writer.close()


class AnswerDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(reply_to(data, addr), addr)


async def main() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(AnswerDatagrams, local_addr=("0.0.0.0", PORT))
    server = await asyncio.start_server(answer_lines, "0.0.0.0", PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
