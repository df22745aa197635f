"""A daemon with keys, and a hostile peer without: nothing that it says is parsed, and the addresses stay served."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from hasyncd.core.messages import Hello
from hasyncd.pair_files import make_pair_files
from tests.e2e.hostile_peer import CAPACITY, HostilePeer
from tests.e2e.world import SYNC, World, world

HELLO = Hello(1, "gw-b", 77, 99, bytes(8), CAPACITY, bytes(16), 1)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def machines() -> Iterator[World]:
    """gw-a runs with keys; where gw-b would be sits the hostile peer."""
    with world() as made:
        make_pair_files(made.a.directory / "keys", ("gw-a", "gw-b"))
        made.a.start("insecure = true", f'keys = "{made.a.directory}/keys/gw-a"')
        made.a.wait_role("primary")
        made.wait_traffic()
        yield made
        assert made.a.process
        assert made.a.process.poll() is None, "the daemon is alive"
        assert "Traceback" not in made.a.log


@pytest.fixture
def peer(machines: World) -> Iterator[HostilePeer]:
    with closing(HostilePeer(machines.b.namespace, SYNC["gw-b"], SYNC["gw-a"])) as hostile:
        yield hostile


def rejections(machines: World) -> dict[str, int]:
    counters: dict[str, int] = machines.a.status["counters"]
    return {name: count for name, count in counters.items() if name.startswith("rejected_") and count}


def test_a_forged_primary_is_not_heard(machines: World, peer: HostilePeer) -> None:
    with peer.primary():  # of generation 5: without keys the daemon would step down
        machines.a.wait_counter("rejected_unauthenticated", 20)
    assert machines.a.status["role"] == "primary"
    assert machines.a.status["peer"] | {"paths": []} == {
        "state": "never", "last_heard_ms": None, "node": None, "role": None, "config_matches": None,
        "secured": True, "key_log": None, "paths": [], "at_risk_flows": None, "at_risk_oldest_ms": None,
        "fitness": None, "tables_match": None, "protocol": None, "flows": None, "generation": None, "ready": None,
    }  # fmt: skip
    assert machines.talk()


@pytest.mark.parametrize("said", [(HELLO,), (b"GET / HTTP/1.1",), (os.urandom(50_000),)])
def test_a_stream_in_the_plain_is_closed_and_counted_and_nothing_of_it_parsed(
    machines: World, peer: HostilePeer, said: tuple[bytes, ...]
) -> None:
    before = rejections(machines).get("rejected_unauthenticated", 0)
    peer.say(*said)  # returns when the daemon has closed
    machines.a.wait_counter("rejected_unauthenticated", before + 1)
    assert rejections(machines).keys() == {"rejected_unauthenticated"}
    assert machines.talk()


def test_a_thousand_attempts_leave_no_memory_and_a_short_log(machines: World, peer: HostilePeer) -> None:
    def attack(count: int) -> None:
        for _ in range(count):
            peer.say(b"\x16\x03\x01\x02\x00\x01" + bytes(600))
            peer.beat(os.urandom(400))

    attack(200)
    memory, lines = machines.a.memory_kib, len(machines.a.log.splitlines())
    attack(1000)
    assert machines.a.memory_kib - memory < 4096
    assert len(machines.a.log.splitlines()) - lines < 20
    assert machines.talk()
