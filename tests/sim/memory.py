"""Memory that is not what was written: a table's flows are changed, lost or made beneath it.

Neither the table's index nor its digests are told, as a flipped bit or a stray write would not tell them.
"""

from __future__ import annotations

import random

from tests.sim.table import Flow, Table

_STRANGE_KEYS = 2**31
"""No traffic of the simulation comes this far."""


def corrupt(table: Table, rng: random.Random) -> set[int]:
    """Does one of it to one slot; the keys of flows that are not what they were."""
    ways = [change_state, change_key, change_version, lose, make] if table.flows else [make]
    return rng.choice(ways)(table, rng)


def change_state(table: Table, rng: random.Random) -> set[int]:
    flow = _one(table, rng)
    flow.state = flow.state % 9 + 1
    return {flow.key}


def change_key(table: Table, rng: random.Random) -> set[int]:
    flow = _one(table, rng)
    before, flow.key = flow.key, _STRANGE_KEYS + rng.getrandbits(30)
    return {before, flow.key}


def change_version(table: Table, rng: random.Random) -> set[int]:
    flow = _one(table, rng)
    flow.version = (flow.version + rng.choice([1, 5, 65_000])) % 65_536
    return {flow.key}


def lose(table: Table, rng: random.Random) -> set[int]:
    return {table.flows.pop(rng.choice(sorted(table.flows))).key}


def make(table: Table, rng: random.Random) -> set[int]:
    free = [slot for slot in range(table.capacity) if slot not in table.flows]
    if not free:
        return set()
    flow = Flow(_STRANGE_KEYS + rng.getrandbits(30), 1, rng.randrange(65_536), 0)
    table.flows[rng.choice(free)] = flow
    return {flow.key}


def _one(table: Table, rng: random.Random) -> Flow:
    return table.flows[rng.choice(sorted(table.flows))]
