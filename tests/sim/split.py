"""What follows a split on the model table: the loser's offer and the winner's merge (proto/pair.md §7a).

`Reunion` is the promise that comes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasyncd.core.effects import ReportEvent, ReportRole
from hasyncd.core.types import MergeFindings, Role
from tests.sim.checkers import Broken
from tests.sim.table import Flow, Table, read_add

if TYPE_CHECKING:
    from tests.sim.shell import Shell
    from tests.sim.simulator import World

BATCH = 6
"""Flows of one OFFER: small, so that streams break between two."""


def set_solo(table: Table, solo: bool) -> None:
    if solo and not table.solo:
        table.told.clear()
    table.solo = solo


def is_offered(table: Table, slot: int) -> bool:
    return slot in table.told or table.flows[slot].written > table.acked


def offer(table: Table, slot: int) -> tuple[list[bytes], int | None]:
    """The next records of the offer's cursor, and where it goes on; None: nowhere."""
    slots = [each for each in sorted(table.flows) if each >= slot and is_offered(table, each)][:BATCH]
    return [table.add_of(each) for each in slots], slots[-1] + 1 if len(slots) == BATCH else None


def end_offer(table: Table) -> None:
    table.told.clear()
    for flow in table.flows.values():
        flow.written = 0


def merge(table: Table, records: bytes) -> tuple[int, MergeFindings, str | None]:
    found, count = MergeFindings(), 0
    for at in range(0, len(records), 32):
        flow = read_add(records[at : at + 32])
        if flow is None:
            return count, found, "unknown_kind"
        name = _merge_one(table, flow)
        found += MergeFindings(**{name: 1})
        table.judged.add((flow.key, flow.port))
        count += 1
    return count, found, None


def _merge_one(table: Table, flow: Flow) -> str:
    holders = {table.slot_of_key(flow.key), table.slot_of_port(flow.port)} - {None}
    if table.slot_of_key(flow.key) == table.slot_of_port(flow.port) and holders:
        return "known"
    if holders:
        return "collided"
    return "merged" if table.add_flow(flow.key, flow.port, flow.state) else "refused"


class Reunion:
    """P21 to P23: whatever only the loser knew is judged by the winner before the loser's table is swept."""

    def __init__(self) -> None:
        self._offered: dict[int, tuple[int, set[tuple[int, int]]]] = {}
        """By node: its process, and (key, port) of what it owes to the winner."""
        self._excused: set[int] = set()
        self.splits = 0
        """That were merged."""

    def excuse(self, keys: set[int]) -> None:
        """Memory lost them, not the protocol."""
        self._excused |= keys

    def see(self, shell: Shell, report: ReportRole) -> None:
        self._offered.pop(shell.index, None)
        if report.previous is Role.PRIMARY and report.reason == "heard a primary of higher rank":
            table = shell.table
            owed = {(f.key, f.port) for slot, f in table.flows.items() if is_offered(table, slot)}
            self._offered[shell.index] = (shell.boot_id, owed)

    def see_event(self, shell: Shell, event: ReportEvent) -> None:
        if event.name in ("merge_given_up", "merge_impossible"):
            self._offered.pop(shell.index, None)

    def look_at_sync(self, world: World, shell: Shell) -> None:
        """`shell` begins to be given what differs: what it alone had would be gone from now on."""
        boot, owed = self._offered.pop(shell.index, (0, set()))
        if boot != shell.boot_id:
            return
        winner = world.shells[1 - shell.index]
        lost = {each for each in owed - winner.table.judged if each[0] not in self._excused}
        if lost and not world.mangled and winner.running and winner.role is Role.PRIMARY:
            raise Broken(f"{shell.name} had {len(owed)} flows alone, and {len(lost)} were never judged")
        self.splits += 1
