"""Moves batches: packets through the engine, deltas onto the stream, the snapshot behind them.

Nothing here decides: the core says when deltas may flow and from where (`SendFrom`, `StartSnapshot`), the
engine what they are. One call moves hundreds of packets or records.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

from hasyncd.core.wire import RECORD_BYTES_MAX
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.delta_stream import DeltaStream

PACKETS_PER_CALL: Final = 256
RECORDS_BYTES: Final = 65_536
SNAPSHOT_RECORDS: Final = 1024
"""Flows the snapshot adds between two turns of the event loop: live deltas wait no longer than that."""
SNAPSHOT_AHEAD: Final = 8192
"""Its records that the peer has not confirmed: a live delta has no more before it. `hasyncd bench sync.full` on a link
without delay: ADDs wait 10 ms (p99) with 8,192 and 58 ms with 65,536, and the sync takes as long."""


class Pump:
    """The moving parts between engine and stream.

    `encode` wraps records into a frame; `on_flushed`, `on_snapshot_done`, `on_overrun` are the answers to
    effects that take more than one turn. `log_records` is the size of the engine's log.
    """

    def __init__(
        self,
        engine: Engine,
        encode: Callable[[int, int, bytes], bytes],
        log_records: int,
        *,
        on_flushed: Callable[[], None],
        on_snapshot_done: Callable[[int, int, int, int, int], None],
        on_overrun: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._encode = encode
        self._on_flushed, self._on_snapshot_done = on_flushed, on_snapshot_done
        self._on_overrun = on_overrun
        self._loop = asyncio.get_running_loop()
        self._stream: DeltaStream | None = None
        self._emitted = 0
        # The cursor writes to the log: more than this ahead of the peer, and it would overrun it by itself.
        self._snapshot_ahead_max = min(SNAPSHOT_AHEAD, log_records // 4)
        self._acknowledged = 0
        self._window = 1
        self._snapshot_scheduled = False
        self._snapshotting = False
        # What the cursor had appended before this sync: ADDs and UPDATEs.
        self._appended_before = (0, 0)
        self._flushing = False

    # --- packets ------------------------------------------------------------------------------

    def poll(self) -> None:
        """A packet socket is readable."""
        # ENETDOWN is a link's news, and the netlink mirror tells it.
        with contextlib.suppress(OSError):
            self._engine.poll(PACKETS_PER_CALL)
        self.push()

    def read_news(self, descriptor: int) -> None:
        """The packet thread has appended records."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(descriptor)
        self.push()

    # --- deltas -------------------------------------------------------------------------------

    def send_from(self, stream: DeltaStream, sequence: int, window: int) -> bool:
        """Deltas flow from `sequence` on, `window` records ahead of the acknowledgement; False when the log no
        longer holds it."""
        self.stop()
        if not self._engine.rewind(sequence):
            return False
        self._stream, self._window = stream, window
        self._emitted = self._acknowledged = sequence - 1
        self._engine.acknowledge(sequence - 1)
        self.push()
        return True

    def start_snapshot(
        self, stream: DeltaStream, first: int, window: int, suspects: bytes = b"", *, refresh: bool = False
    ) -> bool:
        """Sending starts afresh at `first` and the cursor at the first slot, for flows in `suspects` (empty: all)
        and, with `refresh`, the others' timeouts; False when the log no longer holds `first`."""
        self.stop()
        engine = self._engine
        goes_on = bool(suspects) and not refresh  # else every flow is named anew, and what is at risk with it
        if not (engine.rewind(first) if goes_on else engine.start_log(first)):
            return False
        if goes_on:
            engine.acknowledge(first - 1)
        self._stream, self._window = stream, window
        self._emitted = self._acknowledged = first - 1
        engine.start_snapshot(suspects, refresh)
        self._appended_before = self._appended()
        self._snapshotting = True
        self._continue_soon()
        return True

    def _appended(self) -> tuple[int, int]:
        counters = self._engine.counters()
        return counters["sync_flows_sent"], counters["sync_flows_refreshed"]

    def stop(self) -> None:
        """Nothing more is put on the stream."""
        self._stream = None
        self._emitted = 0  # what a lost stream had queued was never accepted
        self._snapshotting = self._flushing = False

    def flush(self) -> None:
        """Drains the log onto the stream and then answers by `on_flushed`."""
        self._flushing = True
        self.push()

    def push(self) -> None:
        """Puts unsent records on the stream, as far as write(2) and the peer's window take them."""
        stream = self._stream
        if stream is None:
            return
        if self._engine.log_state()[3]:
            self._on_overrun()
            return
        # So at most one batch waits here for write(2), whatever the peer does (proto/sync.md §5.1).
        while not stream.backlog and self._emitted - self._acknowledged < self._window:
            first, count, records = self._engine.drain(RECORDS_BYTES)
            if not count:
                break
            self._emitted = first + count - 1
            stream.write(self._encode(first, count, records))
            if not stream.backlog:
                self._engine.emitted(self._emitted)
            if len(records) <= RECORDS_BYTES - RECORD_BYTES_MAX:
                break  # that was all; of what was appended since there will be news
        if self._flushing and not stream.backlog and self._is_drained():
            self._flushing = False
            self._on_flushed()

    def acknowledge(self, sequence: int) -> None:
        """The peer has installed everything up to `sequence`."""
        self._engine.acknowledge(sequence)
        was_full = self._emitted - self._acknowledged >= self._window
        self._acknowledged = sequence
        if was_full:
            self.push()
        if self._snapshotting:
            self._continue_soon()

    def _is_drained(self) -> bool:
        _, send_next, next_sequence, *_ = self._engine.moment()
        return bool(send_next == next_sequence)

    def drained(self) -> None:
        """write(2) has taken what was queued."""
        if self._stream is None:
            return
        self._engine.emitted(self._emitted)
        self.push()
        if self._snapshotting:
            self._continue_soon()

    # --- the snapshot --------------------------------------------------------------------------

    def _continue_soon(self) -> None:
        if not self._snapshot_scheduled:
            self._snapshot_scheduled = True
            self._loop.call_soon(self._continue_snapshot)

    def _continue_snapshot(self) -> None:
        self._snapshot_scheduled = False
        if not self._snapshotting or self._stream is None or self._stream.backlog:
            return  # `drained` comes back here
        ahead = self._engine.log_state()[2] - 1 - self._acknowledged
        if ahead > self._snapshot_ahead_max:
            return  # `acknowledge` comes back here
        _, finished = self._engine.append_snapshot(min(SNAPSHOT_RECORDS, self._snapshot_ahead_max))
        self.push()
        # One moment: the packet thread appends beside us, and SYNC_END's digest speaks of its sequence alone.
        _, send_next, next_sequence, _, flow_count, digest = self._engine.moment()
        if not finished or send_next != next_sequence:
            self._continue_soon()
        elif self._is_snapshotting():  # `push` may have met an overrun
            self._snapshotting = False
            (sent, refreshed), (sent_before, refreshed_before) = self._appended(), self._appended_before
            self._on_snapshot_done(
                next_sequence - 1, flow_count, digest, sent - sent_before, refreshed - refreshed_before
            )

    def _is_snapshotting(self) -> bool:
        return self._snapshotting
