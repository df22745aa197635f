"""Does the backend complete a TLS handshake, with a certificate to be trusted?

The handshake is driven here, over memory: when time is up everything is closed at once, and no half-open TLS transport
of the event loop's waits for a peer that is silent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

from hasyncd.balance.probes import CannotAsk, Target, Unwell, open_socket

if TYPE_CHECKING:
    from hasyncd.config_health import TlsProbe

_BYTES_PER_READ = 16_384


class Trust:
    """Whom a service's probes trust. The files are read once, beside the event loop."""

    def __init__(self, settings: TlsProbe) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """Raises CannotAsk where the file of `ca` is none."""
        if self._context is None:
            self._context = await asyncio.to_thread(self._read)
        return self._context

    def name_of(self, target: Target) -> str:
        """Whose certificate is wanted."""
        return self._settings.server_name or target.address

    def _read(self) -> ssl.SSLContext:
        if not self._settings.verify:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context
        try:
            return ssl.create_default_context(cafile=self._settings.ca)
        except OSError as error:  # ssl.SSLError among them
            raise CannotAsk(f"{self._settings.ca} cannot be read: {error.strerror or error}") from None


def words_of(error: ssl.SSLError) -> str:
    """What was wrong with a handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    return f"no TLS: {(error.reason or 'the handshake failed').lower().replace('_', ' ')}"


async def ask_tls(trust: Trust, target: Target) -> str:
    """Connects, shakes hands and resets the connection."""
    context = await trust.context()
    with open_socket(target.address, socket.SOCK_STREAM) as connection:
        await asyncio.get_running_loop().sock_connect(connection, (target.address, target.port))
        try:
            version = await _shake_hands(connection, context, trust.name_of(target))
        except ssl.SSLError as error:
            raise Unwell(words_of(error)) from None
    return f"{version} handshake"


async def _shake_hands(connection: socket.socket, context: ssl.SSLContext, name: str) -> str:
    """Returns the version that was agreed upon. Raises ssl.SSLError, Unwell, OSError."""
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    channel = context.wrap_bio(incoming, outgoing, server_hostname=name)
    while True:
        try:
            channel.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(connection, outgoing.read())
            answer = await loop.sock_recv(connection, _BYTES_PER_READ)
            if not answer:
                raise Unwell("no TLS: it closed the connection in the handshake") from None
            incoming.write(answer)
        else:
            await loop.sock_sendall(connection, outgoing.read())
            return channel.version() or "TLS"
