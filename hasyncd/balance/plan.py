"""What a change of a service's backends would move, before it is made. Pure.

A plan speaks of keys (every flow that may come) and of live flows. Live flows keep their backend whatever the table
says, but for those whose backend is taken away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HASHES = 2**32


@dataclass(frozen=True, slots=True)
class Change:
    """What an operator thinks of doing: ids, and weights by id."""

    add: Mapping[int, int] = field(default_factory=dict)
    remove: frozenset[int] = frozenset()
    weights: Mapping[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.weights)


class BadChange(ValueError):
    """A change that cannot be made; the message says why."""


def changed(members: Mapping[int, int], change: Change) -> dict[int, int]:
    """The members (id -> weight) after a change. Raises BadChange."""
    for server in change.add:
        if server in members:
            raise BadChange(f"backend {server} is there already")
    for server in [*change.remove, *change.weights]:
        if server not in members:
            raise BadChange(f"there is no backend {server}")
    for server in change.remove & change.weights.keys():
        raise BadChange(f"backend {server} is removed and weighed")
    kept = {server: weight for server, weight in members.items() if server not in change.remove}
    return kept | dict(change.weights) | dict(change.add)


def evenness(shares: Sequence[tuple[int, int, int]]) -> float | None:
    """The largest share beside its fair one (1.0: nobody has more than his weight says); None without keys."""
    weights, keys = sum(weight for _, weight, _ in shares), sum(keys for *_, keys in shares)
    if not keys:
        return None
    return max(share / keys * weights / weight for _, weight, share in shares)


def describe(
    now: Sequence[tuple[int, int, int]],
    then: Sequence[tuple[int, int, int]] | None,
    flows: Mapping[int, int],
) -> list[dict[str, int | float | None]]:
    """One row a backend: its share of the keys now and after the change, in parts of 1, and its live flows."""
    before = {server: (weight, keys) for server, weight, keys in now}
    after = before if then is None else {server: (weight, keys) for server, weight, keys in then}
    rows: list[dict[str, int | float | None]] = []
    for server in sorted(before.keys() | after.keys() | flows.keys()):
        row: dict[str, int | float | None] = {
            "id": server,
            "weight": before[server][0] if server in before else None,
            "share": _share(before, server),
            "flows": flows.get(server, 0),
        }
        if then is not None:
            row["weight_then"] = after[server][0] if server in after else None
            row["share_then"] = _share(after, server)
        rows.append(row)
    return rows


def _share(table: Mapping[int, tuple[int, int]], server: int) -> float:
    return table[server][1] / HASHES if server in table else 0.0
