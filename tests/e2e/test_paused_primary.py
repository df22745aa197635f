"""A primary that is stopped for a second and wakes: its lease has ended, so it forwards nothing and joins anew."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.datapath.namespaces import Namespace
from tests.e2e.world import HOST, INSIDE_VIP, OUTSIDE_VIP, SERVER, Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PAUSE_S = 1.0
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4


class Tap:
    """What a gateway sends into a LAN for somebody else: forwarded packets, and ARP in the name of a VIP."""

    def __init__(self, lan: Namespace, port: str) -> None:
        with lan.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._socket.bind((port, _ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def foreign(self) -> list[str]:
        """Sender and kind of every such frame since the last look."""
        found = []
        while True:
            try:
                frame, (_, _, direction, _, _) = self._socket.recvfrom(70_000)
            except BlockingIOError:
                return found
            kind = frame[12:14]
            sender = frame[26:30] if kind == b"\x08\x00" else frame[28:32] if kind == b"\x08\x06" else b""
            address = socket.inet_ntoa(sender) if sender else ""
            if direction != _PACKET_OUTGOING and address in (HOST, SERVER, INSIDE_VIP, OUTSIDE_VIP):
                found.append(f"{'IP' if kind[1] == 0 else 'ARP'} {address}")


@pytest.fixture
def pair() -> Iterator[World]:
    with world() as made:
        made.a.start()
        made.a.wait_role("primary")
        made.b.start()
        wait_ready(made)
        made.wait_traffic()
        yield made


def wait_ready(machines: World) -> None:
    gateways = (machines.a, machines.b)
    until(lambda: all(each.status["sync"]["state"] == "ready" for each in gateways), "the pair is ready")


def stands_still(gateway: Gateway) -> bool:
    """A stop reaches threads that run on other cores a little later."""
    assert gateway.process
    tasks = Path(f"/proc/{gateway.process.pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def test_a_woken_primary_forwards_nothing_with_its_old_lease(pair: World) -> None:
    with (
        contextlib.closing(Tap(pair.lan, "a-in")) as inside,
        contextlib.closing(Tap(pair.lan, "a-out")) as outside,
    ):
        assert pair.talk()
        assert inside.foreign(), "the tap sees what the primary forwards"
        assert outside.foreign()
        port = pair.public_port
        sent = pair.a.status["counters"]["sent_packets"]
        pair.a.signal(signal.SIGSTOP)
        until(lambda: stands_still(pair.a), "every thread of it stands still")
        stopped = time.monotonic()
        pair.blast(500)  # the LAN still sends to the stopped node: this waits in its packet socket
        pair.b.wait_role("primary")
        assert pair.b.status["certificate"]["complete"] is True
        assert pair.b.status["last_change"].startswith("the primary is silent for ")
        pair.wait_traffic()
        time.sleep(max(0.0, PAUSE_S - (time.monotonic() - stopped)))
        assert inside.foreign() + outside.foreign() == []
        pair.a.signal(signal.SIGCONT)
        pair.a.wait_role("backup")
        wait_ready(pair)
        assert inside.foreign() + outside.foreign() == [], "neither a packet nor an ARP answer"
        after = pair.a.status["counters"]
        assert after["sent_packets"] == sent
        assert after["drop_no_lease"] >= 500, "it has met what waited, and dropped it"
        assert pair.a.status["generation"] == pair.b.status["generation"] == 2
        assert pair.a.status["sync"]["digest_match"] is True
        assert pair.talk()
        assert pair.public_port == port


def test_a_solo_primary_that_slept_listens_before_it_arms_again(pair: World) -> None:
    pair.b.kill()
    until(lambda: pair.a.status["solo"], "a acts alone")
    pair.a.signal(signal.SIGSTOP)
    time.sleep(PAUSE_S)
    pair.a.signal(signal.SIGCONT)
    pair.wait_traffic()
    assert pair.a.status["role"] == "primary"
    assert '"slept"' in pair.a.log


def test_a_killed_primary_is_replaced_and_comes_back_as_backup(pair: World) -> None:
    pair.a.kill()
    pair.b.wait_role("primary")
    assert pair.b.status["last_change"] == "the primary's process is dead"
    pair.wait_traffic()
    pair.a.start()
    pair.a.wait_role("backup")
    wait_ready(pair)


def test_sigterm_hands_over_and_ends_with_0(pair: World) -> None:
    pair.a.signal(signal.SIGTERM)
    assert pair.a.end() == 0
    pair.b.wait_role("primary")
    assert pair.b.status["last_change"] == "the primary handed over"
    assert pair.b.status["certificate"]["complete"] is True
    pair.wait_traffic()
    assert not pair.a.socket.exists()
