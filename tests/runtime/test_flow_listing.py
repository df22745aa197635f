"""hasyncd.runtime.flow_listing: which flows match, and that a long table holds nobody up."""

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
from hasyncd.runtime.control_server import Conclusion
from hasyncd.runtime.flow_listing import FLOWS_PER_BITE, flows
from tests.native.frames import SYN, echo, tcp
from tests.runtime.pair import HOST, SERVER, Member, members, until


@asynccontextmanager
async def mixed(tmp_path: Path) -> AsyncIterator[Member]:
    """A solo primary with two UDP flows of a host, a TCP flow to the service and an echo."""
    async with members(tmp_path) as (a, _):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        a.open_flow(0)
        a.open_flow(1)
        a.engine.inject(OUTSIDE, tcp(SERVER, 5000, "203.0.113.5", 80, SYN), now_ns())
        a.engine.inject(INSIDE, echo(HOST, SERVER, 33), now_ns())
        yield a


async def listed(member: Member, **request: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for item in flows(member.settings, member.engine, {"verb": "flows", **request}):
        found += [json.loads(line) for line in item.splitlines()] if isinstance(item, bytes) else [item]
    return found


@pytest.mark.parametrize(
    ("request_", "kinds"),
    [
        ({}, "icmp tcp udp udp"),
        ({"proto": "udp"}, "udp udp"),
        ({"proto": "icmpv6"}, ""),
        ({"src": "10.0.1.0/24"}, "icmp udp udp"),
        ({"src": "10.0.1.7/32", "sport": 10_001}, "udp"),
        ({"src": "10.0.1.8/32"}, ""),
        ({"src": "::/0"}, ""),
        ({"src": "0.0.0.0/0"}, "icmp tcp udp udp"),
        ({"dst": "203.0.113.5", "dport": 80}, "tcp"),
        ({"reply_src": "10.0.1.21/32"}, "tcp"),
        ({"reply_dst": "203.0.113.5/32"}, "icmp udp udp"),
        ({"reply_sport": 8080}, "tcp"),
        ({"state": "syn_sent"}, "tcp"),
        ({"state": "UNREPLIED"}, "icmp udp udp"),
        ({"state": "REPLIED"}, ""),
        ({"service": "web"}, "tcp"),
        ({"service": "web", "backend": 21}, "tcp"),
        ({"service": "web", "backend": 22}, ""),
        ({"backend": 0}, ""),
        ({"at_risk": True}, "icmp tcp udp udp"),
        ({"proto": "tcp", "src": "10.0.1.0/24"}, ""),
    ],
)
async def test_filters(tmp_path: Path, request_: dict[str, Any], kinds: str) -> None:
    async with mixed(tmp_path) as a:
        found = await listed(a, **request_)
        assert " ".join(sorted(flow["proto"] for flow in found)) == kinds
        assert await listed(a, **request_, count=True) == [{"count": len(found)}]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"proto": "sctp"}, "proto: there is no 'sctp'; there is icmp, tcp, udp, icmpv6"),
        ({"proto": 6}, "proto: there is no 6; there is icmp, tcp, udp, icmpv6"),
        ({"service": "dns"}, "service: there is no 'dns'; there is web"),
        ({"state": "OPEN"}, "state: there is no 'OPEN'"),
        ({"sport": "80"}, "sport: a number from 0 to 65,535"),
        ({"sport": True}, "sport: a number from 0 to 65,535"),
        ({"dport": 65536}, "dport: a number from 0 to 65,535"),
        ({"backend": -1}, "backend: a number from 0 to 4,294,967,295"),
        ({"src": "10.0.1.7/24"}, "src: '10.0.1.7/24' is no address or network such as 10.0.1.0/24"),
        ({"dst": 167772160}, "dst: 167772160 is no address or network such as 10.0.1.0/24"),
        ({"service": "x" * 500}, "service: there is no 'xxx"),
        ({"rule": 1}, "rule: no such filter"),
    ],
)
async def test_what_cannot_be_filtered_by_is_refused(
    tmp_path: Path, request_: dict[str, Any], message: str
) -> None:
    async with members(tmp_path) as (a, _):
        with pytest.raises(Conclusion) as refused:
            await listed(a, **request_)
        assert refused.value.exit_code == 2
        assert refused.value.message.startswith(message)
        assert len(refused.value.message) < 300


@pytest.mark.parametrize("request_", [{}, {"count": True}, {"dport": 9}], ids=["all", "count", "none match"])
async def test_the_loop_turns_after_every_bite(tmp_path: Path, request_: dict[str, Any]) -> None:
    async with members(tmp_path) as (a, _):
        a.start()
        await until(lambda: a.node.role is Role.PRIMARY, "a acts alone")
        for index in range(FLOWS_PER_BITE * 8):
            a.open_flow(index)
        turns = 0

        async def spin() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        spinner = asyncio.ensure_future(spin())
        await asyncio.sleep(0)
        async for item in flows(a.settings, a.engine, {"verb": "flows", **request_}):
            assert len(item) > 0
            await asyncio.sleep(0)  # as the control server does after writing
        spinner.cancel()
        assert turns >= 8
