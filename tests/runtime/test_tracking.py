"""Checks of the machine become samples: real commands, real interfaces, real neighbours in namespaces."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hasyncd.config_tracks import Track
from hasyncd.datapath.interfaces import Interface, find_interface
from hasyncd.datapath.kernel_tables import RouteEntry
from hasyncd.runtime import tracking
from hasyncd.runtime.tracking import Tracking, judge_interface
from tests.datapath.namespaces import Namespace, join, namespaces
from tests.native.frames import number

ROUTER, ROUTER6 = "203.0.113.1", "2001:db8:2::1"


def test_an_interface_is_judged_by_its_flags() -> None:
    with namespaces(2) as (near, far):
        join(near, "up0", far, "far0")
        with near.entered():
            assert judge_interface("up0") == (True, "up0 is up")
            assert judge_interface("none0") == (False, "there is no interface none0")
            far.ip("link", "set", "far0", "down")
            deadline = time.monotonic() + 30
            while judge_interface("up0") != (
                False,
                "up0 is down",
            ):  # the carrier's loss is noticed a moment later
                assert time.monotonic() < deadline
                time.sleep(0.01)


# --- gateways ------------------------------------------------------------------------------------------


@contextmanager
def a_router() -> Iterator[tuple[Namespace, tuple[Interface, Interface], Namespace]]:
    """This machine with its two interfaces, and a router outside."""
    with namespaces(3) as (machine, inside, router):
        join(machine, "inside", inside, "eth0")
        join(machine, "outside", router, "eth0")
        for namespace in (machine, router):
            namespace.speak_ipv6()
        machine.ip("address", "add", "203.0.113.2/24", "dev", "outside")
        router.ip("address", "add", f"{ROUTER}/24", "dev", "eth0")
        router.ip("address", "add", f"{ROUTER6}/64", "dev", "eth0", "nodad")
        with machine.entered():
            yield machine, (find_interface("inside"), find_interface("outside")), router


def a_track(**more: object) -> Track:
    return Track.model_validate({"name": "uplink", "kind": "gateway", "interval_ms": 20} | more)


async def sample(
    track: Track, lans: tuple[Interface, Interface], routes: list[RouteEntry] | None = None
) -> tuple[bool, str]:
    """The first sample that the checks give."""
    samples: asyncio.Queue[tuple[str, bool, str]] = asyncio.Queue()
    checks = Tracking(
        [track], lans, lambda: routes or [], lambda *each: samples.put_nowait(each), jitter=lambda: 0.0
    )
    checks.start()
    try:
        async with asyncio.timeout(30):
            _, good, why = await samples.get()
        return good, why
    finally:
        await checks.stop()


@pytest.mark.parametrize("address", [ROUTER, ROUTER6])
async def test_a_router_that_answers_is_good_and_one_that_is_gone_is_not(address: str) -> None:
    with a_router() as (_, lans, router):
        track = a_track(address=address, timeout_ms=20)
        async with asyncio.timeout(30):
            while not (await sample(track, lans))[0]:
                pass  # a link-local address takes a moment to be there
        assert await sample(track, lans) == (True, f"{address} answers")
        router.ip("address", "flush", "dev", "eth0")
        assert await sample(track, lans) == (False, f"no answer from {address} within 20 ms")


async def test_a_machine_without_an_address_on_the_lan_can_ask_too() -> None:
    with a_router() as (machine, _, _):
        machine.ip("address", "flush", "dev", "outside")
        lans = find_interface("inside"), find_interface("outside")
        async with asyncio.timeout(30):
            while not (await sample(a_track(address=ROUTER), lans))[0]:
                pass


async def test_the_gateways_of_the_default_routes_are_asked_where_none_is_named() -> None:
    with a_router() as (_, lans, _):
        assert await sample(a_track(), lans) == (False, "there is no default route")
        elsewhere: RouteEntry = (0, 0, 1, number("203.0.113.77"))
        default: RouteEntry = (0, 0, 1, number(ROUTER))
        async with asyncio.timeout(30):
            while not (await sample(a_track(), lans, [elsewhere, default]))[0]:
                pass
        good, why = await sample(a_track(timeout_ms=20), lans, [elsewhere])
        assert (good, why) == (False, "no answer from 203.0.113.77 within 20 ms")


async def test_an_interface_that_is_down_cannot_ask() -> None:
    with a_router() as (machine, lans, _):
        machine.ip("link", "set", "outside", "down")
        assert await sample(a_track(address=ROUTER), lans) == (False, os.strerror(errno.ENETDOWN))


async def test_own_shortage_is_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([OSError(errno.EMFILE, "no descriptor"), OSError(errno.EPERM, "not allowed")])

    def fail(name: str) -> None:
        raise next(answers)

    monkeypatch.setattr(tracking, "judge_interface", fail)
    lo = Interface("lo", 1, bytes(6), 65536, ())
    good, why = await sample(a_track(kind="interface", interface="lo"), (lo, lo))
    assert (good, why) == (False, os.strerror(errno.EPERM)), "the first was passed over"
