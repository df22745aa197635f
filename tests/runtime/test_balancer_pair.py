"""The balancers of a pair: what the primary is told and finds, its backup follows, and leads on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasyncd._native import OUTSIDE
from hasyncd.core.types import Role
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.control_server import Conclusion
from tests.native.frames import SYN, tcp
from tests.runtime.pair import SERVER, Member, members, synced_pair, until

THREE = ", ".join(f'{{ id = {id}, address = "10.0.1.{id}:8080" }}' for id in (21, 22, 23))
TURNED = ", ".join(f'{{ id = {id}, address = "10.0.1.{id}:8080" }}' for id in (23, 21, 22))


def states(member: Member) -> dict[int, str]:
    return {backend.id: backend.state for backend in member.services.views()[0].backends}


def table(member: Member) -> tuple[int, int]:
    return member.services.ring_generations()[0], member.balancer.tables_digest


def alike(a: Member, b: Member) -> bool:
    return table(a) == table(b) and a.view.peer.tables_match is True and b.view.peer.tables_match is True


def open_connections(member: Member, count: int) -> None:
    for index in range(count):
        member.engine.inject(OUTSIDE, tcp(SERVER, 5000 + index, "203.0.113.5", 80, SYN), now_ns())
    member.shell.pump.push()


async def test_a_drain_is_the_backups_too_and_outlives_the_takeover(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, backends=THREE, service_options="drain_timeout_s = 600") as (a, b):
        assert a.orders.drain({"backend": 22}) == (True, "backend 22 drains in web (0 flows)")
        a.orders.weigh({"backend": 23, "weight": 5})
        await until(lambda: states(b)[22] == "drain" and alike(a, b), "the backup follows")
        assert b.services.views()[0].follows
        weights = {backend.id: backend.weight for backend in b.services.views()[0].backends}
        assert weights == {21: 1, 22: 1, 23: 5}
        before = table(b)
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b takes over")
        await until(lambda: b.balancer.leads, "and leads")
        assert (table(b), states(b)) == (before, {21: "up", 22: "drain", 23: "up"})
        left = b.services.views(now_ns())[0].backends[1].drain_left_ms
        assert left is not None
        assert 0 < left <= 600_000
        assert b.orders.undrain({"backend": 22, "service": "web"})[0]
        assert states(b)[22] == "up"
        assert "backend_undrained" in b.events


async def test_the_primarys_verdict_counts_and_the_backups_opinion_does_not(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, backends=THREE) as (a, b):
        await until(lambda: b.services.views()[0].follows, "b was told")
        b.balancer._judged(0, 21, False, "b cannot reach it")
        a.balancer._judged(0, 22, False, "connection refused")
        await until(lambda: states(b)[22] == "down" and alike(a, b), "b follows")
        assert states(b)[21] == "up"
        before = table(b)
        a.die()
        await until(lambda: b.balancer.leads, "b leads")
        assert (table(b), states(b)) == (before, {21: "up", 22: "down", 23: "up"}), "nothing flaps"
        assert "backend_down" not in b.events


async def test_the_order_of_the_file_is_nobodys_business(tmp_path: Path) -> None:
    async with members(tmp_path, backends=THREE) as (a, b):
        other = b.file.read_text().replace(THREE, TURNED)
        b.file.write_text(other)
        assert a.settings.config_hash() == b.settings.config_hash()
        assert a.balancer.tables_digest == b.balancer.tables_digest


async def test_orders_are_for_the_primary_and_for_backends_that_are_there(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, backends=THREE) as (a, b):
        accepted, message = b.orders.drain({"backend": 22})
        assert not accepted
        assert message == "this node is not primary: tell the primary, and its backup follows"
        for order, request in (
            (a.orders.drain, {"backend": 9}),
            (a.orders.drain, {"backend": "22"}),
            (a.orders.drain, {"backend": 22, "service": "mail"}),
            (a.orders.drain, {"backend": 22, "service": ["web"]}),
            (a.orders.drain, {"backend": 22, "timeout_s": -1}),
            (a.orders.drain, {"backend": 22, "timeout_s": True}),
            (a.orders.weigh, {"backend": 22, "weight": 257}),
            (a.orders.weigh, {"backend": 22}),
            (a.orders.undrain, {}),
        ):
            with pytest.raises(Conclusion):
                order(request)
        assert set(states(a).values()) == {"up"}


async def test_the_end_of_a_drain_ends_what_is_left(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, backends=THREE) as (a, b):
        open_connections(a, 60)
        flows = a.engine.backend_flow_counts(0)
        assert all(flows[id] for id in (21, 22, 23))
        a.orders.drain({"backend": 21, "timeout_s": 0.2})
        await until(lambda: not a.engine.backend_flow_counts(0).get(21), "they are ended")
        await until(lambda: not b.engine.backend_flow_counts(0).get(21), "on the backup too")
        assert {id: a.engine.backend_flow_counts(0)[id] for id in (22, 23)} == {22: flows[22], 23: flows[23]}
        assert {"drain_over", "backend_flows_ended"} <= set(a.events)


@pytest.mark.parametrize(("on_down", "ended"), [("keep", False), ("reset", True)])
async def test_what_becomes_of_the_flows_of_a_dead_backend_is_policy(
    tmp_path: Path, on_down: str, ended: bool
) -> None:
    options = f'on_down = "{on_down}"'
    async with synced_pair(tmp_path, backends=THREE, service_options=options) as (a, _):
        open_connections(a, 60)
        had = a.engine.backend_flow_counts(0)[22]
        generation = a.services.ring_generations()[0]
        a.balancer._judged(0, 22, False, "no answer")
        if ended:
            await until(lambda: not a.engine.backend_flow_counts(0).get(22), "they are ended")
        else:
            await until(lambda: a.balancer._generations[0] == generation + 1, "published")
            assert a.engine.backend_flow_counts(0)[22] == had


async def test_a_reload_moves_no_flow_and_its_last_one_frees_a_backend_that_went(tmp_path: Path) -> None:
    async with synced_pair(tmp_path, backends=THREE) as (a, b):
        open_connections(a, 60)
        flows = a.engine.backend_flow_counts(0)
        text = a.file.read_text()
        gone = ', { id = 22, address = "10.0.1.22:8080" }'
        new = ', { id = 24, address = "10.0.1.24:8080", weight = 2 }'
        for member in (a, b):
            member.file.write_text(member.file.read_text().replace(gone, new))
        assert a.reload.reload(only_check=True)[0]
        assert states(a) == {21: "up", 22: "up", 23: "up"}
        accepted, message = a.reload.reload()
        assert accepted
        assert message.splitlines() == [
            "service web: backend 22 (10.0.1.22:8080) goes, and keeps its flows",
            "service web: backend 24 (10.0.1.24:8080) comes, weight 2",
        ]
        await until(lambda: a.balancer._generations == [2], "published")
        assert states(a) == {21: "up", 22: "removed", 23: "up", 24: "up"}
        assert a.engine.backend_flow_counts(0) == flows | {24: 0}
        await until(lambda: "config_skew" in b.events, "the backup's file is another until it is reloaded")
        await until(lambda: "members_unknown" in b.events, "and it does not know 24")
        assert b.reload.reload()[0]
        await until(lambda: alike(a, b) and b.view.peer.config_matches is True, "both have it")
        a.balancer.drain(0, 22, 0.1)
        await until(lambda: 22 not in states(a), "its last flow has gone")
        await until(lambda: alike(a, b), "b follows")
        a.file.write_text(text.replace("10.0.1.21:8080", "10.0.1.99:8080").replace("scrub_s", "# scrub_s"))
        accepted, message = a.reload.reload()
        assert not accepted
        assert "service[0].backends[0].address: 21 is at 10.0.1.21:8080" in message
        a.file.write_text("nonsense")
        assert not a.reload.reload()[0]
        assert states(a) == {21: "up", 23: "up", 24: "up"}


async def test_a_file_names_the_backends_and_the_backup_is_told(tmp_path: Path) -> None:
    listed = tmp_path / "backends"
    listed.write_text("21 10.0.1.21:8080\n22 10.0.1.22:8080 3  # the large one\n")
    source = f'source = {{ file = "{listed}" }}'
    async with synced_pair(tmp_path, backends="", service_options=source) as (a, b):
        await until(lambda: states(a) == {21: "up", 22: "up"} and alike(a, b), "both have them")
        assert states(b) == states(a)
        listed.write_text("21 10.0.1.21:8080\nnonsense\n")
        await until(lambda: "source_failed" in a.events, "a bad list changes nothing")
        assert states(a) == {21: "up", 22: "up"}
        listed.write_text("22 10.0.1.22:8080 3\n")
        await until(lambda: states(a) == {22: "up"} and alike(a, b), "21 had no flow: it is gone")
        a.die()
        await until(lambda: b.balancer.leads, "b leads")
        assert states(b) == {22: "up"}
