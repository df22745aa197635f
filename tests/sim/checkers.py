"""The promises of proto/ that a run must never break, each an object that watches the world.

A checker raises `Broken`; the simulator adds the transcript and the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasyncd.core.buckets import slots_of_bucket
from hasyncd.core.effects import ReportEvent, ReportRole, StartSnapshot
from hasyncd.core.types import MILLISECOND_NS, Role, SyncState

if TYPE_CHECKING:
    from tests.sim.shell import Shell
    from tests.sim.simulator import World
    from tests.sim.table import Table


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
        self._excused: set[int] = set()
        self.blind = False
        """Bytes of a stream were changed on the way: what was installed need not be what was acknowledged."""

    def excuse(self, keys: set[int]) -> None:
        """Memory lost them, not the protocol."""
        self._excused |= keys

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
        lost = promised - shell.table.keys - self._excused
        if lost and not self.blind:
            raise Broken(f"{shell.name} promoted without {len(lost)} acknowledged flows: {sorted(lost)[:10]}")

    @staticmethod
    def _confirmed(shell: Shell) -> set[int]:
        ready = shell.node.view(shell.now()).sync.state is SyncState.READY
        return shell.table.committed() if shell.role is Role.PRIMARY and ready else set()


class NoStorm:
    """Syncs follow faults; in quiet there are none, and never more than one in each 40 ms."""

    def __init__(self) -> None:
        self._count = 0
        self._quiet_count: int | None = None

    def begin_quiet(self) -> None:
        self._quiet_count = self._count

    def see_sync(self, world: World) -> None:
        self._count += 1
        if self._quiet_count is not None and self._count > self._quiet_count:
            raise Broken("a sync although all is quiet")
        if self._count > 20 + world.now_ns // (40 * MILLISECOND_NS):
            raise Broken(f"{self._count} syncs: a storm")


class Leastness:
    """S6c, S7a: what could be resumed is, and a sync sends the buckets that differ: everything only to a backup that
    held nothing, or whose digests have failed, or where an operator wants it.
    """

    def __init__(self) -> None:
        self._failures = [0, 0]
        self._ordered: set[bool] = set()

    def forget(self, index: int) -> None:
        """A new process."""
        self._failures[index] = 0

    def order(self, *, full: bool) -> None:
        """An operator has said `resync`, or `resync --full`."""
        self._ordered.add(full)

    def see_event(self, shell: Shell, event: ReportEvent) -> None:
        if event.name == "sync_ready":
            self._failures[shell.index] = 0
        elif event.name == "stream_rejected":
            self._failures[shell.index] += 2 if event.detail == "full_sync_mismatch" else 1

    def see_sync(self, world: World, primary: Shell, begin: StartSnapshot) -> None:
        """`primary` is about to do this."""
        backup, stream = world.shells[1 - primary.index], primary.stream
        ordered, self._ordered = self._ordered, set()
        if stream is None or not backup.running or backup.boot_id not in stream.boots or world.mangled:
            return  # the answer to a backup that is no more, or that said something else
        failures = self._failures[backup.index]
        held, table = backup.node._receiver.history, primary.table
        log_goes_on = (held.boot_id, held.generation) == (primary.boot_id, primary.node.generation) and (
            table.oldest <= held.installed + 1 <= table.head + 1
        )
        if held.synced and log_goes_on and not ordered:
            raise Broken("a sync where the stream could have been resumed")
        if not begin.suspects:
            knows_nothing = not backup.table.flows or backup.table.seed != table.seed
            if not (knows_nothing or failures >= 2 or True in ordered):
                raise Broken(f"everything was sent to a backup that held {len(backup.table.flows)} flows")
            return
        if log_goes_on and not failures and begin.first != held.installed + 1:
            raise Broken("records were skipped that the log still holds")
        named = {n for n in range(len(begin.suspects) * 8) if begin.suspects[n // 8] >> n % 8 & 1}
        if beyond := named - self._differing(table, backup.table):
            raise Broken(f"buckets {sorted(beyond)} were sent although they did not differ")

    @staticmethod
    def _differing(one: Table, other: Table) -> set[int]:
        slots = slots_of_bucket(one.capacity)
        told = zip(
            batched(one.bucket_digests(one.capacity)),
            batched(other.bucket_digests(one.capacity)),
            strict=True,
        )
        differing = {bucket for bucket, (a, b) in enumerate(told) if a != b}
        for slot in one.flows.keys() | other.flows.keys():
            a, b = one.flows.get(slot), other.flows.get(slot)
            if a is None or b is None or (a.key, a.state, a.version, a.port) != (
                b.key, b.state, b.version, b.port,
            ):  # fmt: skip
                differing.add(slot // slots)
        return differing


def batched(digests: bytes) -> list[bytes]:
    return [digests[at : at + 8] for at in range(0, len(digests), 8)]


class GivesWayRarely:
    """P10: only a primary gives way, to one that says it is fitter; and each time the next one takes longer."""

    def __init__(self) -> None:
        self._moments_ns: tuple[list[int], list[int]] = ([], [])

    def forget(self, index: int) -> None:
        """A new process knows of no hand-over."""
        self._moments_ns[index].clear()

    def see_event(self, world: World, shell: Shell, event: ReportEvent) -> None:
        if event.name != "handover_by_fitness":
            return
        view = shell.node.view(shell.now())
        if shell.role is not Role.PRIMARY or view.peer.role is not Role.BACKUP:
            raise Broken(f"{shell.name} gives way as {shell.role.value} to a peer in {view.peer.role}")
        advantage = (view.peer.fitness or 0) - view.fitness
        if advantage <= world.settings.fitness_margin:
            raise Broken(f"{shell.name} gives way to a peer that is fitter by {advantage}")
        moments = self._moments_ns[shell.index]
        patience_ns = world.settings.dead_after_ns << min(len(moments), 6)
        # The node's clock may be a little faster than the world's.
        if moments and world.now_ns - moments[-1] < patience_ns * 999 // 1000:
            raise Broken(f"{shell.name} gives way for the {len(moments) + 1}. time without patience")
        moments.append(world.now_ns)


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
    ports = [flow.port for flow in primary.table.flows.values() if flow.port]
    if len(set(ports)) < len(ports):
        return "two flows have one reply tuple"
    for shell in world.shells:
        if shell.table.recount() != shell.table.digest():
            return f"the memory of {shell.name} is not what its digest says"
    if not world.mangled and any(
        flow.timeout != backup.table.flows[slot].timeout for slot, flow in primary.table.flows.items()
    ):
        return "a refresh of a timeout was lost"
    if primary.table.acked != primary.table.head:
        return "not everything is acknowledged"
    return None
