"""Backends go down and up as their checks say."""

from __future__ import annotations

import asyncio
import errno

import pytest

from hasyncd.balance.health import HealthChecks, Streak, connect_once
from hasyncd.config import Service
from tests.datapath.namespaces import namespaces

Change = tuple[int, int, bool, str]


def service(
    *ports: int, rise: int = 2, fall: int = 3, checked: bool = True, interval_ms: int = 10
) -> Service:
    document: dict[str, object] = {
        "name": "web",
        "vip": "203.0.113.5:80",
        "protocol": "tcp",
        "backends": [
            {"id": place, "address": f"127.0.0.1:{port}"} for place, port in enumerate(ports, start=1)
        ],
    }
    if checked:
        document["health"] = {"interval_ms": interval_ms, "rise": rise, "fall": fall}
    return Service.model_validate(document)


@pytest.mark.parametrize(
    ("results", "changes"),
    [
        ("FF", ""),
        ("FFF", "..d"),
        ("FFSFFSFF", ""),  # a success starts the count anew
        ("FFFSS", "..d.u"),
        ("FFFSFSS", "..d...u"),  # and so does a failure on the way up
        ("FFFSSFFF", "..d.u..d"),
        ("SSSS", ""),
    ],
)
def test_counts_results_in_a_row(results: str, changes: str) -> None:
    streak = Streak(rise=2, fall=3)
    seen = "".join(("u" if streak.up else "d") if streak.record(result == "S") else "." for result in results)
    assert seen.rstrip(".") == changes


async def _nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_backend_that_stops_and_starts_is_reported(unused_port: int) -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()
    checks = HealthChecks(
        [service(unused_port)], lambda *change: changes.put_nowait(change), jitter=lambda: 0.0
    )
    checks.start()
    try:
        async with asyncio.timeout(30):
            assert await changes.get() == (0, 1, False, "Connection refused")
            server = await asyncio.start_server(_nothing, "127.0.0.1", unused_port)
            assert await changes.get() == (0, 1, True, "connection accepted")
            server.close()
            await server.wait_closed()
            assert (await changes.get())[:3] == (0, 1, False)
    finally:
        await checks.stop()


async def test_each_backend_is_judged_by_itself_and_unchecked_services_are_left_alone() -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()
    tried: asyncio.Queue[int] = asyncio.Queue()

    async def connect(_address: str, port: int) -> None:
        tried.put_nowait(port)
        if port == 2:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    services = [service(9, checked=False), service(1, 2, 3)]
    checks = HealthChecks(services, lambda *change: changes.put_nowait(change), connect=connect)
    checks.start()
    async with asyncio.timeout(30):
        assert (await changes.get())[:3] == (1, 2, False)
        seen: set[int] = set()
        while seen != {1, 2, 3}:
            seen.add(await tried.get())
    await checks.stop()
    assert changes.empty()
    assert 9 not in {tried.get_nowait() for _ in range(tried.qsize())}


async def test_a_silent_backend_fails_within_its_interval() -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()

    async def connect(_address: str, _port: int) -> None:
        await asyncio.get_running_loop().create_future()

    checks = HealthChecks([service(1, fall=1)], lambda *change: changes.put_nowait(change), connect=connect)
    checks.start()
    async with asyncio.timeout(30):
        assert await changes.get() == (0, 1, False, "no answer within 0.01 s")
    await checks.stop()


async def test_this_machines_own_shortage_is_not_the_backends_failure() -> None:
    changes: list[Change] = []
    tried = asyncio.Semaphore(0)

    async def connect(_address: str, _port: int) -> None:
        tried.release()
        raise OSError(errno.EMFILE, "too many open files")

    checks = HealthChecks([service(1, fall=1)], lambda *change: changes.append(change), connect=connect)
    checks.start()
    async with asyncio.timeout(30):
        for _ in range(4):
            await tried.acquire()
    await checks.stop()
    assert changes == []


async def test_the_first_check_waits_for_its_part_of_the_interval() -> None:
    tried = asyncio.Event()

    async def connect(_address: str, _port: int) -> None:
        tried.set()

    late = HealthChecks(
        [service(1, interval_ms=3_600_000)], lambda *_: None, jitter=lambda: 1.0, connect=connect
    )
    late.start()
    await asyncio.sleep(0.02)
    assert not tried.is_set()
    await late.stop()
    await late.stop()


async def test_what_a_check_dies_of_is_told() -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.set_result(context["message"]))

    async def connect(_address: str, _port: int) -> None:
        raise ValueError("a bug")

    checks = HealthChecks([service(1)], lambda *_: None, jitter=lambda: 0.0, connect=connect)
    checks.start()
    async with asyncio.timeout(30):
        assert await told == "the health web/1 check died"
    await checks.stop()


async def test_a_connection_is_opened_and_closed(unused_port: int) -> None:
    accepted = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.close()

    with pytest.raises(ConnectionRefusedError):
        await connect_once("127.0.0.1", unused_port)
    server = await asyncio.start_server(accept, "127.0.0.1", unused_port)
    async with server:
        await connect_once("127.0.0.1", unused_port)
        async with asyncio.timeout(30):
            await accepted.wait()


@pytest.mark.e2e
async def test_ipv6_backends_are_checked_as_well() -> None:
    with namespaces(1) as (namespace,):
        namespace.speak_ipv6()
        with namespace.entered():
            with pytest.raises(ConnectionRefusedError):
                await connect_once("::1", 8080)
            server = await asyncio.start_server(_nothing, "::1", 8080)
            async with server:
                await connect_once("::1", 8080)


@pytest.fixture
def unused_port(unused_tcp_port: int) -> int:
    """A port of loopback that nobody listens on."""
    return unused_tcp_port
