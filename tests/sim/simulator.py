"""Two nodes of the core in a world without real time: one seed, one run.

`Shell` does what the runtime does (performs effects, answers them, delivers what arrives); `World` holds the
clock and the queue of what happens next. Faults are methods of `World`, named as sentences say them.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hasyncd.core import effects as fx
from hasyncd.core.node import Node
from hasyncd.core.types import MILLISECOND_NS, PairSettings, Role
from tests.sim.checkers import Broken, GenerationGrows, NoStorm, NothingAcknowledgedIsLost, OneArmed
from tests.sim.network import Network, Stream
from tests.sim.table import Table

NAMES = ("gw-a", "gw-b")
CONFIG_HASH = b"\x00" * 8
_QUEUED_MAX = 200
"""Datagrams a sleeping process' socket holds."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a seed decides before anything happens."""

    priorities: tuple[int, int] = (200, 100)
    prefer: str = "availability"
    sync: bool = True
    capacity: int = 64
    log_records: int = 4096
    loss: float = 0.0
    delay_ns: tuple[int, int] = (50_000, 300_000)
    flow_interval_ns: int = 2 * MILLISECOND_NS
    """Between two events of the traffic; 0: no traffic."""
    nested_answers: bool = True
    """Answers to effects are given at once, in the middle of the list, or after it."""
    generations: tuple[int, int] = (0, 0)


class Shell:
    """One machine: a process that may be killed, its table, its state directory."""

    def __init__(self, world: World, index: int, generation: int) -> None:
        self.world = world
        self.index = index
        self.name = NAMES[index]
        self.clock_offset_ns = world.rng.randint(1, 10**15)
        self.durable_generation = generation
        self.write_fails = False
        self.running = False
        self.paused = False
        self.powered_off = False
        self.booted_in_partition = False
        self.lease_until_ns = 0
        self.node: Node
        self.table: Table
        self.stream: Stream | None = None
        self.connecting = 0
        self.boot_id = 0
        self.reports: list[fx.ReportRole] = []
        self.events: list[fx.ReportEvent] = []
        self.sent: list[fx.Effect] = []
        self.announced = 0
        self._queued: list[Callable[[], None]] = []
        self._datagrams_queued = 0
        self._timer = 0
        self._cursor_waits = False
        self._answers: list[Callable[[], list[fx.Effect]]] = []

    # --- the process -----------------------------------------------------------------------------

    def now(self) -> int:
        """This machine's CLOCK_BOOTTIME."""
        return self.world.now_ns + self.clock_offset_ns

    @property
    def role(self) -> Role:
        return self.node.role

    @property
    def armed(self) -> bool:
        return self.running and self.now() < self.lease_until_ns

    def boot(self) -> None:
        options = self.world.options
        self.boot_id = self.world.rng.getrandbits(64) | 1
        seed = self.world.rng.randbytes(16)
        settings = PairSettings(
            self.name, options.priorities[self.index], 50 * MILLISECOND_NS, 150 * MILLISECOND_NS,
            options.prefer, options.sync, options.capacity, CONFIG_HASH,
        )  # fmt: skip
        self.node = Node(settings, self.boot_id, self.durable_generation, seed, self.now())
        self.table = Table(options.capacity, seed, options.log_records)
        self.lease_until_ns = 0
        self.stream = None
        self.running, self.paused, self.powered_off = True, False, False
        self.world.network.reset_streams(self.index)
        self._queued.clear()
        self._datagrams_queued = 0
        self.perform(self.node.start(self.now()))

    def die(self, *, power: bool) -> None:
        """SIGKILL; with `power` the machine goes with it and its kernel says nothing more."""
        self.running = False
        self.powered_off = power
        self.lease_until_ns = 0
        self.connecting += 1
        self._answers.clear()
        if self.stream is not None and not power:
            self.world.network.close(self.stream, self.index, abrupt=True)
        elif self.stream is not None:
            self.stream.open_ends.discard(self.index)
            self.stream.in_flight[self.index].clear()
        self.stream = None

    def input(self, call: Callable[[int], list[fx.Effect]], *, datagram: bool = False) -> None:
        """Something happens to the process now, or when it wakes up."""
        if not self.running:
            return
        if self.paused:
            if datagram:
                self._datagrams_queued += 1
                if self._datagrams_queued > _QUEUED_MAX:
                    return
            self._queued.append(lambda: self.input(call))
            return
        self.perform(self.node.receive_log_state(*self._log_numbers(), self.now()))
        self.perform(call(self.now()))

    def wake(self) -> None:
        self.paused = False
        queued, self._queued = self._queued, []
        self._datagrams_queued = 0
        if self.world.rng.random() < 0.5:
            queued.append(lambda: self.input(self.node.handle_timer))
        else:
            queued.insert(0, lambda: self.input(self.node.handle_timer))
        for action in queued:
            action()
        self.arm_timer()

    def _log_numbers(self) -> tuple[int, int, int, int]:
        table = self.table
        return table.head, len(table.flows), table.digest(), table.oldest

    def arm_timer(self) -> None:
        deadline = self.node.next_deadline_ns()
        self._timer += 1
        if deadline is None or not self.running:
            return
        turn, boot = self._timer, self.boot_id

        def fire() -> None:
            if turn == self._timer and boot == self.boot_id and not self.paused:
                self.input(self.node.handle_timer)
                due = self.node.next_deadline_ns()
                if self.running and due is not None and due <= self.now():
                    raise Broken(f"{self.name}: a deadline stays in the past: the shell would spin")

        lateness = self.world.rng.randint(0, 200_000)
        self.world.at(max(0, deadline - self.now()) + lateness, fire)

    # --- performing effects ----------------------------------------------------------------------

    def perform(self, effects: list[fx.Effect]) -> None:
        boot = self.boot_id
        for effect in effects:
            if not self.running or boot != self.boot_id:
                return
            if not self._perform_one(effect):
                break
            if self.world.options.nested_answers:
                self._answer()
        while self._answers and self.running:
            self._answer()
        if self.running:
            self._drain()
            self.arm_timer()
            self.world.look()

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            for effect in answer():
                if self.running and not self._perform_one(effect):
                    break

    def _perform_one(self, effect: fx.Effect) -> bool:  # noqa: C901  one case an effect
        """False when the rest of the list must be dropped."""
        world, table, node = self.world, self.table, self.node
        match effect:
            case fx.SendDatagram(payload):
                world.network.send_datagram(self.index, payload)
                return True
            case fx.ConnectStream():
                world.connect(self)
            case fx.WriteStream(frame):
                self._write(frame)
            case fx.CloseStream():
                self.connecting += 1
                if self.stream is not None:
                    world.network.close(self.stream, self.index)
                    self.stream = None
                table.stop()
            case fx.ProbePeerPort():
                world.probe(self)
                return True
            case fx.ResetTable(seed):
                table.reset(seed)
            case fx.BeginSync():
                table.begin_sync()
            case fx.EndSync():
                table.end_sync()
                swept = (len(table.flows), table.digest())
                self._answers.append(lambda: node.receive_sync_swept(*swept, self.now()))
            case fx.InstallRecords(_, _, records):
                installed, rejection = table.install(records)
                state = (len(table.flows), table.digest())
                self._answers.append(lambda: node.receive_installed(installed, rejection, *state, self.now()))
            case fx.SendFrom(sequence):
                if not table.rewind(sequence):
                    self._answers.append(lambda: node.receive_log_overrun(self.now()))
            case fx.StartSnapshot():
                table.start_log()
                world.storm.see_full_sync(world)
            case fx.StopDeltas():
                table.stop()
            case fx.FlushLog():
                world.losses.note_hand_over(self)
                self._drain(everything=True)
                self._answers.append(lambda: node.receive_log_flushed(table.head, self.now()))
            case fx.Acknowledge(sequence):
                table.acknowledge(sequence)
                return True
            case fx.SetCommit(hold):
                table.hold(hold)
            case fx.WriteGeneration(generation):
                if self.write_fails:
                    self._answers.append(lambda: node.receive_fault("disk", self.now()))
                    return False
                self.durable_generation = generation
            case fx.Arm(until) | fx.RenewLease(until):
                if isinstance(effect, fx.RenewLease) and self.lease_until_ns == 0:
                    raise Broken(f"{self.name}: a lease was renewed that was never granted")
                self.lease_until_ns = until
                if isinstance(effect, fx.RenewLease):
                    return True
                world.losses.note_armed(self)
            case fx.Disarm():
                self.lease_until_ns = 0
            case fx.AnnounceVips():
                self.announced += 1
            case fx.ReportRole():
                self.reports.append(effect)
                world.losses.see(world, self, effect)
                self.booted_in_partition = (
                    effect.role is Role.PRIMARY and effect.previous is Role.INIT
                    and (self.booted_in_partition or world.network.excused(10**9))
                )  # fmt: skip
            case fx.ReportEvent():
                self.events.append(effect)
            case fx.Stop():
                world.say(self.name, "stops")
                self.die(power=False)
                return False
        world.say(self.name, describe(effect))
        return True

    def _write(self, frame: bytes) -> None:
        if self.stream is not None:
            self.world.network.write(self.stream, self.index, frame)

    def _drain(self, *, everything: bool = False) -> None:
        """Moves the cursor and puts the log on the stream, as the runtime's loop does after every turn."""
        table = self.table
        if self.stream is None or not table.sending:
            return
        if table.overrun:
            table.sending = False
            self.world.at(0, lambda: self.input(self.node.receive_log_overrun))
            return
        finished = False
        # The cursor waits for the peer's acknowledgements, or it would overrun the log by itself.
        if table.cursor is not None and table.unacknowledged < table.log_records // 2:
            finished = table.step_cursor(8)
        if table.cursor is not None and not self._cursor_waits:
            self._cursor_waits = True
            self.world.at(200_000, self._go_on)
        while (batch := table.drain(256 if everything else 32))[1]:
            self._write(self.node.encode_deltas(*batch))
        if finished:
            numbers = (table.head, len(table.flows), table.digest())
            self.perform(self.node.receive_snapshot_finished(*numbers, self.now()))

    def _go_on(self) -> None:
        self._cursor_waits = False
        self.input(lambda now: [])


@dataclass
class World:
    """The clock, the wire and both machines."""

    seed: int
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.now_ns = 0
        self.transcript: list[str] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._turn = 0
        self._next_flow = 1
        self.forced = False
        self.traffic = True
        self.network = Network(self.rng, self.at, lambda: self.now_ns)
        self.network.deliver_datagram = self._deliver_datagram
        self.network.deliver_bytes = self._deliver_bytes
        self.network.deliver_end = self._deliver_end
        for link in self.network.links:
            link.loss, link.delay_ns = self.options.loss, self.options.delay_ns
        self.settings = PairSettings(
            "any", 0, 50 * MILLISECOND_NS, 150 * MILLISECOND_NS, self.options.prefer, True, 1, CONFIG_HASH
        )
        self.losses = NothingAcknowledgedIsLost()
        self.storm = NoStorm()
        self.generations = GenerationGrows()
        self._watchers = (OneArmed(), self.generations)
        self.shells = tuple(Shell(self, index, self.options.generations[index]) for index in (0, 1))
        if self.options.flow_interval_ns:
            self.at(self.options.flow_interval_ns, self._traffic)

    # --- time ------------------------------------------------------------------------------------

    def at(self, after_ns: int, action: Callable[[], None]) -> None:
        self._turn += 1
        heapq.heappush(self._queue, (self.now_ns + after_ns, self._turn, action))

    def run_ms(self, milliseconds: float) -> None:
        """Lets the world go on for so long."""
        end = self.now_ns + int(milliseconds * MILLISECOND_NS)
        while self._queue and self._queue[0][0] <= end:
            self.now_ns, _, action = heapq.heappop(self._queue)
            action()
        self.now_ns = end
        self.look()

    def run_until(self, condition: Callable[[], bool], limit_ms: float, what: str) -> float:
        """Lets the world go on until `condition`; the milliseconds it took."""
        began, end = self.now_ns, self.now_ns + int(limit_ms * MILLISECOND_NS)
        while not condition():
            if not self._queue or self._queue[0][0] > end:
                raise Broken(f"not within {limit_ms:g} ms: {what}")
            self.now_ns, _, action = heapq.heappop(self._queue)
            action()
        return (self.now_ns - began) / MILLISECOND_NS

    def look(self) -> None:
        for watcher in self._watchers:
            watcher.look(self)

    def say(self, who: str, what: str) -> None:
        self.transcript.append(f"{self.now_ns / 1e6:12.3f} ms  {who:5}  {what}")

    # --- faults ----------------------------------------------------------------------------------

    def boot(self, index: int, *, wiped: bool = False) -> None:
        shell = self.shells[index]
        if wiped:
            shell.durable_generation = 0
            self.generations.forget(index)
        self.say("world", f"{shell.name} boots{' with a wiped state directory' if wiped else ''}")
        shell.booted_in_partition = not self.network.whole()
        shell.boot()

    def kill(self, index: int, *, power: bool = False) -> None:
        shell = self.shells[index]
        self.say("world", f"{shell.name} {'loses power' if power else 'is killed'}")
        self.losses.note_death(self, shell)
        shell.die(power=power)

    def pause(self, index: int) -> None:
        self.say("world", f"{self.shells[index].name} is stopped (SIGSTOP)")
        self.shells[index].paused = True

    def resume(self, index: int) -> None:
        self.say("world", f"{self.shells[index].name} goes on (SIGCONT)")
        if self.shells[index].running and self.shells[index].paused:
            self.shells[index].wake()

    def cut(self, *senders: int) -> None:
        for sender in senders or (0, 1):
            self.say("world", f"the wire from {NAMES[sender]} is cut")
            self.network.cut(sender)

    def heal(self) -> None:
        self.say("world", "the wires are whole")
        self.network.heal()

    def break_stream(self) -> None:
        self.say("world", "the stream breaks")
        self.network.break_streams()

    # --- what happens between them -----------------------------------------------------------------

    def connect(self, shell: Shell) -> None:
        """ConnectStream: one round trip, if the wire lets it."""
        shell.connecting += 1
        attempt, boot = shell.connecting, shell.boot_id
        other = self.shells[1 - shell.index]

        def fail() -> None:
            if shell.running and shell.boot_id == boot and shell.connecting == attempt:
                shell.input(lambda now: shell.node.receive_stream_closed(now))

        def arrive() -> None:
            gone = not shell.running or shell.boot_id != boot or shell.connecting != attempt
            if gone or not self.network.whole() or other.powered_off:
                return
            if not other.running:
                self.at(self.network.delay(other.index), fail)
                return
            stream = self.network.open_stream(shell.index, (shell.boot_id, other.boot_id))
            shell.stream = stream
            shell.input(lambda now: shell.node.receive_stream_opened(now))
            other.input(lambda now: self._accept(other, stream, now))

        self.at(self.network.delay(0) + self.network.delay(1), arrive)

    def _accept(self, shell: Shell, stream: Stream, now_ns: int) -> list[fx.Effect]:
        refusal = shell.node.refuse_stream()
        if refusal is not None:
            self.network.write(stream, shell.index, refusal)
            self.network.close(stream, shell.index)
            return []
        if shell.stream is not None:
            self.network.close(shell.stream, shell.index)
        shell.stream = stream
        return shell.node.receive_stream_accepted(now_ns)

    def probe(self, shell: Shell) -> None:
        boot = shell.boot_id
        other = self.shells[1 - shell.index]

        def answer() -> None:
            refused = not other.running and not other.powered_off
            if self.network.whole() and refused and shell.boot_id == boot:
                shell.input(lambda now: shell.node.receive_port_refused(now))

        self.at(self.network.delay(0) + self.network.delay(1), answer)

    def _deliver_datagram(self, index: int, payload: bytes) -> None:
        shell = self.shells[index]
        shell.input(lambda now: shell.node.receive_datagram(payload, now), datagram=True)

    def _deliver_bytes(self, stream: Stream, index: int, data: bytes) -> None:
        shell = self.shells[index]
        if stream.boots[stream.ends.index(index)] != shell.boot_id:
            return
        cut = self.rng.randint(0, len(data))
        for part in (data[:cut], data[cut:]):
            shell.input(
                lambda now, part=part: (  # type: ignore[misc]
                    shell.node.receive_stream_data(part, now) if shell.stream is stream and part else []
                )
            )

    def _deliver_end(self, stream: Stream, index: int) -> None:
        shell = self.shells[index]

        def end(now: int) -> list[fx.Effect]:
            if shell.stream is not stream:
                return []
            shell.stream = None
            shell.table.stop()
            return shell.node.receive_stream_closed(now)

        if stream.boots[stream.ends.index(index)] == shell.boot_id:
            shell.input(end)

    def _traffic(self) -> None:
        """One event of the users' traffic, at whichever nodes forward."""
        self.at(self.rng.randint(1, 2 * self.options.flow_interval_ns), self._traffic)
        if not self.traffic:
            return
        for shell in self.shells:
            if not shell.armed or shell.paused or shell.role is not Role.PRIMARY:
                continue
            table, dice = shell.table, self.rng.random()
            slots = sorted(table.flows)
            if dice < 0.5 or not slots:
                table.open_flow(self._next_flow)
                self._next_flow += 1
            elif dice < 0.75:
                table.update_flow(self.rng.choice(slots))
            else:
                table.close_flow(self.rng.choice(slots))
            shell.input(lambda now: [])


def describe(effect: fx.Effect) -> str:
    """One line of the transcript."""
    match effect:
        case fx.WriteStream(frame):
            return f"WriteStream {len(frame)} bytes"
        case fx.InstallRecords(first, count, _):
            return f"InstallRecords {first}+{count}"
        case fx.ReportRole(previous, role, generation, reason, _):
            return f"ROLE {previous.value} -> {role.value}, generation {generation}: {reason}"
        case fx.ReportEvent(name, detail):
            return f"event {name} {detail}"
        case fx.Arm(until):
            return f"Arm until {until}"
        case _:
            return type(effect).__name__ if not getattr(effect, "reason", "") else repr(effect)
