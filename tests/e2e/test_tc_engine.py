"""The tc engine on real daemons: the kernel forwards what is established, and only while the lease lasts."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.test_paused_primary import Tap, stands_still, wait_ready
from tests.e2e.world import INSIDE_VIP, Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TC = ("capacity = 4096", 'capacity = 4096\nengine = "tc"')
AUTO = ("capacity = 4096", 'capacity = 4096\nengine = "auto"')
ONLY = "-all,+net_admin,+net_raw"
NET_ALONE = ("setpriv", "--no-new-privs", f"--bounding-set={ONLY}", f"--inh-caps={ONLY}")
WITH_BPF = tuple(word.replace(ONLY, f"{ONLY},+bpf") for word in NET_ALONE)


@pytest.fixture
def solo() -> Iterator[World]:
    with world() as made:
        made.a.start(*TC)
        made.a.wait_role("primary")
        made.wait_traffic()
        settle(made)
        yield made


@pytest.fixture
def pair() -> Iterator[World]:
    with world() as made:
        made.a.start(*TC)
        made.a.wait_role("primary")
        made.b.start(*TC)
        wait_ready(made)
        made.wait_traffic()
        settle(made)
        yield made


def settle(made: World) -> None:
    """The flow of `talk` is in the cache."""
    until(lambda: made.talk() and made.a.status["counters"]["cache_flows"] == 1, "the kernel forwards it")


def received(made: World) -> int:
    """Datagrams that wait at the server; they are read."""
    count = 0
    made._answering.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while made._answering.recvfrom(64):
            count += 1
    return count


def counters(gateway: Gateway) -> dict[str, int]:
    return dict(gateway.status["counters"])


def test_bulk_is_the_kernels_and_nothing_is_handled_twice(solo: World) -> None:
    """The sockets see misses alone: every datagram arrives once, and more than 99 of 100 never went up."""
    assert (solo.a.status["engine"], solo.a.status["engine_reason"]) in (("tc", "tcx"), ("tc", "clsact"))
    before, count = counters(solo.a), 5000
    arrived = 0
    for _ in range(count // 100):
        solo.blast(100)
        arrived += received_now(solo)
    arrived += received(solo)
    after = counters(solo.a)
    assert arrived == count
    hits = after["cache_hits"] - before["cache_hits"]
    assert hits >= count
    assert hits / (after["received_packets"] - before["received_packets"]) > 0.99
    assert after["sent_packets"] - before["sent_packets"] < count * 1.01


def received_now(made: World) -> int:
    count = 0
    made._answering.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while made._answering.recvfrom(64):
            count += 1
    return count


def test_a_killed_primary_takes_its_program_with_it(solo: World) -> None:
    assert solo.a.status["engine_reason"] == "tcx"
    solo.a.kill()
    solo.blast(200)
    assert received(solo) == 0
    assert "flow_cache" not in solo.a.filters()


def test_a_stopped_primary_forwards_nothing_once_its_lease_is_over(pair: World) -> None:
    """Frames still come to its MAC, of a flow that its cache holds: they are nobody's."""
    mac = pair.a.namespace.run("cat", "/sys/class/net/inside/address").strip()
    pair.a.signal(signal.SIGSTOP)
    until(lambda: stands_still(pair.a), "every thread of it stands still")
    pair.b.wait_role("primary")
    pair.wait_traffic()
    pair.host.ip("neigh", "replace", INSIDE_VIP, "lladdr", mac, "dev", "eth0", "nud", "permanent")
    received(pair)
    with contextlib.closing(Tap(pair.lan, "a-out")) as outside:
        for _ in range(20):
            pair.blast(50)
            time.sleep(0.02)
        assert received(pair) == 0
        assert outside.foreign() == []
    pair.host.ip("neigh", "del", INSIDE_VIP, "dev", "eth0")
    pair.a.signal(signal.SIGCONT)
    pair.a.wait_role("backup")
    wait_ready(pair)
    assert counters(pair.a)["cache_no_lease"] >= 1000


def test_the_backup_has_the_flow_in_its_own_cache_before_it_is_needed(pair: World) -> None:
    until(lambda: counters(pair.b)["cache_flows"] == 1, "the backup's cache is warm")
    assert counters(pair.b)["cache_hits"] == 0
    port = pair.public_port
    pair.a.kill()
    pair.b.wait_role("primary")
    pair.wait_traffic()
    assert pair.public_port == port
    assert counters(pair.b)["cache_hits"] > 0


def test_auto_says_why_there_is_no_tc_and_goes_on_without() -> None:
    with world() as made:
        made.a.start(*AUTO, confined=NET_ALONE)
        made.a.wait_role("primary")
        made.wait_traffic()
        status = made.a.status
        assert status["engine"] == "packet"
        assert status["engine_reason"].startswith("tc is not available: ")
        assert "CAP_BPF" in status["engine_reason"]


def test_tc_that_cannot_be_had_is_no_start() -> None:
    with world() as made:
        made.a.start(*TC, confined=NET_ALONE)
        assert made.a.end() == 2
        assert "CAP_BPF" in made.a.log


def test_cap_bpf_beside_the_two_is_enough() -> None:
    with world() as made:
        made.a.start(*TC, confined=WITH_BPF)
        made.a.wait_role("primary")
        made.wait_traffic()
        assert made.a.status["engine"] == "tc"
