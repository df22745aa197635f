"""One machine of the simulated pair: a process that may be killed, its table, its state directory.

It does what the runtime does: performs effects, answers them, delivers what arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hasyncd.core import effects as fx
from hasyncd.core.node import Node
from hasyncd.core.types import MergeFindings, Role, VipState
from tests.sim import split
from tests.sim.checkers import Broken
from tests.sim.network import Stream
from tests.sim.options import NAMES
from tests.sim.table import Table

if TYPE_CHECKING:
    from tests.sim.simulator import World

VIPS = {"inside": "10.0.1.1", "outside": "203.0.113.5"}
_QUEUED_MAX = 200
"""Datagrams a sleeping process' socket holds."""


class Shell:
    """One machine: a process that may be killed, its table, its state directory."""

    def __init__(self, world: World, index: int, generation: int) -> None:
        self.world = world
        self.index = index
        self.name = NAMES[index]
        self.clock_offset_ns = world.rng.randint(1, 10**15)
        self.durable_generation = generation
        self.write_fails = False
        self.dies_in_promotion_after: int | None = None
        """How many steps of the next promotion it survives."""
        self.last_armed_generation = 0
        self.running = False
        self.paused = False
        self.powered_off = False
        self.booted_in_partition = False
        self.lease_until_ns = 0
        self._may_forward = False
        """Armed, if the lease allows: without an echo it begins with the first one."""
        self.node: Node
        self.table: Table
        self.stream: Stream | None = None
        self.connecting = 0
        self.boot_id = 0
        self.reports: list[fx.ReportRole] = []
        self.events: list[fx.ReportEvent] = []
        self.sent: list[fx.Effect] = []
        self.announced = 0
        self.seen_ns = 0
        self._claims: dict[str, tuple[str, int]] = {}
        self._queued: list[Callable[[], None]] = []
        self._datagrams_queued = 0
        self._timer = 0
        self._armed_for: int | None = None
        self._drift_ppm = world.options.drift_ppm[index]
        self._cursor_waits = False
        self._flushing = False
        self._answers: list[Callable[[], list[fx.Effect]]] = []

    # --- the process -----------------------------------------------------------------------------

    def now(self) -> int:
        """This machine's CLOCK_BOOTTIME, which runs a little fast or slow."""
        return self.world.now_ns + self.world.now_ns * self._drift_ppm // 1_000_000 + self.clock_offset_ns

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
        settings = options.settings_of(self.index)
        self.node = Node(settings, self.boot_id, self.durable_generation, seed, self.now())
        self.table = Table(options.capacity, seed, options.log_records)
        self.table.half = self.index
        self.lease_until_ns = 0
        self._may_forward = False
        self.stream = None
        self.running, self.paused, self.powered_off = True, False, False
        self.world.network.reset_streams(self.index)
        self._queued.clear()
        self._claims.clear()
        self.seen_ns = 0
        self._datagrams_queued = 0
        self._armed_for = None
        self._flushing = False
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
        now = self.now()
        if before := self.node.receive_log_state(*self._log_numbers(), now):
            self.perform(before)
        self.perform(call(now))

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
        self._armed_for = None
        self.arm_timer()

    def _log_numbers(self) -> tuple[int, int, int, int, int, int]:
        table = self.table
        return table.head, len(table.flows), table.digest(), table.oldest, len(table.at_risk), 0

    def arm_timer(self) -> None:
        deadline = self.node.next_deadline_ns()
        if deadline != self.node._earliest_deadline_ns():
            raise Broken(
                f"{self.name}: an input moved a deadline and did not say so: the timer would be late"
            )
        if deadline == self._armed_for:
            return
        self._timer += 1
        self._armed_for = deadline
        if deadline is None or not self.running:
            return
        turn, boot = self._timer, self.boot_id

        def fire() -> None:
            if turn == self._timer and boot == self.boot_id and not self.paused:
                self._armed_for = None
                self.table.scrub()
                self.input(self.node.handle_timer)
                due = self.node.next_deadline_ns()
                if self.running and due is not None and due <= self.now():
                    raise Broken(f"{self.name}: a deadline stays in the past: the shell would spin")

        lateness = int(self.world.rng.random() * 200_000)
        # A fast clock gets there sooner.
        after = (deadline - self.now()) * 1_000_000 // (1_000_000 + self._drift_ppm) + 1
        self.world.at(max(0, after) + lateness, fire)

    # --- performing effects ----------------------------------------------------------------------

    def perform(self, effects: list[fx.Effect]) -> None:
        boot = self.boot_id
        promotes = any(isinstance(effect, fx.WriteGeneration) for effect in effects)
        for step, effect in enumerate(effects):
            if not self.running or boot != self.boot_id:
                return
            if promotes and step == self.dies_in_promotion_after:
                self.dies_in_promotion_after = None
                self.world.kill(self.index)
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

    def _perform_one(self, effect: fx.Effect) -> bool:
        """False when the rest of the list must be dropped."""
        world, table = self.world, self.table
        match effect:
            case fx.SendDatagram(payload, path):
                world.certificates.note_word(self)
                world.network.send_datagram(self.index, payload, path)
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
            case fx.WriteGeneration() | fx.Arm() | fx.RenewLease() | fx.Disarm() | fx.AnnounceVips():
                if not self._perform_on_data_path(effect):
                    return False
            case fx.ProbeVips():
                world.ask_for_vips(self)
            case fx.LookAtVips():
                self._answers.append(lambda: self.node.receive_vip_states(self._vip_states(), self.now()))
            case fx.AskWitness(request):
                world.witness.ask(self, request)
            case fx.ReportRole() | fx.ReportEvent():
                self._take_report(effect)
            case fx.Stop():
                world.say(self.name, "stops")
                self.die(power=False)
                return False
            case _:
                self._perform_on_table(effect)
        if not isinstance(effect, fx.SendDatagram | fx.ProbePeerPort | fx.Acknowledge | fx.RenewLease):
            world.say(self.name, describe(effect))
        return True

    def _perform_on_table(self, effect: fx.Effect) -> None:
        world, table, node = self.world, self.table, self.node
        match effect:
            case fx.ResetTable(seed):
                table.reset(seed)
            case fx.DigestBuckets(capacity):
                digests = table.bucket_digests(capacity)
                self._answers.append(lambda: node.receive_bucket_digests(digests, self.now()))
            case fx.BeginSync(suspects, capacity):
                world.reunion.look_at_sync(world, self)
                table.begin_sync(suspects, capacity)
            case fx.EndSync():
                table.end_sync()
                swept = (len(table.flows), table.digest(), table.findings)
                self._answers.append(lambda: node.receive_sync_swept(*swept, self.now()))
            case fx.OfferFlows():
                self._offer(self.stream, 0)
            case fx.EndOffer():
                world.reunion.look_at_sync(world, self)
                split.end_offer(table)
            case fx.MergeFlows(records):
                judged = split.merge(table, records)
                self._answers.append(lambda: self._tell_merged(*judged))
            case fx.SetSolo(solo):
                split.set_solo(table, solo)
            case fx.InstallRecords(_, _, records):
                installed, rejection = table.install(records)
                state = (len(table.flows), table.digest())
                self._answers.append(lambda: node.receive_installed(installed, rejection, *state, self.now()))
            case _:
                self._perform_on_log(effect)

    def _perform_on_log(self, effect: fx.Effect) -> None:
        world, table, node = self.world, self.table, self.node
        match effect:
            case fx.CompareBuckets(digests):
                compared = (table.compare_buckets(digests), table.head, len(table.flows))
                self._answers.append(lambda: node.receive_suspects(*compared, self.now()))
            case fx.SendFrom(sequence, window):
                table.window = window
                if not table.rewind(sequence):
                    self._answers.append(lambda: node.receive_log_overrun(self.now()))
            case fx.StartSnapshot(first, window, suspects, refresh):
                table.window = window
                world.storm.see_sync(world)
                world.leastness.see_sync(world, self, effect)
                if not table.start_snapshot(first, suspects, refresh=refresh):
                    self._answers.append(lambda: node.receive_log_overrun(self.now()))
            case fx.FlushLog():
                # The peer's socket takes its time; records drained meanwhile are part of the flush.
                world.losses.note_hand_over(self)
                boot = self.boot_id
                world.at(world.rng.randint(0, 20_000_000), lambda: self._flush(boot))
            case fx.StopDeltas():
                table.stop()
                self._flushing = False
            case fx.Acknowledge(sequence):
                table.acknowledge(sequence)
            case fx.SetCommit(hold):
                table.hold(hold)

    def _perform_on_data_path(self, effect: fx.Effect) -> bool:
        """False when the rest of the list must be dropped."""
        match effect:
            case fx.WriteGeneration() if self.write_fails:
                self._answers.append(lambda: self.node.receive_fault("disk", self.now()))
                return False
            case fx.WriteGeneration(generation):
                self.durable_generation = generation
            case fx.Arm(until):
                self._may_forward = True
                self.lease_until_ns = until
                self.last_armed_generation = self.node.generation
                self.world.losses.note_armed(self)
            case fx.RenewLease(until):
                if not self._may_forward:
                    raise Broken(f"{self.name}: a lease was renewed that was never granted")
                self.lease_until_ns = until
            case fx.Disarm():
                self._may_forward = False
                self.lease_until_ns = 0
            case fx.AnnounceVips():
                self.announced += 1
                self.world.announce(self)
        return True

    def hear_claim(self, lan: str, mac: str) -> None:
        """An ARP packet from somebody who has the VIP there."""
        if self.running and not self.paused:
            self._claims[lan] = (mac, self.now())

    def _vip_states(self) -> tuple[VipState, ...]:
        return tuple(
            VipState(address, lan, *self._claims.get(lan, ("", 0)), self.seen_ns)
            for lan, address in VIPS.items()
        )

    def _take_report(self, report: fx.ReportRole | fx.ReportEvent) -> None:
        if isinstance(report, fx.ReportEvent):
            self.events.append(report)
            self.world.leastness.see_event(self, report)
            self.world.giving_way.see_event(self.world, self, report)
            self.world.reunion.see_event(self, report)
            return
        self.reports.append(report)
        self.world.losses.see(self.world, self, report)
        self.world.reunion.see(self, report)
        self.world.certificates.see(self.world, self, report)
        self.booted_in_partition = (
            report.role is Role.PRIMARY
            and report.previous is Role.INIT
            and (self.booted_in_partition or self.world.network.excused(10**9))
        )

    def _write(self, frame: bytes) -> None:
        if self.stream is not None:
            self.world.network.write(self.stream, self.index, frame)

    def _offer(self, stream: Stream | None, slot: int) -> None:
        """One batch of the offer, and later the next."""
        if stream is None or self.stream is not stream or not self.running:
            return
        records, following = split.offer(self.table, slot)
        if records:
            self._write(self.node.encode_offer(len(records), b"".join(records), self.now()))
        if following is None:
            self._answers.append(lambda: self.node.receive_offer_finished(self.now()))
            return
        pause_ns = self.world.options.offer_pause_ns
        self.world.at(pause_ns, lambda: self.input(lambda now: self._go_on_offering(stream, following)))

    def _go_on_offering(self, stream: Stream, slot: int) -> list[fx.Effect]:
        self._offer(stream, slot)
        return []

    def _tell_merged(self, count: int, found: MergeFindings, rejection: str | None) -> list[fx.Effect]:
        before = self.node.receive_log_state(*self._log_numbers(), self.now())
        return before + self.node.receive_merged(count, found, rejection, self.now())

    def _drain(self) -> None:
        """Moves the cursor and puts the log on the stream, as the runtime's loop does after every turn."""
        table, network = self.table, self.world.network
        stream = self.stream
        if stream is None or not table.sending:
            return
        if table.overrun:
            table.sending = False
            self.world.at(0, lambda: self.input(self.node.receive_log_overrun))
            return
        # The cursor waits for the peer's acknowledgements, or it would overrun the log by itself.
        if table.cursor is not None and table.unacknowledged < table.log_records // 2:
            table.step_cursor(8)
        if table.cursor is not None and not self._cursor_waits:
            self._cursor_waits = True
            self.world.at(200_000, self._go_on)
        while table.may_send and network.has_room(stream, self.index) and (batch := table.drain(32))[1]:
            self._write(self.node.encode_deltas(*batch))
        if not table.drained:
            return  # `room_again` comes back here
        if table.snapshotting and table.cursor is None:
            table.snapshotting = False
            numbers = (table.head, len(table.flows), table.digest(), table.flows_sent, table.refreshed)
            self.perform(self.node.receive_snapshot_finished(*numbers, self.now()))
        if self._flushing:
            self._flushing = False
            self.input(lambda now: self.node.receive_log_flushed(self.table.head, now))

    def _flush(self, boot: int) -> None:
        if boot == self.boot_id and self.table.sending:
            self._flushing = True
            self._go_on()

    def room_again(self, stream: Stream) -> None:
        """write(2) takes more on this one."""
        if self.stream is stream:
            self._go_on()

    def _go_on(self) -> None:
        self._cursor_waits = False
        self.input(lambda now: [])


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
        case fx.AskWitness(request):
            return f"AskWitness {request.kind.value} {request.generation}, number {request.number}"
        case fx.StartSnapshot(first, _, suspects, refresh):
            return f"StartSnapshot {first}, {f'suspects {suspects.hex()}' if suspects else 'everything'}" + (
                ", refresh" if refresh else ""
            )
        case _:
            return type(effect).__name__ if not getattr(effect, "reason", "") else repr(effect)
