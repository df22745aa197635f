"""A daemon as the command line sees it: a control socket and its answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hasyncd import __version__
from hasyncd.runtime.control_server import Conclusion, ControlServer

STATUS: dict[str, Any] = {
    "node": "gw-a",
    "role": "primary",
    "generation": 7,
    "engine": "packet",
    "version": __version__,
    "peer": {
        "state": "connected",
        "last_heard_ms": 12,
        "node": "gw-b",
        "role": "backup",
        "generation": 7,
        "flows": 1500,
        "ready": True,
        "paths": [{"name": "sync", "up": True, "last_heard_ms": 12}],
    },
    "sync": {
        "commit": "ack",
        "state": "ready",
        "lag_flows": 0,
        "lag_ms": 0,
        "at_risk_flows": 0,
        "at_risk_oldest_ms": None,
        "fail_open_released": 0,
        "digest_match": True,
        "full_syncs": 1,
    },
    "flows": {"total": 1500, "tcp": 1000, "udp": 500, "icmp": 0, "other": 0},
    "rates": {"packets_per_s": 12345.6, "bytes_per_s": 9862000.0, "new_flows_per_s": 345.2},
    "vips": [
        {"address": "10.0.1.1/24", "interface": "inside", "owned": True, "verified": True},
        {"address": "203.0.113.5/24", "interface": "outside", "owned": True, "verified": False},
    ],
    "services": [
        {
            "name": "web",
            "vip": "203.0.113.5:80",
            "algorithm": "consistent-hash",
            "ring_generation": 3,
            "backends": [
                {"id": 1, "address": "10.0.1.21:8080", "weight": 1, "state": "up", "flows": 195},
                {"id": 2, "address": "10.0.1.22:8080", "weight": 1, "state": "down", "flows": 65},
            ],
        }
    ],
}

FLOWS: list[dict[str, Any]] = [
    {
        "proto": "tcp",
        "src": "203.0.113.100",
        "sport": 40000,
        "dst": "203.0.113.5",
        "dport": 80,
        "reply_src": "10.0.1.21",
        "reply_sport": 8080,
        "reply_dst": "203.0.113.100",
        "reply_dport": 40000,
        "state": "ESTABLISHED",
        "timeout_s": 7440,
        "service": "web",
        "backend": 1,
        "rule": None,
        "at_risk": False,
    },
    {
        "proto": "udp",
        "src": "10.0.1.7",
        "sport": 51515,
        "dst": "8.8.8.8",
        "dport": 53,
        "reply_src": "8.8.8.8",
        "reply_sport": 53,
        "reply_dst": "203.0.113.5",
        "reply_dport": 40004,
        "state": None,
        "timeout_s": 29,
        "service": None,
        "backend": None,
        "rule": 0,
        "at_risk": True,
    },
    {
        "proto": "icmpv6",
        "src": "2001:db8:1::7",
        "sport": 33,
        "dst": "2001:db8:9::9",
        "dport": 0,
        "reply_src": "2001:db8:9::9",
        "reply_sport": 33,
        "reply_dst": "2001:db8:1::7",
        "reply_dport": 0,
        "state": "REPLIED",
        "timeout_s": 60,
        "service": None,
        "backend": None,
        "rule": None,
        "at_risk": False,
    },
]


def _backend(number: int, state: str = "up") -> dict[str, Any]:
    return {"id": number, "address": f"10.0.1.2{number}:8080", "weight": 1, "state": state, "flows": 4}


EXPLANATION: dict[str, Any] = {
    "proto": "tcp",
    "src": "203.0.113.100",
    "sport": 40000,
    "dst": "203.0.113.5",
    "dport": 80,
    "side": "outside",
    "forwards": True,
    "verdict": "flow",
    "dropped": None,
    "because": None,
    "sender_told": False,
    "flow": {
        **{name: FLOWS[0][name] for name in ("src", "sport", "dst", "dport")},
        **{name: value for name, value in FLOWS[0].items() if name.startswith("reply_")},
        "is_reply": False,
        "state": "ESTABLISHED",
        "timeout_s": 7440,
        "service": "web",
        "backend": _backend(1, "draining"),
        "rule": None,
        "syn_begins_anew": True,
    },
    "service": {
        "name": "web",
        "algorithm": "consistent-hash",
        "key": "tuple",
        "key_hash": "5e8ed56d",
        "ring_generation": 3,
        "digest": "0123456789abcdef",
        "point": "6046bfdc",
        "slot": 118,
        "slots": 320,
        "owner": _backend(2),
        "backend": _backend(2),
        "under_way": _backend(1, "draining"),
    },
    "nat": None,
    "fresh": {
        "reply_src": "10.0.1.22", "reply_sport": 8080, "reply_dst": "203.0.113.100", "reply_dport": 40000
    },
    "fresh_differs": True,
}  # fmt: skip


RING: dict[str, Any] = {
    "service": "web",
    "algorithm": "maglev",
    "ring_generation": 3,
    "digest": "0123456789abcdef",
    "flows": 1200,
    "max_to_fair": 1.0001,
    "change": {
        "keys_moved": 0.5,
        "max_to_fair": 1.0002,
        "flows": 1200,
        "flows_elsewhere": 610,
        "flows_of_removed": 0,
    },
    "backends": [
        {"id": 1, "weight": 1, "share": 1.0, "flows": 1200, "weight_then": 1, "share_then": 0.5},
        {"id": 2, "weight": None, "share": 0.0, "flows": 0, "weight_then": 1, "share_then": 0.5},
    ],
}


class Daemon:
    """A control socket that answers as a daemon does, from a thread with a loop of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = json.loads(json.dumps(STATUS))
        self.requests: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        verbs = ("status", "flows", "events", "switchover", "resync", "ring", "explain")
        self._server = ControlServer(path, {verb: getattr(self, f"_{verb}") for verb in verbs})
        self._run(self._server.start())

    def close(self) -> None:
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _status(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield self.status

    async def _flows(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(request)
        if request.get("count"):
            yield {"count": len(FLOWS)}
            return
        for flow in FLOWS:
            yield flow

    async def _events(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(request)
        yield {
            "time": "2026-01-02T03:04:05Z",
            "event": "role",
            "role": "primary",
            "reason": "peer silent",
            "x": None,
        }
        raise Conclusion("the daemon stops", 0)

    async def _switchover(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(request)
        if not request["force"]:
            raise Conclusion("refused: the peer is not ready")
        raise Conclusion("handed over to gw-b", 0)
        yield {}

    async def _resync(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(request)
        for nothing in ():
            yield nothing

    async def _explain(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(request)
        yield EXPLANATION

    async def _ring(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(request)
        if request["service"] == "dns":
            raise Conclusion("there is no service 'dns'", 2)
        yield RING
