"""Does a name server answer a question, with a response code that will do?"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import TYPE_CHECKING

from hasyncd.balance.dns_message import MESSAGE_BYTES_MAX, NotTheAnswer, decode_rcode, encode_query
from hasyncd.balance.probes import Target, Unwell, open_socket
from hasyncd.balance.probes_udp import asking

if TYPE_CHECKING:
    from hasyncd.config_health import DnsProbe


async def ask_dns(settings: DnsProbe, over_tcp: bool, target: Target) -> str:
    """One question over UDP, or over a TCP connection of its own (RFC 1035 4.2)."""
    query = encode_query(secrets.randbits(16), settings.name, settings.type)
    rcode = await (_over_tcp(query, target) if over_tcp else _over_udp(query, target))
    if rcode not in settings.rcodes:
        raise Unwell(f"{settings.name} {settings.type}: {rcode}")
    return rcode


async def _over_udp(query: bytes, target: Target) -> str:
    """What answers something else, such as an earlier question, is passed over until time is up."""
    loop = asyncio.get_running_loop()
    with asking(target) as asked:
        asked.send(query)
        while True:
            try:
                return decode_rcode(query, await loop.sock_recv(asked, MESSAGE_BYTES_MAX))
            except NotTheAnswer:
                continue


async def _over_tcp(query: bytes, target: Target) -> str:
    loop = asyncio.get_running_loop()
    with open_socket(target.address, socket.SOCK_STREAM) as connection:
        await loop.sock_connect(connection, (target.address, target.port))
        await loop.sock_sendall(connection, len(query).to_bytes(2) + query)
        length = int.from_bytes(await _read(connection, 2))
        answer = await _read(connection, length)
    try:
        return decode_rcode(query, answer)
    except NotTheAnswer as error:
        raise Unwell(f"no DNS answer: {error}") from None


async def _read(connection: socket.socket, length: int) -> bytes:
    loop, read = asyncio.get_running_loop(), b""
    while len(read) < length:
        piece = await loop.sock_recv(connection, length - len(read))
        if not piece:
            raise Unwell("it closed the connection before its answer was whole")
        read += piece
    return read
