"""Performs what the core decides: the one `match` over effects, and the core's one timer.

Inputs from sockets, clock and operators go into the `Node`; the effects it returns are performed in order,
list by list, and their answers are fed back after the list they came from. What the shell knows and the
core does not is which socket is the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, assert_never

from hasyncd.config import Settings
from hasyncd.core import effects as fx
from hasyncd.core.members import MemberWord
from hasyncd.core.node import Node
from hasyncd.core.register import Answer
from hasyncd.core.types import SECOND_NS
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.data_path import DataPath
from hasyncd.runtime.delta_stream import DeltaStream
from hasyncd.runtime.journal import Journal
from hasyncd.runtime.peer_port import Connection, PeerPort
from hasyncd.runtime.pump import Pump
from hasyncd.runtime.reunion import Reunion
from hasyncd.runtime.route_driver import RouteDriver
from hasyncd.runtime.state_dir import StateDir, StateDirError
from hasyncd.runtime.table_effects import TableEffects
from hasyncd.runtime.vips import vip_states

if TYPE_CHECKING:
    from hasyncd.runtime.witness import EtcdWitness  # its HTTP client is for those who have one

_UNTRUSTED_EVERY_NS: Final = 10 * SECOND_NS
_RETRY_STATE_S: Final = 1.0
_RELAY_AT_STOP_S: Final = 0.3
_TURN_S: Final = 0.001


class EffectFailed(Exception):
    """An effect could not be performed: what follows it in its list must not happen."""


class Shell:
    """Joins node, engine, sockets and state directory. `on_stop` is called once the core says `Stop`."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        engine: Engine,
        port: PeerPort,
        state: StateDir,
        journal: Journal,
        on_stop: Callable[[], None],
        routes: RouteDriver | None = None,
        witness: EtcdWitness | None = None,
        on_members: Callable[[fx.FollowMembers], None] = lambda _: None,
    ) -> None:
        """`on_members` hears the primary's word on the backends."""
        self.node = node
        self.engine = engine
        self.journal = journal
        self._settings = settings
        self._port = port
        self._state = state
        self._on_stop = on_stop
        self._witness = witness
        self._on_members = on_members
        self._table = TableEffects(node, engine, self._feed)
        self._data_path = DataPath(settings, engine, routes)
        self._stream: DeltaStream | None = None
        self._give_up_connect: Callable[[], object] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._untrusted_told_ns = -_UNTRUSTED_EVERY_NS
        self._state_retry: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._faults: set[str] = set()
        self._lists: deque[list[fx.Effect]] = deque()
        self._performing = False
        self.pump = Pump(
            engine,
            node.encode_deltas,
            settings.sync.log_records,
            on_flushed=self._log_flushed,
            on_snapshot_done=self._snapshot_done,
            on_overrun=self._log_overrun,
        )
        self._reunion = Reunion(
            node, engine, self._feed, self._tell_log_state, upper=settings.peer.has_upper_ports
        )

    # --- inputs ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens the peer's sockets and lets the core begin. Raises PeerPortError."""
        self._port.open(
            on_connection=self._accept,
            on_datagram=self._receive_datagram,
            on_untrusted=self._report_untrusted,
        )
        self._feed(self.node.start(now_ns()))

    def stop(self) -> None:
        """Closes everything. Idempotent."""
        for timer in (self._timer, self._state_retry, self._look):
            if timer is not None:
                timer.cancel()
        self.pump.stop()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._port.close()

    @property
    def alive(self) -> bool:
        """The core will be called again: its timer did not die of an error."""
        return self._timer is not None

    @property
    def port_counters(self) -> dict[str, int]:
        """What the peer's sockets refused or could not send."""
        return dict(self._port.counters)

    @property
    def heartbeats(self) -> list[tuple[str, int, int]]:
        """(path, sent, received) since the start."""
        return self._port.heartbeats()

    def command_stop(self) -> None:
        """SIGTERM."""
        self._tell_log_state()
        self._feed(self.node.command_stop(now_ns()))

    def command_switchover(self, force: bool) -> tuple[bool, str]:
        self._tell_log_state()
        accepted, message, effects = self.node.command_switchover(force, now_ns())
        self._feed(effects)
        return accepted, message

    def command_resync(self, full: bool) -> tuple[bool, str]:
        self._tell_log_state()
        accepted, message, effects = self.node.command_resync(full, now_ns())
        self._feed(effects)
        return accepted, message

    def set_ring_generations(self, rings: tuple[int, ...], tables: int) -> None:
        """Which backend tables are in use; the next heartbeat says it."""
        self.node.set_ring_generations(rings, tables)

    def tell_members(self, service: str, ring_generation: int, members: Iterable[MemberWord]) -> None:
        """How a service's backends stand, for the peer."""
        self._tell_log_state()
        self._feed(self.node.tell_members(service, ring_generation, members, now_ns()))

    def report_links(self, fault: str | None) -> None:
        """Why the interfaces of the data path do not let this node work; None: they do again."""
        if fault is None:
            self._clear_fault("link")
        else:
            self._faults.add("link")
            self._tell_log_state()
            self._feed(self.node.receive_fault(fault, now_ns()))

    def receive_sample(self, name: str, good: bool, why: str) -> None:
        """A check of this machine has ended."""
        self._tell_log_state()
        self._feed(self.node.receive_sample(name, good, why, now_ns()))

    def _clear_fault(self, fault: str) -> None:
        self._faults.discard(fault)
        if not self._faults:
            self._tell_log_state()
            self._feed(self.node.clear_fault(now_ns()))

    def _receive_datagram(self, payload: bytes, path: str) -> None:
        self._tell_log_state()
        self._feed(self.node.receive_datagram(payload, now_ns(), path))

    def _receive_data(self, stream: DeltaStream, data: bytes) -> None:
        if stream is not self._stream:
            return
        self._tell_log_state()
        self._feed(self.node.receive_stream_data(data, now_ns()))

    def _receive_end(self, stream: DeltaStream) -> None:
        if stream.tls is not None and stream.tls.failure is not None:
            self._port.count_untrusted(stream.tls.failure)
        if stream is not self._stream:
            return
        self._stream = None
        self.pump.stop()
        self._reunion.stop()
        self._tell_log_state()
        self._feed(self.node.receive_stream_closed(now_ns()))

    def _report_untrusted(self, why: str) -> None:
        """Told once in a while: whoever is not the peer may say it as often as he likes."""
        if now_ns() - self._untrusted_told_ns >= _UNTRUSTED_EVERY_NS:
            self._untrusted_told_ns = now_ns()
            self.journal.report_event("unauthenticated", why)

    def _accept(self, connection: Connection) -> None:
        """The peer has connected and said something."""
        refusal = self.node.refuse_stream()
        if refusal is not None:
            self._port.counters["streams_refused"] += 1
            stream = self._make_stream(connection)
            stream.write(refusal)
            stream.close(flush=True)
            return
        self._drop_stream(flush=False)
        self._stream = self._make_stream(connection)
        self._feed(self.node.receive_stream_accepted(now_ns()))

    def _connected(self, connection: Connection | None) -> None:
        self._give_up_connect = None
        self._tell_log_state()
        if connection is None:
            self._feed(self.node.receive_stream_closed(now_ns()))
            return
        self._drop_stream(flush=False)
        self._stream = self._make_stream(connection)
        self._feed(self.node.receive_stream_opened(now_ns()))

    def _log_flushed(self) -> None:
        self._tell_log_state()
        self._feed(self.node.receive_log_flushed(self.engine.log_state()[2] - 1, now_ns()))

    def _log_overrun(self) -> None:
        # SYNC_BEGIN names the sequence to come: an older word on the log would tear a gap.
        self._tell_log_state()
        self._feed(self.node.receive_log_overrun(now_ns()))

    def _port_refused(self) -> None:
        self._tell_log_state()
        self._feed(self.node.receive_port_refused(now_ns()))

    def _snapshot_done(
        self, sequence: int, flow_count: int, digest: int, flows_sent: int, refreshed: int
    ) -> None:
        self._tell_log_state()
        self._feed(
            self.node.receive_snapshot_finished(sequence, flow_count, digest, flows_sent, refreshed, now_ns())
        )

    def _handle_timer(self) -> None:
        self._timer = None
        self._tell_log_state()
        self._feed(self.node.handle_timer(now_ns()))

    def _tell_vip_states(self) -> None:
        self._tell_log_state()
        self._feed(self.node.receive_vip_states(vip_states(self.engine), now_ns()))

    def _tell_witness_answer(self, number: int, answer: Answer) -> None:
        self._tell_log_state()
        self._feed(self.node.receive_witness_answer(number, answer, now_ns()))

    def _tell_log_state(self) -> None:
        """Node's rule 4: fresh numbers before whatever may quote them."""
        oldest, _, next_sequence, _, flow_count, digest = self.engine.moment()
        at_risk, at_risk_oldest_ns = self.engine.count_at_risk()
        self._feed(
            self.node.receive_log_state(
                next_sequence - 1, flow_count, digest, oldest, at_risk, at_risk_oldest_ns, now_ns()
            ),
            rearm=False,
        )

    # --- effects --------------------------------------------------------------------------------

    def _feed(self, effects: list[fx.Effect], *, rearm: bool = True) -> None:
        if effects:
            self._lists.append(effects)
        if self._performing:
            return  # the call that performs now comes to it
        self._performing = True
        try:
            while self._lists:
                self._perform_list(self._lists.popleft())
        finally:
            self._performing = False
        if rearm:
            self._rearm()

    def _perform_list(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            try:
                self._perform(effect)
            except EffectFailed as failed:
                self._lists.appendleft(self.node.receive_fault(str(failed), now_ns()))
                return

    def _rearm(self) -> None:
        deadline_ns = self.node.next_deadline_ns()
        if self._timer is not None:
            if deadline_ns is not None and self._timer_ns <= deadline_ns:
                return  # too early is well: it asks again. Most inputs only move the deadline on
            self._timer.cancel()
        if deadline_ns is None:
            self._timer = None
            return
        self._timer_ns = deadline_ns
        delay_s = max(0, deadline_ns - now_ns()) / 1e9
        self._timer = self._loop.call_later(delay_s, self._handle_timer)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.SendDatagram():
                self._port.send_datagram(effect.payload, effect.path)
            case (
                fx.ConnectStream()
                | fx.WriteStream()
                | fx.CloseStream()
                | fx.ProbePeerPort()
                | fx.SendFrom()
                | fx.StartSnapshot()
                | fx.StopDeltas()
                | fx.FlushLog()
            ):
                self._perform_on_stream(effect)
            case (
                fx.ResetTable()
                | fx.DigestBuckets()
                | fx.CompareBuckets()
                | fx.BeginSync()
                | fx.EndSync()
                | fx.InstallRecords()
            ):
                self._table.perform(effect)
            case fx.Acknowledge():
                self.pump.acknowledge(effect.sequence)
            case fx.OfferFlows() | fx.EndOffer() | fx.MergeFlows() | fx.SetSolo():
                self._reunion.perform(effect, self._stream)
            case fx.WriteGeneration():
                self._write_generation(effect.generation)
            case fx.Arm() | fx.RenewLease() | fx.Disarm() | fx.AnnounceVips() | fx.SetCommit():
                self._data_path.perform(effect, self.node.generation)
            case fx.ProbeVips():
                self.engine.probe_vips()
            case fx.LookAtVips():
                # A turn of the loop later: answers may still wait in the packet sockets.
                self._look = self._loop.call_later(_TURN_S, self._tell_vip_states)
            case fx.AskWitness():
                self._ask_witness(effect)
            case fx.FollowMembers():
                self._on_members(effect)
            case fx.ReportRole():
                self.journal.report_role(effect)
            case fx.ReportEvent():
                self.journal.report_event(effect.name, effect.detail)
            case fx.Stop():
                # A moment for stragglers, whose only way to the new owner this process is, and for the register.
                busy = self._witness is not None and self._witness.busy
                waits = busy or self._data_path.relays
                self._loop.call_later(_RELAY_AT_STOP_S if waits else 0, self._on_stop)
            case _:
                assert_never(effect)

    def _ask_witness(self, effect: fx.AskWitness) -> None:
        if self._witness is not None:
            self._witness.ask(effect.request, self._tell_witness_answer)

    def _perform_on_stream(self, effect: fx.StreamEffect) -> None:
        stream = self._stream
        match effect:
            case fx.ConnectStream():
                self._drop_connect()
                self._give_up_connect = self._port.connect(self._connected)
            case fx.WriteStream():
                if stream is not None:
                    stream.write(effect.frame)
            case fx.CloseStream():
                self._drop_connect()
                self._drop_stream(flush=effect.flush)
            case fx.ProbePeerPort():
                self._port.probe(self._port_refused)
            case fx.SendFrom():
                if stream is not None and not self.pump.send_from(stream, effect.sequence, effect.window):
                    self._log_overrun()
            case fx.StartSnapshot():
                if stream is not None and not self.pump.start_snapshot(
                    stream, effect.first, effect.window, effect.suspects, refresh=effect.refresh
                ):
                    self._log_overrun()
            case fx.StopDeltas():
                self.pump.stop()
            case fx.FlushLog():
                self.pump.flush()

    def _write_generation(self, generation: int) -> None:
        try:
            self._state.write_generation(generation)
        except StateDirError as error:
            self._faults.add("state")
            self._retry_state_later()
            raise EffectFailed(str(error)) from error

    def _retry_state_later(self) -> None:
        if self._state_retry is None:
            self._state_retry = self._loop.call_later(_RETRY_STATE_S, self._retry_state)

    def _retry_state(self) -> None:
        """A full disk is made room on: the fault ends when the generation can be written again."""
        self._state_retry = None
        try:
            self._state.write_generation(self._state.read_generation())
        except StateDirError:
            self._retry_state_later()
        else:
            self._clear_fault("state")

    # --- the stream -----------------------------------------------------------------------------

    def _make_stream(self, connection: Connection) -> DeltaStream:
        return DeltaStream(
            connection.socket, self._receive_data, self._receive_end, self._drained, connection.tls
        )

    def _drained(self) -> None:
        self.pump.drained()
        self._reunion.drained()

    def _drop_connect(self) -> None:
        """The end of an attempt that nobody waits for any more must not be taken for a stream's."""
        if self._give_up_connect is not None:
            self._give_up_connect()
            self._give_up_connect = None

    def _drop_stream(self, *, flush: bool) -> None:
        if self._stream is None:
            return
        self.pump.stop()
        self._reunion.stop()
        self._stream.close(flush=flush)
        self._stream = None
