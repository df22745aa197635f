"""hasyncd.runtime.pump: a real engine's log on a real connection, decoded as the peer would."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from hasyncd._native import INSIDE, Engine
from hasyncd.core.messages import Deltas
from hasyncd.core.wire import FrameReader, decode_frame, encode_frame
from hasyncd.runtime.delta_stream import DeltaStream
from hasyncd.runtime.pump import RECORDS_BYTES, Pump
from tests.native.engines import make_engine, now_ns
from tests.native.frames import udp
from tests.runtime.pair import until

LOG_RECORDS, CAPACITY, GENERATION, WINDOW = 4096, 65_536, 3, 65_536
ADD_BYTES = 32


class Bench:
    """An armed engine, the pump, and a peer that installs what it reads."""

    def __init__(self) -> None:
        self.engine = make_engine(capacity=CAPACITY, log_records=LOG_RECORDS)
        self.mirror = Engine(capacity=CAPACITY, seed=b"engines-in-tests")
        self.flushed = self.snapshots = self.overruns = 0
        self.pump = Pump(
            self.engine, lambda *batch: encode_frame(Deltas(GENERATION, *batch)), LOG_RECORDS,
            on_flushed=lambda: self._count("flushed"),
            on_snapshot_done=lambda *_: self._count("snapshots"),
            on_overrun=lambda: self._count("overruns"),
        )  # fmt: skip
        self.sequences: list[tuple[int, int]] = []
        self.installed = 0
        self.answering = True
        self._reader = FrameReader()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            connection.connect(listener.getsockname())
            self.other, _ = listener.accept()
        self.other.setblocking(False)
        self.stream = DeltaStream(connection, lambda *_: None, lambda _: None, self.pump.drained)
        self._opened = 0

    def _count(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)

    def open_flows(self, count: int) -> None:
        for index in range(self._opened, self._opened + count):
            frame = udp(f"10.0.1.{7 + index // 20_000}", 10_000 + index % 20_000, "203.0.113.100", 53)
            self.engine.inject(INSIDE, frame, now_ns())
        self.engine.take_sent()
        self._opened += count

    def read(self) -> bool:
        """The peer reads and installs once; whether there was anything."""
        try:
            data = self.other.recv(1 << 20)
        except BlockingIOError:
            return False
        for body in self._reader.feed(data):
            frame = decode_frame(body)
            assert isinstance(frame, Deltas)
            assert len(frame.records) <= RECORDS_BYTES
            self.sequences.append((frame.first, frame.count))
            assert self.mirror.install(frame.records, now_ns()) == (frame.count, None)
            self.installed = frame.first + frame.count - 1
            if self.answering:
                self.pump.acknowledge(self.installed)
        return True

    async def read_up_to(self, sequence: int) -> None:
        def arrived() -> bool:
            self.read()
            return self.installed >= sequence

        await until(arrived, f"record {sequence}")

    @property
    def head(self) -> int:
        return self.engine.log_state()[2] - 1

    def close(self) -> None:
        self.pump.stop()
        self.stream.close()
        self.other.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with contextlib.closing(Bench()) as made:
        yield made


async def test_without_a_stream_nothing_moves(bench: Bench) -> None:
    bench.open_flows(10)
    bench.pump.push()
    bench.pump.drained()
    assert bench.engine.log_state()[1] == 1, "nothing was taken from the log"


async def test_records_go_in_one_order_without_a_gap(bench: Bench) -> None:
    assert bench.pump.send_from(bench.stream, 1, WINDOW)
    for _ in range(20):
        bench.open_flows(100)
        bench.pump.push()
        bench.read()
    await bench.read_up_to(bench.head)
    expected = 1
    for first, count in bench.sequences:
        assert first == expected
        expected += count
    assert bench.mirror.digest() == bench.engine.digest()
    assert (bench.overruns, bench.flushed, bench.snapshots) == (0, 0, 0)


async def test_a_reader_that_stands_still_costs_one_batch_of_memory(bench: Bench) -> None:
    bench.pump.send_from(bench.stream, 1, WINDOW)
    for _ in range(30):
        bench.open_flows(100)
        bench.pump.push()
        assert bench.stream.backlog <= RECORDS_BYTES + 64
    _, send_next, next_sequence, _ = bench.engine.log_state()
    assert send_next < next_sequence, "the rest waits in the log"
    await bench.read_up_to(bench.head)
    assert bench.mirror.digest() == bench.engine.digest()


async def test_resuming_sends_from_the_record_asked_for(bench: Bench) -> None:
    bench.open_flows(50)
    assert bench.pump.send_from(bench.stream, 31, WINDOW)
    bench.pump.stop()

    def first() -> int:
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            data += bench.other.recv(1 << 20)
        frames = [decode_frame(body) for body in FrameReader().feed(bytes(data))]
        return frames[0].first if frames and isinstance(frames[0], Deltas) else 0

    assert first() == 31
    assert bench.engine.count_at_risk()[0] == 20, "up to 30 the peer has everything"


async def test_a_record_that_the_log_lost_is_said(bench: Bench) -> None:
    bench.open_flows(LOG_RECORDS + 10)
    assert not bench.pump.send_from(bench.stream, 1, WINDOW)


async def test_an_overrun_is_reported_and_nothing_is_sent_from_then_on(bench: Bench) -> None:
    bench.pump.send_from(bench.stream, 1, WINDOW)
    bench.answering = False
    bench.open_flows(LOG_RECORDS + 10)
    bench.pump.push()
    assert bench.overruns == 1
    assert not bench.read()


@pytest.mark.parametrize("flows", [0, 1, 1000, 3 * LOG_RECORDS])
async def test_a_snapshot_brings_the_whole_table_also_one_larger_than_the_log(
    bench: Bench, flows: int
) -> None:
    bench.open_flows(flows)
    bench.mirror.begin_sync()
    assert bench.pump.start_snapshot(bench.stream, bench.head + 1, WINDOW)

    def done() -> bool:
        bench.read()
        return bool(bench.snapshots)

    await until(done, "the snapshot is through")
    await bench.read_up_to(bench.head if flows else 0)
    bench.mirror.end_sync()
    assert (bench.snapshots, bench.overruns) == (1, 0)
    assert bench.mirror.digest() == bench.engine.digest()
    assert bench.mirror.digest()[0] == flows


async def test_live_deltas_travel_between_those_of_the_snapshot(bench: Bench) -> None:
    bench.open_flows(6000)
    bench.mirror.begin_sync()
    bench.pump.start_snapshot(bench.stream, bench.head + 1, WINDOW)

    def done() -> bool:
        bench.open_flows(5)
        bench.pump.push()
        bench.read()
        return bool(bench.snapshots)

    await until(done, "the snapshot is through")
    await bench.read_up_to(bench.head)
    bench.mirror.end_sync()
    assert bench.mirror.digest() == bench.engine.digest()
    assert bench.overruns == 0


async def test_a_snapshot_waits_for_a_peer_that_does_not_answer(bench: Bench) -> None:
    bench.open_flows(3 * LOG_RECORDS)
    bench.answering = False
    bench.pump.start_snapshot(bench.stream, bench.head + 1, WINDOW)
    begun = bench.head

    def halted() -> bool:
        before = bench.head
        return not bench.read() and bench.stream.backlog == 0 and bench.head == before > begun

    await until(halted, "the cursor stands")
    assert bench.head - begun <= LOG_RECORDS // 4 + 1024
    assert (bench.overruns, bench.snapshots) == (0, 0)


async def test_a_snapshot_can_be_begun_anew(bench: Bench) -> None:
    bench.open_flows(3000)
    bench.pump.start_snapshot(bench.stream, bench.head + 1, WINDOW)
    await until(bench.read, "it has begun")
    bench.mirror.begin_sync()
    bench.pump.start_snapshot(bench.stream, bench.head + 1, WINDOW)

    def done() -> bool:
        bench.read()
        return bool(bench.snapshots)

    await until(done, "the second one is through")
    await bench.read_up_to(bench.head)
    bench.mirror.end_sync()
    assert bench.snapshots == 1
    assert bench.mirror.digest() == bench.engine.digest()


async def test_flush_answers_once_everything_is_written(bench: Bench) -> None:
    bench.pump.send_from(bench.stream, 1, WINDOW)
    bench.pump.flush()
    assert bench.flushed == 1, "there was nothing to write"
    bench.open_flows(4000)
    bench.pump.flush()
    assert bench.flushed == 1, "the peer has not read yet"
    await bench.read_up_to(bench.head)
    assert bench.flushed == 2


async def test_emit_releases_what_write_has_accepted(bench: Bench) -> None:
    bench.engine.set_commit("emit", 10**12, True)
    bench.answering = False
    bench.pump.send_from(bench.stream, 1, WINDOW)
    bench.engine.inject(INSIDE, udp("10.0.1.7", 5000, "203.0.113.100", 53), now_ns())
    assert bench.engine.take_sent() == []
    bench.pump.push()
    assert len(bench.engine.take_sent()) == 1, "the kernel has taken the record"


async def test_emit_holds_while_the_stream_is_full(bench: Bench) -> None:
    bench.pump.send_from(bench.stream, 1, WINDOW)
    bench.answering = False
    while not bench.stream.backlog:
        bench.open_flows(100)
        bench.pump.push()
    bench.engine.set_commit("emit", 10**12, True)
    bench.engine.inject(INSIDE, udp("10.0.1.39", 5000, "203.0.113.100", 53), now_ns())
    bench.pump.push()
    assert bench.engine.take_sent() == []
    await bench.read_up_to(bench.head)
    assert len(bench.engine.take_sent()) == 1


async def test_stop_forgets_the_stream(bench: Bench) -> None:
    bench.pump.send_from(bench.stream, 1, WINDOW)
    bench.pump.flush()
    bench.pump.stop()
    bench.open_flows(10)
    bench.pump.push()
    assert not bench.read()
    bench.pump.poll()  # a packet socket woke it: it has none, and nothing happens


# --- the window: proto/sync.md §5.1 --------------------------------------------------------------------------


async def test_no_batch_leaves_while_a_window_is_unconfirmed(bench: Bench) -> None:
    bench.answering = False
    bench.pump.send_from(bench.stream, 1, 100)
    for _ in range(10):
        bench.open_flows(30)
        bench.pump.push()
        while bench.read():
            pass
    await bench.read_up_to(120)
    assert bench.installed == 120, "the batch that reached the window was the last"
    bench.pump.acknowledge(19)
    assert not bench.read(), "101 are still unconfirmed"
    bench.pump.acknowledge(120)
    await bench.read_up_to(300)
    assert bench.mirror.digest() == bench.engine.digest()


async def test_a_peer_that_confirms_nothing_costs_the_log_and_nothing_else(bench: Bench) -> None:
    """It reads everything and installs nothing: the log is overrun, which is said, and no queue grows."""
    bench.pump.send_from(bench.stream, 1, 500)
    read = 0
    for _ in range(60):
        bench.open_flows(100)
        bench.pump.push()
        with contextlib.suppress(BlockingIOError):
            read += len(bench.other.recv(1 << 20))
        assert bench.stream.backlog <= RECORDS_BYTES + 64
    assert bench.overruns > 0
    assert 500 * ADD_BYTES <= read <= 700 * ADD_BYTES, "the window, and no more than a batch over it"


async def test_a_window_that_opens_finishes_a_hand_over(bench: Bench) -> None:
    bench.answering = False
    bench.pump.send_from(bench.stream, 1, 10)
    bench.open_flows(50)
    bench.pump.push()
    bench.open_flows(50)
    bench.pump.flush()
    assert bench.flushed == 0, "the second fifty still wait for the window"
    await bench.read_up_to(50)
    bench.pump.acknowledge(50)
    assert bench.flushed == 1
    await bench.read_up_to(100)
