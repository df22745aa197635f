"""What the control socket answers: one handler a verb (hasyncd/cli asks)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from hasyncd.addresses import text_of
from hasyncd.balance.services import Services
from hasyncd.config import Settings
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.control_server import Conclusion, Handler
from hasyncd.runtime.ring_view import ring
from hasyncd.runtime.shell import Shell
from hasyncd.runtime.status import StatusReport

_FLOWS_PER_BITE: Final = 256
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
# proto/sync.md §3.1
_TCP_STATES: Final = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT",
    "CLOSE", "SYN_SENT2",
)  # fmt: skip
_SIMPLE_STATES: Final = ("NONE", "UNREPLIED", "REPLIED")


def make_handlers(
    settings: Settings, shell: Shell, report: StatusReport, services: Services
) -> dict[str, Handler]:
    """Every verb that an operator may ask for."""
    return {
        "status": lambda _: _status(shell, report),
        "flows": lambda _: _flows(settings, shell.engine),
        "ring": lambda request: ring(services, shell.engine, request),
        "events": lambda _: shell.journal.follow(),
        "switchover": lambda request: _order(shell.command_switchover(request.get("force") is True)),
        "resync": lambda request: _order(shell.command_resync(request.get("full") is True)),
    }


async def _status(shell: Shell, report: StatusReport) -> AsyncIterator[dict[str, Any]]:
    yield report.build(shell.port_counters)


async def _order(outcome: tuple[bool, str]) -> AsyncIterator[dict[str, Any]]:
    """The answer to an order has no objects, only its end line."""
    accepted, message = outcome
    nothing: tuple[dict[str, Any], ...] = ()
    for item in nothing:
        yield item
    raise Conclusion(message, 0 if accepted else 1)


async def _flows(settings: Settings, engine: Engine) -> AsyncIterator[dict[str, Any]]:
    """The table in bites: a flow that lives through the listing is listed once, the others may be."""
    cursor = 0
    while cursor >= 0:
        cursor, flows = engine.list_flows(cursor, _FLOWS_PER_BITE, now_ns())
        for flow in flows:
            yield _describe(settings, flow)


def _describe(settings: Settings, flow: tuple[Any, ...]) -> dict[str, Any]:
    (proto, src, sport, dst, dport, reply_src, reply_sport, reply_dst, reply_dport, state, timeout_s,
     service, backend, rule, at_risk) = flow  # fmt: skip
    states = _TCP_STATES if proto == 6 else _SIMPLE_STATES
    return {
        "proto": _PROTOCOLS.get(proto, str(proto)),
        "src": text_of(src),
        "sport": sport,
        "dst": text_of(dst),
        "dport": dport,
        "reply_src": text_of(reply_src),
        "reply_sport": reply_sport,
        "reply_dst": text_of(reply_dst),
        "reply_dport": reply_dport,
        "state": states[state],
        "timeout_s": timeout_s,
        "service": settings.service[service].name if service >= 0 else None,
        "backend": backend if service >= 0 else None,
        "rule": rule if rule >= 0 else None,
        "at_risk": at_risk,
    }
