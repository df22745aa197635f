"""hasyncd.runtime.peer_port: who may speak, and what is told of those who may not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from hasyncd.config_values import Endpoint
from hasyncd.runtime.peer_port import Connection, PeerPort, PeerPortError
from tests.datapath.namespaces import namespaces
from tests.runtime.pair import PORT, loopback_addresses, until


def endpoint(address: str, port: int = PORT) -> Endpoint:
    return Endpoint(IPv4Address(address), port)


class Listening:
    """An open port, what it handed on, and the addresses around it."""

    def __init__(self) -> None:
        self.here, self.peer, self.stranger = loopback_addresses(3)
        self.port = PeerPort(endpoint(self.here), endpoint(self.peer))
        self.connections: list[socket.socket] = []
        self.datagrams: list[bytes] = []
        self._made: list[socket.socket] = []
        self.port.open(
            on_connection=lambda made: self.connections.append(made.socket),
            on_datagram=lambda payload, path: self.datagrams.append(payload),
        )

    async def connect(self, source: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._made.append(made)
        made.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(made, (self.here, PORT))
        return made

    def send(self, source: str, *payloads: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            for payload in payloads:
                sender.sendto(payload, (self.here, PORT))

    def close(self) -> None:
        self.port.close()
        for each in (*self.connections, *self._made):
            each.close()


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    with contextlib.closing(Listening()) as made:
        yield made


async def is_closed(connection: socket.socket) -> bool:
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 1) == b""
    except ConnectionError:
        return True


async def test_a_connection_is_handed_on_with_its_first_byte_unread(listening: Listening) -> None:
    connection = await listening.connect(listening.peer)
    await asyncio.sleep(0)
    assert listening.connections == []
    connection.send(b"hello")
    await until(lambda: listening.connections, "the connection")
    assert listening.connections[0].recv(16) == b"hello"
    assert not listening.port.counters


async def test_a_probe_that_says_nothing_is_no_connection(listening: Listening) -> None:
    (await listening.connect(listening.peer)).close()
    connection = await listening.connect(listening.peer)
    connection.send(b"x")
    await until(lambda: listening.connections, "the one that speaks")
    assert len(listening.connections) == 1
    assert not listening.port.counters


async def test_a_stranger_is_refused_and_counted(listening: Listening) -> None:
    assert await is_closed(await listening.connect(listening.stranger))
    listening.send(listening.stranger, b"one", b"two")
    await until(lambda: listening.port.counters["datagrams_refused"] == 2, "both datagrams")
    assert listening.port.counters["connections_refused"] == 1
    assert (listening.connections, listening.datagrams) == ([], [])


async def test_a_silent_connection_is_closed_after_its_time(listening: Listening) -> None:
    assert await is_closed(await listening.connect(listening.peer))
    assert listening.port.counters["connections_silent"] == 1


async def test_silent_connections_make_room_for_one_that_speaks(listening: Listening) -> None:
    silent = [await listening.connect(listening.peer) for _ in range(20)]
    speaker = await listening.connect(listening.peer)
    speaker.send(b"x")
    await until(lambda: listening.connections, "the one that speaks")
    assert await is_closed(silent[0])
    await until(lambda: listening.port.counters["connections_silent"] == 20, "all silent ones are gone")


async def test_a_reset_before_the_first_byte_is_forgotten(listening: Listening) -> None:
    connection = await listening.connect(listening.peer)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
    again = await listening.connect(listening.peer)
    again.send(b"x")
    await until(lambda: listening.connections, "the next one")
    assert len(listening.connections) == 1


async def test_datagrams_of_the_peer_come_in_order_and_whole_up_to_the_limit(listening: Listening) -> None:
    payloads = [b"", b"a", bytes(512), bytes(513), bytes(9000)]
    listening.send(listening.peer, *payloads)
    await until(lambda: len(listening.datagrams) == 5, "all datagrams")
    assert [len(payload) for payload in listening.datagrams] == [0, 1, 512, 513, 513]


async def test_two_ports_talk(listening: Listening) -> None:
    heard: list[bytes] = []
    connections: list[socket.socket] = []
    other = PeerPort(endpoint(listening.peer), endpoint(listening.here))
    other.open(
        on_connection=lambda made: connections.append(made.socket),
        on_datagram=lambda payload, path: heard.append(payload),
    )
    done: list[Connection | None] = []
    refused: list[bool] = []
    try:
        listening.port.send_datagram(b"beat")
        await until(lambda: heard == [b"beat"], "the heartbeat")
        listening.port.connect(done.append)
        await until(lambda: done, "the connection")
        assert done[0] is not None
        with done[0].socket as connection:
            assert connection.getsockname()[0] == listening.here
            connection.send(b"x")
            await until(lambda: connections, "accepted")
        listening.port.probe(lambda: refused.append(True))
        await asyncio.sleep(0.1)
        assert refused == [], "somebody listens"
    finally:
        other.close()
        for each in connections:
            each.close()
    listening.port.probe(lambda: refused.append(True))
    await until(lambda: refused == [True], "nobody listens now")


@pytest.mark.e2e
async def test_two_ports_talk_ipv6_and_strangers_are_refused() -> None:
    first, second = (Endpoint(IPv6Address(f"fd00::{number}"), PORT) for number in (1, 2))
    heard: list[bytes] = []
    made: list[Connection] = []
    done: list[Connection | None] = []
    with namespaces(1) as (namespace,):
        namespace.speak_ipv6()
        for number in (1, 2, 3):
            namespace.ip("addr", "add", f"fd00::{number}/64", "dev", "lo", "nodad")
        with namespace.entered():
            here, there = PeerPort(first, second), PeerPort(second, first)
            here.open(on_connection=made.append, on_datagram=lambda payload, path: heard.append(payload))
            there.open(on_connection=lambda _: None, on_datagram=lambda *_: None)
            there.connect(done.append)
            there.send_datagram(b"beat")
            await until(lambda: done and heard == [b"beat"], "connection and heartbeat")
            assert done[0] is not None
            with done[0].socket as connection:
                connection.send(b"x")
                await until(lambda: made, "accepted")
                made[0].socket.close()
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("fd00::3", 0))
                stranger.sendto(b"beat", ("fd00::1", PORT))
            await until(lambda: here.counters["datagrams_refused"] == 1, "the stranger is refused")
            here.close()
            there.close()
            taken = PeerPort(Endpoint(IPv6Address("fd00::9"), PORT), first)
            with pytest.raises(PeerPortError, match=r"peer\.listen \[fd00::9\]:7077: Cannot assign"):
                taken.open(on_connection=lambda _: None, on_datagram=lambda *_: None)


async def test_a_connect_that_fails_says_so(listening: Listening) -> None:
    done: list[Connection | None] = []
    listening.port.connect(done.append)
    await until(lambda: done == [None], "refused")


async def test_a_connect_that_was_given_up_says_nothing(listening: Listening) -> None:
    done: list[Connection | None] = []
    with socket.create_server((listening.peer, PORT)):
        give_up = listening.port.connect(done.append)
        give_up()
        listening.port.connect(done.append)
        await until(lambda: done, "the second attempt")
    assert len(done) == 1
    assert done[0] is not None
    done[0].socket.close()


async def test_a_heartbeat_that_cannot_leave_is_counted(listening: Listening) -> None:
    listening.port.send_datagram(bytes(70_000))
    assert sum(listening.port.counters.values()) == 1
    assert next(iter(listening.port.counters)).startswith("heartbeat_send_")


async def test_an_address_of_another_machine_is_named(listening: Listening) -> None:
    port = PeerPort(endpoint("192.0.2.1"), endpoint(listening.peer))
    with pytest.raises(
        PeerPortError, match=r"^peer\.listen 192\.0\.2\.1:7077: Cannot assign requested address$"
    ):
        port.open(on_connection=lambda _: None, on_datagram=lambda *_: None)
    port.close()


async def test_a_taken_port_is_named_and_nothing_stays_open(listening: Listening) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        (address,) = loopback_addresses(1)
        port = PeerPort(endpoint(address), endpoint(listening.peer))
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind((address, PORT))
            if kind == socket.SOCK_STREAM:
                holder.listen()
            with pytest.raises(PeerPortError, match=f"peer.listen {address}:7077: Address already in use"):
                port.open(on_connection=lambda _: None, on_datagram=lambda *_: None)
        port.open(on_connection=lambda _: None, on_datagram=lambda *_: None)
        port.close()


async def test_close_may_be_repeated_and_ends_what_was_under_way(listening: Listening) -> None:
    done: list[Connection | None] = []
    silent = await listening.connect(listening.peer)
    listening.port.connect(done.append)
    listening.port.close()
    listening.port.close()
    listening.port.send_datagram(b"nothing")
    assert await is_closed(silent)
    assert done == []
