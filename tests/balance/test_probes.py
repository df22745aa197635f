"""Each kind of probe against real sockets: what is well, what is not, and that nothing stays open."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hasyncd.balance.health import HealthChecks, LastCheck
from hasyncd.balance.probes import CannotAsk, Target, Unwell
from hasyncd.balance.probes_choice import probe_for
from hasyncd.config_services import Service
from tests.balance.authority import Authority
from tests.datapath.namespaces import namespaces

LONG_S = 30.0


@pytest.fixture
def port(unused_tcp_port: int) -> int:
    """A port of loopback that nobody listens on."""
    return unused_tcp_port


def service(health: dict[str, Any], protocol: str = "tcp") -> Service:
    return Service.model_validate(
        {
            "name": "web",
            "vip": "203.0.113.5:80",
            "protocol": protocol,
            "backends": [{"id": 7, "address": "127.0.0.1:1"}],
            "health": health,
        }
    )


async def ask(
    port: int,
    kind: str,
    settings: dict[str, Any] | None = None,
    *,
    protocol: str = "tcp",
    address: str = "127.0.0.1",
) -> str:
    """Puts one question to a port of loopback."""
    health: dict[str, Any] = {"kind": kind} | ({} if settings is None else {kind: settings})
    asked = service(health, protocol)
    assert asked.health is not None
    assert not list(asked.health.contradictions("health"))
    async with asyncio.timeout(LONG_S):
        return await probe_for(asked, asked.health).ask(Target("web", 7, address, port, LONG_S))


# --- tcp ---------------------------------------------------------------------------------------------------


async def test_tcp_needs_somebody_who_listens(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "tcp")
    with socket.create_server(("127.0.0.1", port)):
        assert await ask(port, "tcp") == "connection accepted"


@pytest.mark.e2e
async def test_ipv6_backends_are_asked_as_well() -> None:
    with namespaces(1) as (namespace,):
        namespace.speak_ipv6()
        with namespace.entered():
            with pytest.raises(ConnectionRefusedError):
                await ask(8080, "tcp", address="::1")
            with socket.create_server(("::1", 8080), family=socket.AF_INET6):
                assert await ask(8080, "tcp", address="::1") == "connection accepted"
            with pytest.raises(ConnectionRefusedError):
                await ask(53, "udp", {"send": "?"}, protocol="udp", address="::1")
            async with pages({"/": (200, "hello")}, 8081, host="::1"):
                assert await ask(8081, "http", address="::1") == "status 200"


# --- http --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def pages(
    found: dict[str, Any], port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[list[web.BaseRequest]]:
    """An HTTP server; yields what it was asked."""
    asked: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request)
        page = found.get(request.rel_url.raw_path_qs)
        if callable(page):
            return await page(request)
        status, text = page or (404, "")
        return web.Response(status=status, text=text)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    try:
        yield asked
    finally:
        await runner.cleanup()


@asynccontextmanager
async def saying(port: int, words: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """A server that says the same to everybody and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", port, ssl=tls):
        yield


async def test_http_judges_the_status(port: int) -> None:
    async with pages({"/": (204, ""), "/gone?x=%20": (301, "")}, port):
        assert await ask(port, "http") == "status 204"
        with pytest.raises(Unwell, match="status 404"):
            await ask(port, "http", {"path": "/nothing"})
        with pytest.raises(Unwell, match="status 301"):
            await ask(port, "http", {"path": "/gone?x=%20"})
        assert await ask(port, "http", {"path": "/gone?x=%20", "status": [200, "300-399"]}) == "status 301"


async def test_http_asks_by_the_name_it_is_told(port: int) -> None:
    async with pages({"/": (200, "")}, port) as asked:
        await ask(port, "http", {"host": "www.example.org"})
        await ask(port, "http")
    assert [request.headers["Host"] for request in asked] == ["www.example.org", f"127.0.0.1:{port}"]


async def test_http_looks_for_words_in_a_bounded_body(port: int) -> None:
    sent: list[int] = []

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)
            sent.append(1000)

    async with pages({"/": (200, "all is well here"), "/endless": endless}, port):
        assert await ask(port, "http", {"contains": "is well"}) == "status 200"
        with pytest.raises(Unwell, match="'is bad' is not in"):
            await ask(port, "http", {"contains": "is bad"})
        with pytest.raises(Unwell, match="'is well' is not in the first 9 bytes"):
            await ask(port, "http", {"contains": "is well", "body_bytes_max": 9})
        with pytest.raises(Unwell, match="'is well' is not in the first 70000 bytes"):
            await ask(port, "http", {"path": "/endless", "contains": "is well", "body_bytes_max": 70_000})


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"220 mail.example.org ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"\0\xff" * 50,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    ],
    ids=["nothing", "smtp", "long-header", "no-number", "rubbish", "cut-short"],
)
async def test_what_is_no_http_is_unwell(port: int, said: bytes) -> None:
    async with saying(port, said):
        with pytest.raises((Unwell, ConnectionResetError)) as refused:
            await ask(port, "http", {"contains": "short and more"})
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


async def test_http_that_nobody_serves_says_what_the_kernel_said(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "http")


# --- tls ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def test_tls_trusts_whom_it_is_told_to(port: int, authority: Authority) -> None:
    async with saying(port, b"", authority.server("www.example.org")):
        trusted = {"ca": str(authority.file)}
        assert await ask(port, "tls", trusted | {"server_name": "www.example.org"}) == "TLSv1.3 handshake"
        assert await ask(port, "tls", trusted) == "TLSv1.3 handshake", "the address is in the certificate"
        assert await ask(port, "tls", {"verify": False}) == "TLSv1.3 handshake"
        with pytest.raises(Unwell, match="its certificate: unable to get local issuer certificate"):
            await ask(port, "tls", {"server_name": "www.example.org"})
        with pytest.raises(Unwell, match="its certificate: Hostname mismatch"):
            await ask(port, "tls", trusted | {"server_name": "other.example.org"})


async def test_tls_sees_a_certificate_that_is_over(port: int, authority: Authority) -> None:
    async with saying(port, b"", authority.server("www.example.org", days=-1)):
        with pytest.raises(Unwell, match="its certificate: certificate has expired"):
            await ask(port, "tls", {"ca": str(authority.file), "server_name": "www.example.org"})


async def test_what_speaks_no_tls_is_unwell(port: int) -> None:
    async with saying(port, b"220 mail.example.org ESMTP\r\n"):
        with pytest.raises(Unwell, match="no TLS: "):
            await ask(port, "tls", {"verify": False})
    async with saying(port, b""):
        with pytest.raises((Unwell, ConnectionResetError)):
            await ask(port, "tls", {"verify": False})


async def test_an_authority_that_cannot_be_read_says_nothing_of_the_backend(
    port: int, tmp_path: Path
) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    for file in (rubbish, tmp_path / "nowhere.pem"):
        with pytest.raises(CannotAsk, match=r"\.pem cannot be read"):
            await ask(port, "tls", {"ca": str(file)})
        with pytest.raises(CannotAsk, match=r"\.pem cannot be read"):
            await ask(port, "http", {"tls": {"ca": str(file)}})


async def test_https_is_http_behind_tls(port: int, authority: Authority) -> None:
    async with pages({"/": (200, "well")}, port, authority.server("www.example.org")):
        trusted = {"ca": str(authority.file), "server_name": "www.example.org"}
        assert await ask(port, "http", {"contains": "well", "tls": trusted}) == "status 200"
        assert await ask(port, "http", {"tls": {"verify": False}}) == "status 200"
        with pytest.raises(Unwell, match="its certificate: Hostname mismatch"):
            await ask(port, "http", {"tls": trusted | {"server_name": "other.example.org"}})
        with pytest.raises((Unwell, ConnectionResetError)):
            await ask(port, "http")


# --- udp and dns --------------------------------------------------------------------------------------------


class Echo(asyncio.DatagramProtocol):
    """Answers every datagram by what a function makes of it."""

    def __init__(self, answers: Callable[[bytes], list[bytes]]) -> None:
        self._answers = answers

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for answer in self._answers(data):
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def datagrams(port: int, answers: Callable[[bytes], list[bytes]]) -> AsyncIterator[None]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Echo(answers), ("127.0.0.1", port)
    )
    try:
        yield
    finally:
        transport.close()
        await asyncio.sleep(0)


async def test_udp_wants_an_answer(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "udp", {"send": "ping"})
    async with datagrams(port, lambda said: [b"pong to " + said]):
        assert await ask(port, "udp", {"send": "ping"}) == "answered with 12 bytes"
        assert (
            await ask(port, "udp", {"send_hex": "00ff", "contains_hex": "00 ff"}) == "answered with 10 bytes"
        )
        assert await ask(port, "udp", {}) == "answered with 8 bytes", "an empty datagram"
        with pytest.raises(Unwell, match="its answer of 12 bytes does not have what it must"):
            await ask(port, "udp", {"send": "ping", "contains": "PONG"})


async def test_udp_may_be_content_with_silence(port: int) -> None:
    async def first(udp: dict[str, Any]) -> LastCheck:
        """The first check as the scheduler makes it."""
        health = {"kind": "udp", "udp": udp, "port": port, "timeout_ms": 100, "fall": 1}
        checks = HealthChecks([service(health, "udp")], lambda *_: None, jitter=lambda: 0.0)
        checks.start()
        try:
            async with asyncio.timeout(LONG_S):
                while True:
                    await asyncio.sleep(0.01)
                    if (last := checks.last(0, 7)) is not None and last.good is not None:
                        return last
        finally:
            await checks.stop()

    assert await first({"expect": "no-refusal"}) == LastCheck(False, "Connection refused")
    async with datagrams(port, lambda _: []):
        assert await first({"expect": "no-refusal"}) == LastCheck(True, "no refusal")
        assert await first({}) == LastCheck(False, "no answer within 0.1 s")


def name_server(rcode: int) -> Callable[[bytes], list[bytes]]:
    """Says something of another question first."""
    return lambda query: [
        b"\0\0rubbish",
        query[:2] + bytes([0x81, 0x80 | rcode]) + query[4:],
    ]


async def test_dns_judges_the_response_code(port: int) -> None:
    question = {"name": "example.org"}
    async with datagrams(port, name_server(0)):
        assert await ask(port, "dns", question, protocol="udp") == "NOERROR"
    async with datagrams(port, name_server(3)):
        with pytest.raises(Unwell, match=r"example\.org A: NXDOMAIN"):
            await ask(port, "dns", question, protocol="udp")
        accepted = question | {"rcodes": ["NXDOMAIN", "NOERROR"], "type": "AAAA"}
        assert await ask(port, "dns", accepted, protocol="udp") == "NXDOMAIN"


async def test_dns_of_a_tcp_service_goes_over_tcp(port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        answer = query[:2] + b"\x81\x80" + query[4:]
        for byte in len(answer).to_bytes(2) + answer:  # in as many pieces as there can be
            writer.write(bytes([byte]))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        assert await ask(port, "dns", {"name": "."}) == "NOERROR"
    async with saying(port, b"\0\x05abc"):
        with pytest.raises((Unwell, ConnectionResetError)):
            await ask(port, "dns", {"name": "."})


# --- command -----------------------------------------------------------------------------------------------


async def test_a_command_knows_whom_to_ask() -> None:
    script = (
        'test "$1 $2 $3" = "127.0.0.1 80 {other}" && test "$HASYNCD_SERVICE/$HASYNCD_BACKEND" = web/7 '
        '&& test "$HASYNCD_ADDRESS:$HASYNCD_PORT" = 127.0.0.1:80 && test "$WORD" = hello && test -z "$HOME" '
        '&& test -n "$PATH" || { echo "called as $*" >&2; exit 1; }'
    )
    words = ["/bin/sh", "-c", script, "sh", "{address}", "{port}", "{other}"]
    assert await ask(80, "command", {"run": words, "env": {"WORD": "hello"}}) == "/bin/sh ended with 0"
    with pytest.raises(Unwell, match="/bin/sh ended with 1: called as"):
        await ask(81, "command", {"run": words})
    with pytest.raises(FileNotFoundError):
        await ask(80, "command", {"run": ["/nowhere/to/be/found"]})


# --- all of them -------------------------------------------------------------------------------------------


@pytest.fixture
def silent(port: int) -> Iterator[int]:
    """Accepts connections and datagrams, and never says a word."""
    with socket.create_server(("127.0.0.1", port)), socket.socket(type=socket.SOCK_DGRAM) as datagram:
        datagram.bind(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize(
    ("kind", "settings", "protocol"),
    [
        ("http", {}, "tcp"),
        ("http", {"tls": {"verify": False}}, "tcp"),
        ("tls", {"verify": False}, "tcp"),
        ("udp", {}, "udp"),
        ("dns", {"name": "."}, "udp"),
        ("dns", {"name": "."}, "tcp"),
        ("command", {"run": ["/bin/sleep", "1000"]}, "tcp"),
    ],
)
async def test_what_is_cancelled_leaves_nothing_open(
    silent: int, kind: str, settings: dict[str, Any], protocol: str
) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(silent, kind, settings, protocol=protocol)

    await give_up()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await give_up()
    for _ in range(200):  # transports close a turn or a few later
        await asyncio.sleep(0.005)
        if len(os.listdir("/proc/self/fd")) <= before:
            break
    assert len(os.listdir("/proc/self/fd")) <= before
