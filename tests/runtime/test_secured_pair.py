"""Two whole nodes with keys: the pair works as without, and takes nothing from anybody else."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hasyncd.core.messages import Hello
from hasyncd.core.types import Role
from hasyncd.core.wire import encode_frame
from hasyncd.pair_files import make_pair_files
from tests.runtime.pair import PORT, Member, loopback_addresses, members, synced_pair, until
from tests.runtime.wire import Wire

PAIR = ("gw-a", "gw-b")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the pair's keys lie in `keys`."""
    make_pair_files(tmp_path / "keys", PAIR)
    return tmp_path


@asynccontextmanager
async def wired_pair(directory: Path) -> AsyncIterator[tuple[Member, Member, Wire]]:
    node_a, node_b, near, far = loopback_addresses(4)
    wire = Wire(node_a, node_b, near, far)
    await wire.open()
    try:
        async with synced_pair(directory, (node_a, near, node_b, far)) as (a, b):
            yield a, b, wire
    finally:
        await wire.close()


def counted(member: Member, name: str) -> int:
    return member.shell.port_counters.get(name, 0)


async def test_every_flow_reaches_the_backup_and_status_says_secured(directory: Path) -> None:
    async with synced_pair(directory) as (a, b):
        for index in range(3000):
            a.open_flow(index)
        await until(lambda: a.table == b.table and b.table[0] == 3000, "3000 flows on the backup")
        await until(lambda: a.engine.count_at_risk()[0] == 0, "nothing at risk")
        status = b.report.build(b.shell.port_counters)
        assert (status["insecure"], status["peer"]["secured"]) == (False, True)
        assert a.shell.port_counters == b.shell.port_counters == {}
        assert b.view.rejections == {}


async def test_a_killed_primary_is_noticed_by_its_refusing_port(directory: Path) -> None:
    async with synced_pair(directory) as (a, b):
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b takes over")
        assert b.view.last_change_reason == "the primary's process is dead"
        assert b.view.certificate is not None
        assert b.view.certificate.complete


async def test_a_stranger_in_the_plain_breaks_no_stream(directory: Path) -> None:
    """The peer's own address, spoken from by somebody else: the stream of the pair goes on."""
    async with wired_pair(directory) as (a, b, _):
        entrance = (str(a.settings.peer.address.address), PORT)
        for said in (encode_frame(Hello(1, "gw-a", 9, 99, bytes(8), 16_384, bytes(16), 1)), bytes(3000)):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as stranger:
                # Behind the wire it comes from the peer's address, as far as b can see.
                await asyncio.get_running_loop().sock_connect(stranger, entrance)
                stranger.send(said)
                with contextlib.suppress(ConnectionError):
                    while await asyncio.get_running_loop().sock_recv(stranger, 1000):
                        pass
        await until(lambda: counted(b, "rejected_unauthenticated") == 2, "both are counted")
        a.open_flow(1)
        await until(lambda: a.table == b.table and b.table[0] == 1, "the flow")
        assert (a.view.sync.full_syncs, b.view.sync.full_syncs) == (1, 1), "the first stream still stands"
        assert b.events.count("unauthenticated") == 1, "told once, not for each"


async def test_two_pairs_of_the_same_names_do_not_become_one(directory: Path) -> None:
    make_pair_files(directory / "others", PAIR)
    shutil.rmtree(directory / "keys" / "gw-b")
    shutil.copytree(directory / "others" / "gw-b", directory / "keys" / "gw-b")
    async with members(directory) as (a, b):
        a.start()
        b.start()
        await until(lambda: a.node.role is b.node.role is Role.PRIMARY, "each acts alone")
        assert min(counted(each, "rejected_unauthenticated") for each in (a, b)) > 0
        assert a.view.peer.state == b.view.peer.state == "never"
