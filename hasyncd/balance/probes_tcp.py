"""May a TCP connection be opened?"""

from __future__ import annotations

import asyncio
import socket

from hasyncd.balance.probes import Target, open_socket


async def ask_tcp(target: Target) -> str:
    """Opens a connection and resets it."""
    with open_socket(target.address, socket.SOCK_STREAM) as connection:
        await asyncio.get_running_loop().sock_connect(connection, (target.address, target.port))
    return "connection accepted"
