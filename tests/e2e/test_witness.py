"""A pair with a witness: a real etcd in a namespace of its own, which both gateways reach by a wire of their own.

gw-a ── 10.9.9.2 ── br-w 10.9.9.1: etcd ── 10.9.9.3 ── gw-b
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.datapath.namespaces import Namespace, join, namespaces
from tests.e2e.cuts import cut_lan, cut_sync, heal
from tests.e2e.world import World, until, world
from tests.runtime.etcd import Etcd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ADDRESS, PORTS = "10.9.9.1", (2379, 2380)
WITNESS = f'insecure = true\nwitness = {{ kind = "etcd", endpoints = ["http://{ADDRESS}:{PORTS[0]}"] }}'


@dataclass
class Scene:
    pair: World
    etcd: Etcd
    court: Namespace
    """Where the witness lives."""

    def cut_from_witness(self, letter: str) -> None:
        self.court.ip("link", "set", f"w-{letter}", "down")

    def armed(self) -> list[str]:
        """Who owns the VIPs at this moment."""
        gateways = (self.pair.a, self.pair.b)
        return [each.name for each in gateways if any(vip["owned"] for vip in each.status.get("vips", []))]

    def stays(self, armed: list[str], seconds: float = 1.0) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            assert self.armed() == armed, self.pair.a.log + self.pair.b.log
            time.sleep(0.02)


@pytest.fixture(params=["safety", "availability"])
def prefer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(prefer: str) -> Iterator[Scene]:
    """gw-a is primary, gw-b its ready backup, and the witness knows."""
    with world() as pair, namespaces(1) as (court,):
        court.ip("link", "add", "br-w", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        court.ip("link", "set", "br-w", "up")
        court.ip("address", "add", f"{ADDRESS}/24", "dev", "br-w")
        for letter, gateway, number in (("a", pair.a, 2), ("b", pair.b, 3)):
            join(court, f"w-{letter}", gateway.namespace, "witness")
            court.ip("link", "set", f"w-{letter}", "master", "br-w")
            gateway.namespace.ip("address", "add", f"10.9.9.{number}/24", "dev", "witness")
        etcd = Etcd(ADDRESS, PORTS, ("ip", "netns", "exec", court.name))
        try:
            etcd.start()
            with court.entered():
                etcd.wait_healthy()
            for gateway in (pair.a, pair.b):
                gateway.start("insecure = true", f'{WITNESS}\nprefer = "{prefer}"')
                gateway.wait_role("primary" if gateway is pair.a else "backup")
            wait_ready(pair)
            pair.wait_traffic()
            until(lambda: (pair.a.status["witness"] or {}).get("alone") is False, "the register says: paired")
            yield Scene(pair, etcd, court)
        finally:
            etcd.close()


def wait_ready(pair: World) -> None:
    until(
        lambda: all(each.status["sync"]["state"] == "ready" for each in (pair.a, pair.b)), "the pair is ready"
    )


def cut_between(pair: World) -> None:
    """Everything between the two gateways; each keeps its own way to the witness, gw-a its LANs."""
    cut_lan(pair, "inside", "gw-b")
    cut_lan(pair, "outside", "gw-b")
    cut_sync(pair)


def test_a_cut_of_everything_between_the_gateways_leaves_one_armed(scene: Scene) -> None:
    pair = scene.pair
    cut_between(pair)
    until(lambda: '"witness_refused"' in pair.b.log, "the backup was refused")
    scene.stays(["gw-a"])
    pair.wait_traffic()
    assert pair.a.status["witness"]["licensed"] is True
    assert pair.b.status["role"] == "backup"
    heal(pair)
    wait_ready(pair)
    assert [pair.a.status["role"], pair.a.status["generation"]] == ["primary", 1]
    assert pair.talk()


def test_a_primary_without_peer_and_witness_is_replaced(scene: Scene, prefer: str) -> None:
    pair = scene.pair
    scene.cut_from_witness("a")
    for side in ("inside", "outside"):
        cut_lan(pair, side, "gw-a")
    cut_sync(pair)
    pair.b.wait_role("primary")
    pair.wait_traffic()
    assert pair.b.status["witness"]["licensed"] is True
    if prefer == "safety":
        until(lambda: '"muted_without_witness"' in pair.a.log, "it is mute and says so")
        scene.stays(["gw-b"])
    else:
        until(lambda: '"solo_without_witness"' in pair.a.log, "it goes on and says so")


def test_the_witness_dies_and_comes_back_and_nothing_happens(scene: Scene) -> None:
    pair = scene.pair
    scene.etcd.kill()
    for gateway in (pair.a, pair.b):
        until(lambda gateway=gateway: '"witness_lost"' in gateway.log, "the loss is told")  # type: ignore[misc]
        assert gateway.status["witness"]["reachable"] is False
    scene.stays(["gw-a"])
    assert pair.talk()
    scene.etcd.start()
    for gateway in (pair.a, pair.b):
        until(lambda gateway=gateway: '"witness_back"' in gateway.log, "its return is told")  # type: ignore[misc]
    assert [pair.a.status["generation"], pair.b.status["generation"]] == [1, 1]
    assert [pair.a.status["role"], pair.b.status["role"]] == ["primary", "backup"]
    assert pair.b.status["sync"]["state"] == "ready"


def test_a_killed_primary_is_replaced_by_proof_and_the_register_follows(scene: Scene) -> None:
    pair = scene.pair
    killed = time.monotonic()
    pair.a.kill()
    until(lambda: scene.armed() == ["gw-b"], "gw-b has taken over")
    print(f"killed -> armed, as seen from outside: {(time.monotonic() - killed) * 1000:.0f} ms")
    assert pair.b.status["last_change"] == "the primary's process is dead"
    until(lambda: pair.b.status["witness"]["licensed"], "the register says so")
    assert pair.b.status["witness"]["generation"] == 2
    pair.wait_traffic()
    pair.a.start("insecure = true", WITNESS)
    pair.a.wait_role("backup")
    wait_ready(pair)
    until(lambda: pair.b.status["witness"]["alone"] is False, "paired again")
