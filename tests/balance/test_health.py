"""Backends go down and up as their checks say."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasyncd.balance.health import HealthChecks, LastCheck, Streak, phases
from hasyncd.balance.probes import Ask, Probe, Target, Unwell
from hasyncd.config_services import Service

Change = tuple[int, int, bool, str]


def service(
    *ports: int, rise: int = 2, fall: int = 3, checked: bool = True, interval_ms: int = 10, name: str = "web"
) -> Service:
    document: dict[str, object] = {
        "name": name,
        "vip": "203.0.113.5:80",
        "protocol": "tcp",
        "backends": [
            {"id": place, "address": f"127.0.0.1:{port}"} for place, port in enumerate(ports, start=1)
        ],
    }
    if checked:
        document["health"] = {"interval_ms": interval_ms, "rise": rise, "fall": fall}
    return Service.model_validate(document)


def asked_by(
    ask: Ask, services: list[Service], *callbacks: Any, jitter: Callable[[], float] = random.random
) -> HealthChecks:
    """Checks whose questions are put by a function of the test's."""
    on_change, *unable = callbacks
    on_unable = unable[0] if unable else lambda *_: None
    return HealthChecks(services, on_change, on_unable=on_unable, jitter=jitter, probes=lambda *_: Probe(ask))


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

    async def ask(target: Target) -> str:
        tried.put_nowait(target.port)
        if target.port == 2:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return "well"

    services = [service(9, checked=False), service(1, 2, 3)]
    checks = asked_by(ask, services, lambda *change: changes.put_nowait(change))
    checks.start()
    async with asyncio.timeout(30):
        assert (await changes.get())[:3] == (1, 2, False)
        seen: set[int] = set()
        while seen != {1, 2, 3}:
            seen.add(await tried.get())
    await checks.stop()
    assert changes.empty()
    assert 9 not in {tried.get_nowait() for _ in range(tried.qsize())}


async def test_a_silent_backend_fails_when_its_time_is_up() -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()

    async def ask(_: Target) -> str:
        return await asyncio.get_running_loop().create_future()

    checks = asked_by(ask, [service(1, fall=1)], lambda *change: changes.put_nowait(change))
    checks.start()
    async with asyncio.timeout(30):
        assert await changes.get() == (0, 1, False, "no answer within 0.01 s")
    await checks.stop()


async def test_silence_is_good_where_only_a_refusal_is_bad() -> None:
    asked = asyncio.Semaphore(0)

    async def ask(_: Target) -> str:
        asked.release()
        return await asyncio.get_running_loop().create_future()

    changes: list[Change] = []
    checks = HealthChecks(
        [service(1, fall=1)], lambda *change: changes.append(change), probes=lambda *_: Probe(ask, "silent")
    )
    checks.start()
    async with asyncio.timeout(30):
        await asked.acquire()
        await asked.acquire()
    assert checks.last(0, 1) == LastCheck(True, "silent")
    await checks.stop()
    assert changes == []


async def test_the_kernels_own_timeout_is_told_as_such() -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()

    async def ask(_: Target) -> str:
        raise TimeoutError(errno.ETIMEDOUT, "timed out")

    checks = asked_by(ask, [service(1, fall=1)], lambda *change: changes.put_nowait(change))
    checks.start()
    async with asyncio.timeout(30):
        assert await changes.get() == (0, 1, False, "Connection timed out")
    await checks.stop()


async def test_this_machines_own_shortage_is_not_the_backends_failure() -> None:
    changes: list[Change] = []
    unable: list[tuple[int, int, str]] = []
    tried = asyncio.Semaphore(0)

    async def ask(_: Target) -> str:
        tried.release()
        raise OSError(errno.EMFILE, "too many open files")

    checks = asked_by(
        ask, [service(1, fall=1)], lambda *change: changes.append(change), lambda *what: unable.append(what)
    )
    checks.start()
    async with asyncio.timeout(30):
        for _ in range(4):
            await tried.acquire()
    await checks.stop()
    assert changes == []
    assert unable == [(0, 1, "Too many open files")], "said once, and not with every check"


async def test_the_first_check_waits_for_its_part_of_the_interval() -> None:
    tried = asyncio.Event()

    async def ask(_: Target) -> str:
        tried.set()
        return "well"

    late = asked_by(ask, [service(1, interval_ms=3_600_000)], lambda *_: None, jitter=lambda: 1.0)
    late.start()
    await asyncio.sleep(0.02)
    assert not tried.is_set()
    await late.stop()
    await late.stop()


async def test_what_a_check_dies_of_is_told() -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.set_result(context["message"]))

    async def ask(_: Target) -> str:
        raise ValueError("a bug")

    checks = asked_by(ask, [service(1)], lambda *_: None, jitter=lambda: 0.0)
    checks.start()
    async with asyncio.timeout(30):
        assert await told == "the health web/1 check died"
    await checks.stop()


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 5), st.integers(1, 5))
def test_h1_only_results_in_a_row_change_a_state(results: list[bool], rise: int, fall: int) -> None:
    """H1 of the health checks: k-1 failures and a success never take a backend down, and a state that changed stays for
    at least as many results as it takes to change it back."""
    streak, since, changes = Streak(rise, fall), list[bool](), 0
    for success in results:
        since.append(success)
        needed = fall if streak.up else rise
        row = len(since) >= needed and all(result is not streak.up for result in since[-needed:])
        assert streak.record(success) is row
        if row:
            since, changes = [], changes + 1
    assert changes <= 2 * len(results) / (rise + fall) + 1, "flapping is bounded"


@given(st.lists(st.booleans(), max_size=20), st.booleans(), st.integers(2, 5), st.integers(2, 5))
def test_a_verdict_that_was_taken_over_falls_only_to_a_whole_row(
    before: list[bool], verdict: bool, rise: int, fall: int
) -> None:
    streak = Streak(rise, fall)
    for success in before:
        streak.record(success)
    streak.assume(verdict)
    needed = fall if verdict else rise
    assert [streak.record(not verdict) for _ in range(needed)] == [False] * (needed - 1) + [True]


@given(st.integers(1, 300), st.randoms())
def test_first_checks_are_spread_over_the_interval(count: int, chance: random.Random) -> None:
    """No stretch of k parts of an interval has more than k + 1 first checks."""
    found = list(phases(count, chance.random))
    assert all(place - 1e-9 <= count * phase <= place + 1 + 1e-9 for place, phase in enumerate(found))


async def test_a_suspicion_is_looked_into_at_once_and_until_it_is_settled() -> None:
    """With an interval of an hour, only haste brings `fall` failures within the test's time."""
    changes: asyncio.Queue[Change] = asyncio.Queue()
    asked = asyncio.Semaphore(0)
    well = True

    async def ask(_: Target) -> str:
        asked.release()
        if not well:
            raise Unwell("it is ill")
        return "well"

    a_service = service(1, 2, interval_ms=20_000, fall=3)
    checks = asked_by(ask, [a_service], lambda *change: changes.put_nowait(change), jitter=lambda: 0.0)
    checks.start()
    async with asyncio.timeout(60):
        await asked.acquire()
        assert checks.check_now(0, 1), "well: asked once more, and that is all"
        await asked.acquire()
        well = False
        assert checks.check_now(0, 1)
        assert await changes.get() == (0, 1, False, "it is ill")
    await checks.stop()
    assert not checks.check_now(0, 1)


async def test_a_reload_keeps_the_counts_of_what_is_asked_as_before() -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()
    asked: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def ask(target: Target) -> str:
        asked.put_nowait((target.service, target.port))
        raise Unwell("it is ill")

    def no_change(*_: object) -> None:
        raise AssertionError("two of three failures take nobody down")

    calm, other = service(1, 2, fall=3, interval_ms=3_600_000), service(5, name="other", fall=1)
    checks = asked_by(ask, [calm], no_change, jitter=lambda: 0.0)
    checks.start()
    async with asyncio.timeout(30):
        assert await asked.get() == ("web", 1)
        checks.check_now(0, 1)
        assert await asked.get() == ("web", 1)
        await asyncio.sleep(0)
        checks._on_change = lambda *change: changes.put_nowait(change)
        checks.replace([other, calm])
        checks.check_now(1, 1)
        found = [await changes.get(), await changes.get()]
    assert sorted(found) == [(0, 1, False, "it is ill"), (1, 1, False, "it is ill")], (
        "places are the new ones"
    )
    checks.replace([calm])
    assert checks.last(0, 1) is not None
    await checks.stop()


@pytest.fixture
def unused_port(unused_tcp_port: int) -> int:
    """A port of loopback that nobody listens on."""
    return unused_tcp_port
