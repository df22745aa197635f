"""Services and their backends, as `hasyncd status` shows them."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table
from rich.text import Text

from hasyncd.cli.status_words import QUIET, judged, number, plain_table, word

_BAR: Final = 10


def services_table(services: list[dict[str, Any]]) -> Table:
    """A line a backend; `share` is of the service's flows now (`hasyncd ring` has the planned ones)."""
    table = plain_table("service", "front", "ring", "id", "backend", "weight", "state", "flows", "share", "")
    for service in services:
        name, front = word(service.get("name")), word(service.get("vip"))
        ring = number(service.get("ring_generation"))
        backends = service.get("backends") or []
        total = sum(backend.get("flows") or 0 for backend in backends)
        for backend in backends or [{}]:
            share = (backend.get("flows") or 0) / total if total else None
            table.add_row(
                name, front, ring, word(backend.get("id")), word(backend.get("address")), _weight(backend),
                _state(backend), number(backend.get("flows")), "–" if share is None else f"{share:.0%}",
                Text("━" * round((share or 0) * _BAR), style=QUIET),
            )  # fmt: skip
            name = front = ring = ""
    return table


def _state(backend: dict[str, Any]) -> Text:
    state, why = backend.get("state"), backend.get("why")
    told = judged(None if state is None else state == "up", word(state))
    return Text.assemble(told, (f" ({why})", QUIET)) if why and state != "up" else told


def _weight(backend: dict[str, Any]) -> str:
    """As configured, and as it counts now where that is another."""
    weight, effective = backend.get("weight"), backend.get("weight_effective")
    if effective is None or effective == weight:
        return number(weight)
    return f"{number(weight)} → {effective:g}"
