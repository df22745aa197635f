"""Two daemons behind a cut of every wire between them, both primary, each with hosts of its own; then it heals.

The LANs' ports are split into two islands: gw-a with the private host, gw-b with another one; the server hears both.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.datapath.namespaces import Namespace, join, namespaces
from tests.e2e.cuts import cut_sync, heal
from tests.e2e.world import OUTSIDE_VIP, SERVER, Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OTHER_HOST, OTHER_SERVER = "10.0.1.8", "203.0.113.51"
FLOWS = 20


class Talker:
    """UDP flows from a private host to a server, which answers; each knows its public port."""

    def __init__(self, host: Namespace, server: Namespace, address: str, port: int) -> None:
        with server.entered():
            self._answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._answering.bind((address, port))
        self._answering.settimeout(0.5)
        self._asking = []
        for _ in range(FLOWS):
            with host.entered():
                each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            each.connect((address, port))
            each.settimeout(0.5)
            self._asking.append(each)

    def talk(self) -> list[int]:
        """The public ports of the flows that came through and were answered."""
        return [port for each in self._asking if (port := self._one(each))]

    def _one(self, each: socket.socket) -> int:
        try:
            each.send(b"question")
            _, source = self._answering.recvfrom(64)
            self._answering.sendto(b"answer", source)
            assert source[0] == OUTSIDE_VIP
            return int(source[1]) if each.recv(64) == b"answer" else 0
        except OSError:
            return 0

    def close(self) -> None:
        for each in (self._answering, *self._asking):
            each.close()


def isolate(made: World, *ports: str) -> None:
    """These ports of the LANs' bridges speak to each other, and to nobody else."""
    for bridge, side in (("br-in", "in"), ("br-out", "out")):
        island = f"{bridge}-2"
        made.lan.ip("link", "add", island, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        made.lan.ip("link", "set", island, "up")
        for port in (f"b-{side}", *(port for port in ports if port.endswith(side))):
            made.lan.ip("link", "set", port, "master", island)


def join_again(made: World, *ports: str) -> None:
    for bridge, side in (("br-in", "in"), ("br-out", "out")):
        for port in (f"b-{side}", *(port for port in ports if port.endswith(side))):
            made.lan.ip("link", "set", port, "master", bridge)


@contextmanager
def split_world() -> Iterator[tuple[World, Talker, Talker]]:
    """A ready pair, and a talker for each island: `host2-in` and `server2-out` are gw-b's."""
    with world() as made, namespaces(2) as (host, server):
        for port, bridge, namespace, address in (
            ("host2-in", "br-in", host, OTHER_HOST), ("server2-out", "br-out", server, OTHER_SERVER),
        ):  # fmt: skip
            join(made.lan, port, namespace, "eth0")
            made.lan.ip("link", "set", port, "master", bridge)
            namespace.ip("address", "add", f"{address}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", "10.0.1.1")
        made.a.start()
        made.a.wait_role("primary")
        made.b.start()
        until(lambda: both_ready(made), "the pair is ready")
        made.wait_traffic()
        talkers = Talker(made.host, made.server, SERVER, 8000), Talker(host, server, OTHER_SERVER, 8001)
        try:
            yield made, *talkers
        finally:
            for talker in talkers:
                talker.close()


def both_ready(made: World) -> bool:
    return all(each.status["sync"]["state"] == "ready" for each in (made.a, made.b))


def settled(talker: Talker) -> list[int]:
    """Its ports, once every flow gets through."""
    ports: list[int] = []

    def through() -> bool:
        nonlocal ports
        ports = talker.talk()
        return len(ports) == FLOWS

    until(through, "every flow gets through")
    return ports


def counts(gateway: Gateway) -> dict[str, int | None]:
    return dict(gateway.status["sync"].get("merge") or {})


def test_flows_that_each_side_made_in_a_split_go_on_at_the_winner() -> None:
    with split_world() as (made, of_a, of_b):
        cut_sync(made)
        isolate(made, "host2-in", "server2-out")
        made.b.wait_role("primary")
        until(lambda: made.a.status["solo"], "both act alone")
        before, other = settled(of_a), settled(of_b)
        assert {port >> 1 & 1 for port in before} == {0}, "gw-a has the lower address"
        assert {port >> 1 & 1 for port in other} == {1}
        join_again(made, "host2-in", "server2-out")
        heal(made)
        until(
            lambda: made.a.status["role"] == "backup" and both_ready(made),
            "gw-b, of the higher generation, stays",
        )
        assert counts(made.b)["offered"] == counts(made.a)["offered"]
        assert (counts(made.b)["merged"] or 0) >= FLOWS
        assert counts(made.b)["collided"] == 0
        time.sleep(0.2)
        assert settled(of_a) == before, "what the loser made alone has its ports still"
        assert settled(of_b) == other
        assert '"split_healed"' in made.a.log
        assert '"merge_report"' in made.b.log
        made.b.kill()
        made.a.wait_role("primary")
        assert settled(of_a) == before, "and its own backup has it too"
        assert settled(of_b) == other
