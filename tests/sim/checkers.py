"""The promises of proto/ that a run must never break, each an object that watches the world.

A checker raises `Broken`; the simulator adds the transcript and the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasyncd.core.effects import ReportRole
from hasyncd.core.types import MILLISECOND_NS, Role, SyncState

if TYPE_CHECKING:
    from tests.sim.shell import Shell
    from tests.sim.simulator import World


class Broken(AssertionError):
    """A promise of the protocol was broken."""


class OneArmed:
    """P3, P4, pair.md §7: outside a partition at most one node's lease is valid, and where prefer = safety,
    never two; two of one generation only where one of them booted inside a partition.
    """

    def look(self, world: World) -> None:
        armed = [shell for shell in world.shells if shell.armed]
        if len(armed) < 2:
            return
        grace_ns = 4 * world.settings.heartbeat_ns + world.network.links[0].delay_ns[1]
        if world.options.prefer == "safety" and not world.forced:
            raise Broken("two nodes are armed although prefer = safety")
        if not world.network.excused(grace_ns):
            raise Broken("two nodes are armed outside a partition")
        first, second = armed
        if first.node.generation == second.node.generation and not (
            first.booted_in_partition or second.booted_in_partition
        ):
            raise Broken(f"two nodes are armed in generation {first.node.generation}")


class GenerationGrows:
    """P1: what is durable never goes back, and nobody arms with a generation that is not durable."""

    def __init__(self) -> None:
        self._durable = [0, 0]

    def forget(self, index: int) -> None:
        """The state directory was wiped."""
        self._durable[index] = 0

    def look(self, world: World) -> None:
        for shell in world.shells:
            if shell.durable_generation < self._durable[shell.index]:
                raise Broken(f"{shell.name}'s generation went back to {shell.durable_generation}")
            self._durable[shell.index] = shell.durable_generation
            if shell.armed and shell.node.generation > shell.durable_generation:
                raise Broken(
                    f"{shell.name} is armed in generation {shell.node.generation}, which is not durable"
                )


class NothingAcknowledgedIsLost:
    """A flow whose every record the ready peer has confirmed survives the loss of one node; a hand-over
    loses none at all.
    """

    def __init__(self) -> None:
        self._promised: dict[int, set[int]] = {}
        """By the node that is to hold them."""
        self._offered: dict[int, set[int]] = {}
        """All that a hand-over gives, if it comes to one."""

    def note_death(self, world: World, dying: Shell) -> None:
        """`dying` is about to be killed: what it had confirmed must be in the other table."""
        other = world.shells[1 - dying.index]
        self._promised.pop(dying.index, None)
        if other.running:
            self._promised[other.index] = self._confirmed(dying)

    def note_hand_over(self, leaving: Shell) -> None:
        # Until LEAVING is there, what was not confirmed can still be lost with the wire.
        self._promised[1 - leaving.index] = self._confirmed(leaving)
        self._offered[1 - leaving.index] = leaving.table.keys

    def note_armed(self, shell: Shell) -> None:
        """It serves again: what was promised of it is changing."""
        self._promised.pop(1 - shell.index, None)
        self._offered.pop(1 - shell.index, None)

    def see(self, world: World, shell: Shell, report: ReportRole) -> None:
        if report.role is not Role.PRIMARY or report.previous is not Role.BACKUP:
            return
        promised = self._promised.pop(shell.index, None)
        offered = self._offered.pop(shell.index, set())
        if report.certificate is not None and report.reason == "the primary handed over":
            promised = offered
        other = world.shells[1 - shell.index]
        if promised is None:
            # It lives, but is stopped or cut off.
            promised = self._confirmed(other) if other.running else set()
        lost = promised - shell.table.keys
        if lost:
            raise Broken(f"{shell.name} promoted without {len(lost)} acknowledged flows: {sorted(lost)[:10]}")

    @staticmethod
    def _confirmed(shell: Shell) -> set[int]:
        ready = shell.node.view(shell.now()).sync.state is SyncState.READY
        return shell.table.committed() if shell.role is Role.PRIMARY and ready else set()


class NoStorm:
    """Full syncs follow faults; in quiet there are none, and never more than one in each 40 ms."""

    def __init__(self) -> None:
        self._count = 0
        self._quiet_count: int | None = None

    def begin_quiet(self) -> None:
        self._quiet_count = self._count

    def see_full_sync(self, world: World) -> None:
        self._count += 1
        if self._quiet_count is not None and self._count > self._quiet_count:
            raise Broken("a full sync although all is quiet")
        if self._count > 20 + world.now_ns // (40 * MILLISECOND_NS):
            raise Broken(f"{self._count} full syncs: a storm")


def check_converged(world: World) -> str | None:
    """None when the pair is whole: one armed primary, a ready backup, equal tables; else what is missing."""
    roles = sorted(shell.role.value for shell in world.shells if shell.running)
    if roles != ["backup", "primary"]:
        return f"roles are {roles}"
    primary = next(shell for shell in world.shells if shell.role is Role.PRIMARY)
    backup = world.shells[1 - primary.index]
    if not primary.armed:
        return "the primary is not armed"
    if not world.options.sync:
        return None
    if primary.node.view(primary.now()).sync.state.value != "ready":
        return "the primary does not call its peer ready"
    if backup.node.view(backup.now()).sync.state.value != "ready":
        return "the backup is not ready"
    if primary.table.flows.keys() != backup.table.flows.keys():
        return "the tables hold different slots"
    if primary.table.recount() != backup.table.recount():
        return "the digests differ"
    if primary.table.acked != primary.table.head:
        return "not everything is acknowledged"
    return None
