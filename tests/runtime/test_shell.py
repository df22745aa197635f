"""hasyncd.runtime.shell: two whole nodes that talk over loopback in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hasyncd.core.types import Role
from hasyncd.runtime.clock import now_ns
from tests.native.frames import udp
from tests.runtime.pair import HOST, SERVER, Member, loopback_addresses, members, synced_pair, until
from tests.runtime.wire import Wire


@asynccontextmanager
async def wired_pair(directory: Path, **options: str | int) -> AsyncIterator[tuple[Member, Member, Wire]]:
    """A ready pair with a wire between that can be disturbed."""
    node_a, node_b, near, far = loopback_addresses(4)
    wire = Wire(node_a, node_b, near, far)
    await wire.open()
    try:
        async with synced_pair(directory, (node_a, near, node_b, far), **options) as (a, b):
            yield a, b, wire
    finally:
        await wire.close()


def same_tables(a: Member, b: Member) -> bool:
    return a.table == b.table and b.view.sync.digest_match is True


async def test_a_pair_finds_its_roles_and_every_flow_reaches_the_backup(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(300):
            a.open_flow(index)
        await until(lambda: same_tables(a, b) and b.table[0] == 300, "300 flows on the backup")
        await until(lambda: a.engine.count_at_risk()[0] == 0, "nothing at risk")
        assert (a.view.generation, b.view.generation) == (1, 1)
        assert b.view.rejections == {}


async def test_the_first_packet_waits_for_the_acknowledgement(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, commit_timeout_ms=10_000) as (a, b):
        a.open_flow(0)
        assert a.left() == [], "nothing may leave before the backup holds the flow"
        left = []

        def arrived() -> bool:
            left.extend(a.left())
            return bool(left)

        await until(arrived, "the held packet leaves")
        assert b.table[0] == 1
        assert (left[0].source, left[0].payload) == ("203.0.113.5", b"first")
        assert a.engine.counters()["fail_open_released"] == 0


async def test_a_full_sync_carries_a_table_that_changes_meanwhile(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, b):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        for index in range(5000):
            a.open_flow(index)
        assert len(a.left()) == 5000, "a solo primary holds nothing back"
        b.start()
        for index in range(5000, 8000):
            a.open_flow(index)
            if index % 50 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: a.ready and b.ready, "b is ready")
        await until(lambda: same_tables(a, b) and b.table[0] == 8000, "the same 8000 flows")
        assert b.view.rejections == {}
        assert b.view.sync.full_syncs == 1


async def test_process_death_promotes_without_waiting_for_the_timer(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(100):
            a.open_flow(index)
        await until(lambda: same_tables(a, b), "the flows are on b")
        a.left()
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
        assert b.view.last_change_reason == "the primary's process is dead"
        certificate = b.view.certificate
        assert certificate is not None
        assert (certificate.complete, certificate.flows_held, certificate.digest) == (True, 100, "match")
        assert b.view.generation == 2
        assert (b.settings.node.state_dir / "generation").read_text().startswith("generation 2 ")
        b.engine.inject(0, udp(HOST, 10_000, SERVER, 7000, b"second"), now_ns())
        assert [packet.payload for packet in b.left()] == [b"second"], "a held flow goes on at once"


async def test_the_death_of_the_backup_makes_the_primary_solo_and_releases_what_waits(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, commit_timeout_ms=10_000) as (a, b):
        b.die()
        a.open_flow(0)
        await until(lambda: a.view.solo, "a acts alone")
        await until(lambda: len(a.left()) == 1, "the held packet leaves")
        assert "solo" in a.events
        assert a.node.role is Role.PRIMARY


async def test_a_killed_node_comes_back_as_backup_and_the_second_death_loses_nothing(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(200):
            a.open_flow(index)
        await until(lambda: same_tables(a, b), "the flows are on b")
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
        peer = a.settings.peer
        again = Member(tmp_path, "gw-a", 200, str(peer.listen.address), str(peer.address.address))
        try:
            again.start()
            await until(lambda: again.ready and b.ready, "a has joined again")
            assert (again.node.role, again.view.generation) == (Role.BACKUP, 2)
            assert again.table == b.table
            b.die()
            await until(lambda: again.node.role is Role.PRIMARY, "a is primary again")
            assert again.view.certificate is not None
            assert again.view.certificate.complete
            assert again.view.generation == 3
        finally:
            again.die()


async def test_log_overrun_leads_to_one_sync_of_what_differs(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, log_records=1024) as (a, b):
        for index in range(100):
            a.open_flow(index)
        await until(lambda: same_tables(a, b), "a hundred flows")
        for index in range(3000):  # in one turn of the loop: no record can leave meanwhile
            a.engine.inject(0, udp(HOST, 10_000 + index, SERVER, 7000), now_ns())
        await until(lambda: "log_overrun" in a.events, "the log overran")
        await until(lambda: a.ready and b.ready and same_tables(a, b), "the tables are the same again")
        assert b.table[0] == 3000
        assert b.view.rejections == {}, "SYNC_BEGIN named the sequence that came"
        assert (a.view.sync.full_syncs, a.view.sync.least_syncs) == (1, 1)


async def test_a_peer_that_stops_reading_holds_nothing_up(tmp_path: Path) -> None:
    options: dict[str, str | int] = {"log_records": 1024, "capacity": 131_072}
    async with wired_pair(tmp_path, **options) as (a, b, wire):
        wire.stall_stream()
        opened = 0
        while "log_overrun" not in a.events:
            for index in range(opened, opened + 500):
                a.open_flow(index)
            opened += 500
            await asyncio.sleep(0.001)
            a.left()
            assert opened < 120_000, "the kernel's buffers took it all"
        await until(lambda: not a.view.commit_held, "nothing waits for a peer that does not answer")
        a.open_flow(opened)
        await until(lambda: any(packet.sport for packet in a.left()), "new flows leave")
        assert a.node.role is Role.PRIMARY
        assert b.node.role is Role.BACKUP, "heartbeats went on, so nobody promoted"
        wire.resume_stream()
        await until(lambda: a.ready and b.ready and same_tables(a, b), "the tables are the same again")
        assert b.table[0] == opened + 1


@pytest.mark.parametrize(("policy", "counter"), [("fail_open", 1), ("fail_closed", 0)])
async def test_commit_timeout_follows_the_declared_policy(tmp_path: Path, policy: str, counter: int) -> None:
    async with wired_pair(tmp_path, on_commit_timeout=policy) as (a, _, wire):
        wire.stall_stream()
        a.open_flow(0)
        total = "fail_open_released" if policy == "fail_open" else "fail_closed_dropped"
        await until(lambda: a.engine.counters()[total] == 1, total)
        assert len(a.left()) == counter


async def test_a_stop_hands_over_and_loses_nothing(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(500):
            a.open_flow(index)
        a.shell.command_stop()  # what SIGTERM does, in the middle of unacknowledged flows
        a.left()
        a.engine.inject(0, udp(HOST, 10_000, SERVER, 7000), now_ns())
        assert a.left() == [], "a leaving node forwards nothing"
        await until(a.stopped.is_set, "a may end")
        assert b.node.role is Role.PRIMARY
        assert b.view.last_change_reason == "the primary handed over"
        assert b.table[0] == 500
        assert b.view.certificate is not None
        assert b.view.certificate.complete


async def test_a_switchover_moves_the_roles_and_back(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        a.open_flow(0)
        await until(lambda: same_tables(a, b), "the flow is on b")
        assert a.shell.command_switchover(force=False) == (True, "handing over to the peer")
        await until(lambda: b.node.role is Role.PRIMARY and a.ready and b.ready, "a follows b")
        assert a.node.role is Role.BACKUP
        assert b.shell.command_switchover(force=False)[0]
        await until(lambda: a.node.role is Role.PRIMARY and a.ready and b.ready, "b follows a")
        assert a.table == b.table
        assert (a.table[0], a.view.generation) == (1, 3)


async def test_a_generation_that_cannot_be_written_is_a_fault_and_arms_nothing(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        (a.settings.node.state_dir / "generation.new").mkdir()
        a.start()
        await until(lambda: a.node.role is Role.FAULT, "a is in fault")
        a.open_flow(0)
        assert a.left() == [], "no packet"
        assert a.engine.counters()["arp_announced"] == 0, "nor an announcement: it has only asked"
        assert a.table[0] == 0
        assert "generation: cannot be written" in a.view.last_change_reason
        assert not (a.settings.node.state_dir / "generation").exists()
        a.shell.report_links("no interface is up")
        a.shell.report_links(None)
        assert a.node.role is Role.FAULT, "a link that comes back heals no disk"
        (a.settings.node.state_dir / "generation.new").rmdir()
        await until(lambda: a.node.role is Role.PRIMARY, "the disk can be written again")
        text = (a.settings.node.state_dir / "generation").read_text()
        assert text.startswith(f"generation {a.view.generation} ")


async def test_a_faulty_backup_leaves_its_primary_serving(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        b.shell.report_links("no interface is up")
        assert b.node.role is Role.FAULT
        await until(lambda: a.view.solo, "a acts alone")
        b.shell.report_links(None)
        await until(lambda: a.ready and b.ready, "b is back")


async def test_a_faulty_primary_gives_way(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        a.open_flow(0)
        await until(lambda: same_tables(a, b), "the flow is on b")
        a.left()
        a.shell.report_links("no interface is up")
        a.engine.inject(0, udp(HOST, 10_000, SERVER, 7000), now_ns())
        assert a.left() == []
        await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
        a.shell.report_links(None)
        await until(lambda: a.ready and b.ready and a.node.role is Role.BACKUP, "a follows b")
        assert a.table == b.table


async def test_resync_is_a_full_sync_from_either_side(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(100):
            a.open_flow(index)
        for count, side in enumerate((a, b), start=2):
            assert side.shell.command_resync(full=True)[0]
            await until(
                lambda count=count: a.ready and b.ready and b.view.sync.full_syncs == count,  # type: ignore[misc]
                "ready after the full sync",
            )
            assert same_tables(a, b)


async def test_stop_may_come_before_start_and_twice(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, b):
        a.shell.stop()
        b.start()
        b.shell.stop()
        b.shell.stop()
