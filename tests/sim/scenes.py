"""How the directed tests speak of the pair."""

from __future__ import annotations

from hasyncd.core.effects import ReportEvent, ReportRole
from hasyncd.core.types import LastSync, Role, SyncState
from tests.sim.checkers import check_converged
from tests.sim.options import Options
from tests.sim.shell import Shell
from tests.sim.simulator import World

A, B = 0, 1
DEAD_AFTER_MS = 150
PROBE_MS = 37.5
SILENCE_MS = DEAD_AFTER_MS + PROBE_MS
"""Until a silent primary is replaced."""


def a_ready_pair(seed: int = 1, **options: object) -> World:
    """gw-a is primary (it has the priority), gw-b its ready backup, and traffic flows."""
    world = World(seed, Options(**options))  # type: ignore[arg-type]
    world.boot(A)
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "the pair is ready")
    world.run_ms(300)
    assert world.shells[A].role is Role.PRIMARY
    return world


BIG = {"capacity": 1600, "flow_interval_ns": 0}
"""A hundred buckets, and no traffic but what the story says."""


def a_big_pair(flows: int = 800, **options: object) -> World:
    """A ready pair in the quiet; its flows lie in every bucket."""
    world = a_ready_pair(**BIG | options)
    open_flows(world, flows)
    world.run_until(lambda: check_converged(world) is None, 1000, "the flows are on the backup")
    return world


def open_flows(world: World, count: int, index: int = A) -> None:
    table = world.shells[index].table
    for number in range(count):
        table.open_flow(7 * number + 1)
        world.shells[index].input(lambda now: [])


def ready(world: World) -> bool:
    roles = {shell.role for shell in world.shells if shell.running}
    primaries = [shell for shell in world.shells if shell.running and shell.role is Role.PRIMARY]
    return roles == {Role.PRIMARY, Role.BACKUP} and state(primaries[0]) is SyncState.READY


def state(shell: Shell) -> SyncState:
    return shell.node.view(shell.now()).sync.state


def becomes_primary(world: World, index: int, within_ms: float) -> tuple[float, ReportRole]:
    """Milliseconds until the node is armed as primary, and its report."""
    shell = world.shells[index]
    took = world.run_until(
        lambda: shell.role is Role.PRIMARY and shell.armed, within_ms, f"{shell.name} is primary"
    )
    return took, shell.reports[-1]


def syncs(world: World) -> int:
    """Of both kinds, as their senders count them."""
    views = [shell.node.view(shell.now()).sync for shell in world.shells]
    return sum(view.full_syncs + view.least_syncs for view in views) // 2


def last_sync(world: World) -> LastSync | None:
    """As the primary has it."""
    shell = next(shell for shell in world.shells if shell.running and shell.role is Role.PRIMARY)
    return shell.node.view(shell.now()).sync.last


def events(shell: Shell, name: str) -> list[ReportEvent]:
    return [event for event in shell.events if event.name == name]
