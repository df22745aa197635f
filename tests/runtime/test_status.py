"""hasyncd.runtime.status: DESIGN's keys, and what they say of a real pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hasyncd._native import OUTSIDE
from hasyncd.core.types import Role
from hasyncd.runtime.clock import now_ns
from tests.native.frames import SYN, arp, echo, tcp
from tests.runtime.pair import SERVER, Member, loopback_addresses, members, synced_pair, until
from tests.runtime.wire import Wire

# DESIGN §7, fixed: keys may be added, never renamed or removed.
KEYS = {
    "": {"node", "role", "generation", "engine", "version", "peer", "sync", "flows", "vips", "services"},
    "peer": {"state", "last_heard_ms", "paths"},
    "sync": {
        "commit", "state", "lag_flows", "lag_ms", "at_risk_flows", "at_risk_oldest_ms", "fail_open_released",
        "digest_match", "full_syncs",
    },
    "flows": {"total", "tcp", "udp", "icmp", "other"},
}  # fmt: skip


def status(member: Member) -> dict[str, Any]:
    built = member.report.build(member.shell.port_counters)
    as_told: dict[str, Any] = json.loads(json.dumps(built))
    return as_told


async def test_the_fixed_keys_are_there_before_anything_happened(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        seen = status(a)
        assert KEYS[""] <= seen.keys()
        for part in ("peer", "sync", "flows"):
            assert KEYS[part] <= seen[part].keys(), part
        assert (seen["node"], seen["role"], seen["generation"]) == ("gw-a", "init", 0)
        assert (seen["peer"]["state"], seen["peer"]["last_heard_ms"]) == ("never", None)
        assert seen["sync"]["at_risk_flows"] is None, "who is not primary has nothing at risk"
        assert seen["certificate"] is None
        assert seen["converged"] is None, "who is not primary has nothing to converge"
        unknown = {"owned": False, "verified": None, "verified_ms": None, "claimed_by": None}
        assert seen["vips"] == [
            {"address": "10.0.1.1/24", "interface": "inside", **unknown},
            {"address": "203.0.113.5/24", "interface": "outside", **unknown},
        ]
        assert seen["services"] == [
            {
                "name": "web",
                "vip": "203.0.113.5:80",
                "algorithm": "consistent-hash",
                "ring_generation": 1,
                "follows": False,
                "panics": False,
                "commit": "ack",
                "backends": [
                    {
                        "id": 21,
                        "address": "10.0.1.21:8080",
                        "weight": 1,
                        "weight_effective": 1.0,
                        "state": "up",
                        "why": None,
                        "drain_left_ms": None,
                        "flows": 0,
                    }
                ],
            }
        ]


async def test_a_ready_pair(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(30):
            a.open_flow(index)
        await until(lambda: status(a)["sync"]["at_risk_flows"] == 0, "nothing at risk")
        await until(
            lambda: status(b)["sync"]["digest_match"] and status(b)["flows"]["udp"] == 30, "b has them"
        )
        primary, backup = status(a), status(b)
        assert (primary["role"], backup["role"]) == ("primary", "backup")
        assert primary["generation"] == backup["generation"] == 1
        for seen, peer in ((primary, backup), (backup, primary)):
            assert seen["sync"]["state"] == "ready"
            assert seen["peer"]["state"] == "connected"
            assert (seen["peer"]["node"], seen["peer"]["role"]) == (peer["node"], peer["role"])
            assert seen["peer"]["config_matches"] is True
            assert seen["flows"] == {"total": 30, "tcp": 0, "udp": 30, "icmp": 0, "other": 0}
        assert primary["sync"]["acked"] == primary["sync"]["head"] == backup["sync"]["installed"]
        assert (primary["sync"]["commit"], primary["sync"]["commit_held"]) == ("ack", True)
        assert [vip["owned"] for vip in primary["vips"] + backup["vips"]] == [True, True, False, False]


async def test_every_rule_says_what_its_flows_wait_for(tmp_path: Path) -> None:
    async with members(tmp_path, nat_options='commit = "emit"') as (a, _):
        seen = status(a)
        assert seen["sync"]["commit"] == seen["services"][0]["commit"] == "ack"
        assert seen["rules"] == [
            {"table": "nat", "from": "10.0.1.0/24", "to": "203.0.113.5", "commit": "emit"}
        ]
        assert seen["sync"]["commit_suspended"] is False


async def test_a_backup_shows_what_the_primary_has_at_risk(tmp_path: Path) -> None:
    node_a, node_b, near, far = loopback_addresses(4)
    wire = Wire(node_a, node_b, near, far)
    await wire.open()
    try:
        async with synced_pair(tmp_path, (node_a, near, node_b, far), nat_options='commit = "emit"') as (
            a,
            b,
        ):
            await until(lambda: status(b)["peer"]["at_risk_flows"] == 0, "nothing is at risk")
            wire.stall_stream()
            for index in range(25):
                a.open_flow(index)
            await until(lambda: status(b)["peer"]["at_risk_flows"] == 25, "what b has not got")
            assert status(a)["sync"]["at_risk_flows"] == 25
            assert status(a)["peer"]["at_risk_flows"] is None, "a backup has nothing at risk"
            await until(lambda: status(b)["peer"]["at_risk_oldest_ms"] > 50, "it grows older")
            a.die()
            await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
            certificate = status(b)["certificate"]
            assert (certificate["flows_missing"], certificate["flows_missing_is"]) == (25, "at_most")
            assert certificate["complete"] is False
            assert "promoted_incomplete" in b.events
    finally:
        await wire.close()


async def test_alone_every_flow_is_at_risk(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        for index in range(7):
            a.open_flow(index)
        seen = status(a)
        assert (seen["solo"], seen["sync"]["at_risk_flows"], seen["sync"]["lag_flows"]) == (True, 7, 7)
        assert seen["sync"]["state"] == "none"


async def test_a_vip_is_verified_once_somebody_has_come_here_for_it(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        assert [vip["verified"] for vip in status(a)["vips"]] == [False, False]
        assert status(a)["converged"] is False
        a.engine.inject(OUTSIDE, echo(SERVER, "203.0.113.5", 1), now_ns())
        await until(
            lambda: [vip["verified"] for vip in status(a)["vips"]] == [False, True], "one LAN has learned"
        )
        a.open_flow(0)
        await until(lambda: all(vip["verified"] for vip in status(a)["vips"]), "both have")
        assert "converged" in a.events
        assert all(vip["verified_ms"] > 0 for vip in status(a)["vips"])
        assert status(a)["converged"] is True
        stranger = b"\x02\x99\0\0\0\1"
        a.engine.inject(OUTSIDE, arp(2, stranger, "203.0.113.5", SERVER), now_ns())
        await until(
            lambda: status(a)["vips"][1]["claimed_by"] == "02:99:00:00:00:01", "somebody else has one"
        )
        assert [vip["verified"] for vip in status(a)["vips"]] == [True, False]
        assert "vip_conflict" in a.events
        a.shell.report_links("no interface is up")
        assert [vip["owned"] for vip in status(a)["vips"]] == [False, False]
        assert [vip["verified"] for vip in status(a)["vips"]] == [None, None]


async def test_rates_need_two_samples(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        assert set(status(a)["rates"].values()) == {None}
        a.report.sample()
        assert set(status(a)["rates"].values()) == {None}
        for index in range(10):
            a.open_flow(index)
        a.report.sample()
        assert all(rate > 0 for rate in status(a)["rates"].values())
        assert status(a)["rates"].keys() == {"packets_per_s", "bytes_per_s", "new_flows_per_s"}


async def test_a_backend_counts_its_flows(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        for port in range(5000, 5003):
            a.engine.inject(OUTSIDE, tcp(SERVER, port, "203.0.113.5", 80, SYN), now_ns())
        (service,) = status(a)["services"]
        assert [backend["flows"] for backend in service["backends"]] == [3]
        a.services[0].judge(21, False, "no answer", 0)
        a.services.settle(0)
        (service,) = status(a)["services"]
        assert (service["ring_generation"], service["backends"][0]["state"]) == (2, "down")


async def test_what_was_rejected_is_among_the_counters(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        a.node.receive_datagram(b"\xc1", now_ns())
        a.node.receive_datagram(bytes(513), now_ns())
        counters = status(a)["counters"]
        assert (counters["rejected_malformed"], counters["rejected_oversized"]) == (1, 1)
        assert counters["drop_no_lease"] == 0


async def test_a_takeover_shows_its_certificate(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        a.open_flow(0)
        await until(lambda: b.table[0] == 1, "b has it")
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
        seen = status(b)
        assert seen["certificate"]["flows_held"] == 1
        assert seen["last_change"] == "the primary's process is dead"
        await until(lambda: status(b)["peer"]["state"] == "lost", "the peer is lost")
        assert seen["peer"]["paths"][0]["name"] == "sync"
