"""hasyncd.runtime.verbs: what an operator's verbs answer, asked through a real control socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hasyncd._native import INSIDE, OUTSIDE
from hasyncd.core.types import Role
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.control_server import ControlServer
from hasyncd.runtime.verbs import make_handlers
from tests.native.frames import SYN, echo, tcp
from tests.runtime.pair import HOST, SERVER, Member, members, synced_pair, until

Answer = tuple[list[dict[str, Any]], int, str]

# DESIGN §7, fixed.
FLOW_KEYS = {
    "proto", "src", "sport", "dst", "dport", "reply_src", "reply_sport", "reply_dst", "reply_dport", "state",
    "timeout_s", "service", "backend", "rule", "at_risk",
}  # fmt: skip


@asynccontextmanager
async def served(member: Member) -> AsyncIterator[Path]:
    path = member.settings.control.socket
    server = ControlServer(
        path,
        make_handlers(
            member.settings, member.shell, member.report, member.services, member.orders, member.reload
        ),
    )
    await server.start()
    try:
        yield path
    finally:
        await server.stop()


async def ask(path: Path, verb: str, **arguments: object) -> Answer:
    """Objects, exit code and message of a whole answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
    lines = [json.loads(line) async for line in reader]
    writer.close()
    end = lines.pop()
    assert end["end"] is True
    return lines, end["exit"], end["message"]


async def test_status_is_one_object(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        (status,), code, _ = await ask(path, "status")
        assert (status["node"], status["role"], code) == ("gw-a", "init", 0)


async def test_explains_flows_services_and_ports(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        web = {"src": SERVER, "sport": 5000, "dst": "203.0.113.5", "dport": 80, "proto": "tcp"}
        (fresh,), code, _ = await ask(path, "explain", **web)
        assert (fresh["verdict"], fresh["side"], fresh["forwards"], code) == ("new_flow", "outside", True, 0)
        assert fresh["service"]["name"] == "web"
        assert fresh["service"]["backend"]["address"] == "10.0.1.21:8080"
        assert fresh["service"]["ring_generation"] == a.services.ring_generations()[0]
        a.engine.inject(OUTSIDE, tcp(SERVER, 5000, "203.0.113.5", 80, SYN), now_ns())
        (live,), _, _ = await ask(path, "explain", **web)
        assert (live["verdict"], live["flow"]["state"], live["fresh_differs"]) == ("flow", "SYN_SENT", False)
        out = {"src": HOST, "sport": 10_000, "dst": SERVER, "dport": 7000, "proto": "udp"}
        (before,), _, _ = await ask(path, "explain", **out)
        a.open_flow(0)
        (after,), _, _ = await ask(path, "explain", **out)
        given, preferred = (int(before["nat"][key].rpartition(":")[2]) for key in ("public", "preferred"))
        assert before["nat"]["kind"] == "nat"
        # Who acts alone gives ports of its own half only (proto/pair.md §7a): those with bit 1 clear here.
        assert given in (preferred, preferred + 1, preferred + 2)
        assert given & 2 == 0
        assert after["nat"] == before["nat"], "what was promised is what was given"
        (ping,), _, _ = await ask(path, "explain", **out | {"dst": "10.0.1.1", "proto": "icmp"})
        assert ping["verdict"] == "answered"
        (nowhere,), _, _ = await ask(path, "explain", **web | {"dport": 81})
        assert (nowhere["verdict"], nowhere["dropped"]) == ("drop", "no_rule")
        assert nowhere["because"] == "nothing in the configuration forwards it"
        for bad in (
            {"src": "web"},
            {"dst": "::1"},
            {"sport": 70000},
            {"dport": True},
            {"proto": "sctp"},
            {"proto": []},
        ):
            assert (await ask(path, "explain", **web | bad))[1] == 2


async def test_flows_of_every_kind_are_described(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        assert (await ask(path, "flows"))[:2] == ([], 0)
        a.open_flow(0)
        a.engine.inject(OUTSIDE, tcp(SERVER, 5000, "203.0.113.5", 80, SYN), now_ns())
        a.engine.inject(INSIDE, echo(HOST, SERVER, 33), now_ns())
        flows, code, _ = await ask(path, "flows")
        assert code == 0
        assert all(flow.keys() == FLOW_KEYS for flow in flows)
        found = {flow["proto"]: flow for flow in flows}
        udp_flow, tcp_flow, icmp_flow = found["udp"], found["tcp"], found["icmp"]
        assert [udp_flow[key] for key in ("src", "sport", "dst", "dport")] == [HOST, 10_000, SERVER, 7000]
        assert [udp_flow[key] for key in ("reply_src", "reply_sport", "reply_dst")] == [
            SERVER,
            7000,
            "203.0.113.5",
        ]
        assert 1024 <= udp_flow["reply_dport"] <= 65535
        assert [udp_flow[key] for key in ("state", "service", "backend", "rule")] == [
            "UNREPLIED",
            None,
            None,
            0,
        ]
        assert [tcp_flow[key] for key in ("dst", "dport", "reply_src", "reply_sport")] == [
            "203.0.113.5", 80, "10.0.1.21", 8080,
        ]  # fmt: skip
        assert [tcp_flow[key] for key in ("state", "service", "backend", "rule")] == [
            "SYN_SENT",
            "web",
            21,
            None,
        ]
        assert (icmp_flow["sport"], icmp_flow["state"]) == (33, "UNREPLIED")
        assert all(flow["at_risk"] is True and flow["timeout_s"] > 0 for flow in flows)


async def test_a_long_list_names_every_flow_once(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        for index in range(3000):
            a.open_flow(index)
        flows, _, _ = await ask(path, "flows")
        assert sorted(flow["sport"] for flow in flows) == list(range(10_000, 13_000))


async def test_orders_are_refused_with_a_reason(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        assert await ask(path, "switchover") == ([], 1, "this node is init: ask the primary, or use --force")
        assert await ask(path, "resync") == ([], 1, "this node is init without a stream")
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        assert await ask(path, "switchover") == ([], 1, "the peer is not ready: flows would be lost")


async def test_ring_says_who_has_what_and_what_a_change_would_move(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        for port in range(20):
            a.engine.inject(OUTSIDE, tcp(SERVER, 5000 + port, "203.0.113.5", 80, SYN), now_ns())
        (ring,), code, _ = await ask(path, "ring")
        assert (ring["service"], ring["algorithm"], ring["flows"], code) == ("web", "consistent-hash", 20, 0)
        assert ring["max_to_fair"] == 1.0
        assert ring["backends"] == [{"id": 21, "weight": 1, "share": 1.0, "flows": 20}]
        (ring,), _, _ = await ask(path, "ring", service="web", add={"22": 1})
        moved = ring["change"]["keys_moved"]
        assert 0.3 < moved < 0.7
        assert moved == ring["backends"][1]["share_then"]
        assert ring["change"]["flows"] == 20
        assert 0 < ring["change"]["flows_elsewhere"] < 20
        (ring,), _, _ = await ask(path, "ring", remove=[21])
        assert ring["change"] == {
            "keys_moved": 1.0, "max_to_fair": None, "flows": 20, "flows_elsewhere": None, "flows_of_removed": 20
        }  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"service": "dns"}, "there is no service 'dns'"),
        ({"remove": [7]}, "web: there is no backend 7"),
        ({"remove": 7}, "remove: a list of ids"),
        ({"add": {"x": 1}}, "add: weights by id"),
        ({"weight": {"21": 70000}}, "weight: ids are u32, weights 0 to 65,535"),
        ({"add": {"21": 1}}, "web: backend 21 is there already"),
    ],
)
async def test_ring_refuses_what_is_not_there(
    tmp_path: Path, request_: dict[str, object], message: str
) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        assert await ask(path, "ring", **request_) == ([], 2, message)


@pytest.mark.parametrize("force", [1, "yes", None, [True]])
async def test_only_true_forces(tmp_path: Path, force: object) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        assert (await ask(path, "switchover", force=force))[1] == 1
        assert a.node.role is Role.INIT


async def test_orders_to_a_pair(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b), served(a) as at_a, served(b) as at_b:
        assert (await ask(at_b, "switchover"))[1:] == (
            1,
            "this node is backup: ask the primary, or use --force",
        )
        a.open_flow(1)
        await until(lambda: b.table[0] == 1, "a flow to compare")
        assert await ask(at_a, "resync") == ([], 0, "comparison begun")
        await until(lambda: a.ready and b.ready and b.view.sync.least_syncs == 1, "compared")
        assert "sync_compared" in b.events
        assert await ask(at_a, "resync", full=True) == ([], 0, "full sync begun")
        await until(lambda: a.ready and b.ready and b.view.sync.full_syncs == 2, "ready again")
        assert await ask(at_a, "switchover") == ([], 0, "handing over to the peer")
        await until(lambda: b.node.role is Role.PRIMARY and a.ready and b.ready, "the roles have moved")
        assert (await ask(at_a, "switchover", force=True))[1:] == (0, "promoted by force")
        await until(lambda: b.node.role is Role.BACKUP, "the higher generation stays")


async def test_events_are_followed_as_they_happen(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _), served(a) as path:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"verb": "events"}\n')
        await until(lambda: a.shell.journal._followers, "somebody follows")
        a.start()
        event = json.loads(await reader.readline())
        assert (event["event"], event["role"]) == ("role_changed", "primary")
        writer.close()
        await until(lambda: not a.shell.journal._followers, "nobody follows")
