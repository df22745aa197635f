"""What the control socket answers: one handler a verb (hasyncd/cli asks)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from hasyncd.balance.services import Services
from hasyncd.config import Settings
from hasyncd.runtime.control_server import Conclusion, Handler
from hasyncd.runtime.event_listing import events
from hasyncd.runtime.explanation import explain
from hasyncd.runtime.flow_listing import flows
from hasyncd.runtime.orders import Orders
from hasyncd.runtime.reload import Reload
from hasyncd.runtime.ring_view import ring
from hasyncd.runtime.shell import Shell
from hasyncd.runtime.status import StatusReport


def make_handlers(
    settings: Settings, shell: Shell, report: StatusReport, services: Services, orders: Orders, reload: Reload
) -> dict[str, Handler]:
    """Every verb that an operator may ask for."""
    return {
        "status": lambda _: _status(shell, report),
        "flows": lambda request: flows(settings, shell.engine, request),
        "ring": lambda request: ring(services, shell.engine, request),
        "explain": lambda request: explain(settings, shell.engine, request),
        "events": lambda request: events(shell.journal, request),
        "drain": lambda request: _order(orders.drain(request)),
        "undrain": lambda request: _order(orders.undrain(request)),
        "weight": lambda request: _order(orders.weigh(request)),
        "reload": lambda request: _order(reload.reload(only_check=request.get("check") is True)),
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
