"""What `hasyncd ring` answers: who has which share of a service, and what a change would move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from hasyncd.balance.plan import HASHES, BadChange, Change, changed, describe, evenness
from hasyncd.balance.services import Services, ServiceView
from hasyncd.balance.tables import BackendTable, build_table, make_table
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.control_server import EXIT_USAGE, Conclusion

_SLOTS_PER_BITE: Final = 65_536


async def ring(
    services: Services, engine: Engine, request: Mapping[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """One object a service. Raises Conclusion where the request names what is not there."""
    wanted = request.get("service")
    views = [view for view in services.views() if wanted is None or view.name == wanted]
    change = _read_change(request)
    if not views:
        raise Conclusion(f"there is no service {wanted!r}", EXIT_USAGE)
    if change and len(views) > 1:
        raise Conclusion("several services: which one is to change?", EXIT_USAGE)
    for view in views:
        try:
            yield await _describe(services, engine, view, change)
        except BadChange as bad:
            raise Conclusion(f"{view.name}: {bad}", EXIT_USAGE) from None


async def _describe(services: Services, engine: Engine, view: ServiceView, change: Change) -> dict[str, Any]:
    publication = services.publication(view.index)
    now = await asyncio.to_thread(build_table, publication)
    flows = engine.backend_flow_counts(view.index)
    answer: dict[str, Any] = {
        "service": view.name,
        "algorithm": view.algorithm,
        "ring_generation": view.ring_generation,
        "digest": f"{now.digest:016x}",
        "flows": sum(flows.values()),
        "max_to_fair": evenness(now.shares()),
        "change": None,
    }
    if not change:
        return answer | {"backends": describe(now.shares(), None, flows)}
    scale = publication.scale
    planned = changed(publication.members, _scaled(change, scale))
    then = await asyncio.to_thread(make_table, view.algorithm, planned, 0, scale)
    live, elsewhere = await _count_moving(engine, view.index, then)
    answer["change"] = {
        "keys_moved": now.moved(then) / HASHES if evenness(now.shares()) is not None else None,
        "max_to_fair": evenness(then.shares()),
        "flows": live,
        "flows_elsewhere": elsewhere if evenness(then.shares()) is not None else None,
        "flows_of_removed": sum(flows.get(server, 0) for server in change.remove),
    }
    return answer | {"backends": describe(now.shares(), then.shares(), flows)}


def _scaled(change: Change, scale: int) -> Change:
    """While somebody starts slowly, the table's weights are in parts of his."""
    return Change(
        {id: weight * scale for id, weight in change.add.items()},
        change.remove,
        {id: weight * scale for id, weight in change.weights.items()},
    )


async def _count_moving(engine: Engine, index: int, table: BackendTable) -> tuple[int, int]:
    """(flows of the service, how many the table would have put elsewhere), in bites between which packets pass."""
    slot, flows, moving = 0, 0, 0
    while slot >= 0:
        slot, some, some_moving = engine.count_moving(index, table, slot, _SLOTS_PER_BITE)
        flows, moving = flows + some, moving + some_moving
        await asyncio.sleep(0)
    return flows, moving


def _read_change(request: Mapping[str, Any]) -> Change:
    """The socket is open to whoever may open it: nothing is taken for granted."""

    def weights(name: str) -> dict[int, int]:
        given = request.get(name, {})
        try:
            read = {int(server): int(weight) for server, weight in given.items()}
        except (AttributeError, TypeError, ValueError):
            raise Conclusion(f"{name}: weights by id", EXIT_USAGE) from None
        if any(not 0 <= server < 2**32 or not 0 <= weight < 2**16 for server, weight in read.items()):
            raise Conclusion(f"{name}: ids are u32, weights 0 to 65,535", EXIT_USAGE)
        return read

    removed = request.get("remove", [])
    if not isinstance(removed, list) or not all(type(server) is int for server in removed):
        raise Conclusion("remove: a list of ids", EXIT_USAGE)
    return Change(weights("add"), frozenset(removed), weights("weight"))
