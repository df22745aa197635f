"""Does a GET bring the status, and the words, that it must?"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from hasyncd.balance.probes import Target, Unwell
from hasyncd.balance.probes_tls import Trust, words_of

if TYPE_CHECKING:
    from hasyncd.config_health import HttpProbe

_HEADER_BYTES_MAX: Final = 8192
_NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""Whoever asks cancels when time is up."""


async def ask_http(settings: HttpProbe, trust: Trust | None, target: Target) -> str:
    """One request over a connection of its own. `trust`: over TLS."""
    host = f"[{target.address}]" if ":" in target.address else target.address
    url = URL(f"{'http' if trust is None else 'https'}://{host}:{target.port}{settings.path}", encoded=True)
    connector = aiohttp.TCPConnector(
        ssl=await trust.context() if trust else True, force_close=True, use_dns_cache=False
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_NO_LIMIT,
        auto_decompress=False,  # what is not unpacked cannot grow
        max_line_size=_HEADER_BYTES_MAX,
        max_field_size=_HEADER_BYTES_MAX,
    )
    headers = {"User-Agent": "hasyncd", "Accept-Encoding": "identity", "Connection": "close"}
    if settings.host is not None:
        headers["Host"] = settings.host
    try:
        async with (
            session,
            session.get(
                url,
                headers=headers,
                allow_redirects=False,
                server_hostname=trust.name_of(target) if trust else None,
            ) as response,
        ):
            return await _judge(settings, response)
    except aiohttp.ClientConnectorCertificateError as error:
        raise Unwell(_words_of(error.certificate_error)) from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, ssl.SSLError):
            raise Unwell(words_of(error.os_error)) from None
        raise error.os_error from None
    except aiohttp.ServerDisconnectedError:
        raise Unwell("it closed the connection without an answer") from None
    except aiohttp.ClientOSError:
        raise
    except aiohttp.ClientError as error:
        raise Unwell(f"no HTTP: {_first_line(error)}") from None


async def _judge(settings: HttpProbe, response: aiohttp.ClientResponse) -> str:
    status = response.status
    if not any(low <= status <= high for low, high in settings.status):
        raise Unwell(f"status {status}")
    if settings.contains is not None and not await _has(settings.contains.encode(), settings, response):
        raise Unwell(
            f"status {status}, but {settings.contains!r} is not in the first {settings.body_bytes_max} bytes"
        )
    return f"status {status}"


async def _has(words: bytes, settings: HttpProbe, response: aiohttp.ClientResponse) -> bool:
    """Whether a body has them, read no further than it may be."""
    body = b""
    while words not in body and len(body) < settings.body_bytes_max:
        piece = await response.content.read(settings.body_bytes_max - len(body))
        if not piece:
            return False
        body += piece
    return words in body


def _words_of(error: Exception) -> str:
    return words_of(error) if isinstance(error, ssl.SSLError) else str(error)


def _first_line(error: Exception) -> str:
    """A peer's bytes stand in some of them."""
    lines = str(getattr(error, "message", "") or error).splitlines()
    return lines[0][:120] if lines else type(error).__name__
