"""Two engines and a stream that breaks: random traffic on one, its log installed in the other in random pieces.

The machine below is the pair without its core and shell: it moves batches as proto/sync.md §5 and §7 say. At rest both
tables are the same; at every moment a flow that is not at risk is in the backup as it is in the primary.
"""

from __future__ import annotations

import os
import random
from collections import deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hasyncd._native import INSIDE, OUTSIDE, Engine
from tests.native import frames
from tests.native.engines import (
    CLIENT,
    OUTSIDE_VIP,
    SECOND_NS,
    SEED,
    Flow,
    arm,
    at_risk,
    flows,
    make_engine,
    now_ns,
)

CAPACITY, LOG_RECORDS, PORTS = 40, 64, (2000, 2004)
TCP_FLAGS = [
    frames.SYN,
    frames.SYN | frames.ACK,
    frames.ACK,
    frames.ACK | frames.PSH,
    frames.FIN | frames.ACK,
    frames.RST,
]

SERVERS = ["8.8.8.8", "9.9.9.9"]


def dotted(address: int) -> str:
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def identity(flow: Flow) -> tuple[object, ...]:
    return flow.proto, flow.original, flow.reply


class Pair(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = now_ns()
        self.primary = self.engine()
        self.backup = self.engine()
        arm(self.primary, self.now)
        self.stream: deque[tuple[int, int, bytes]] = deque()
        self.installed = 0
        self.acknowledged = 0
        self.synced = True  # two empty tables, a log from its beginning
        self.snapshotting = False
        self.follows = True
        """What the backup installed is of this primary's log."""
        self.refresh_owed = False
        """Records were skipped, and no sync since then came to its end."""

    def engine(self) -> Engine:
        return make_engine(capacity=CAPACITY, log_records=LOG_RECORDS, ports=PORTS, armed=False)

    # --- traffic -------------------------------------------------------------------------------

    def inject(self, side: int, frame: bytes) -> None:
        self.primary.inject(side, frame, self.now)
        self.primary.take_sent()

    @rule(
        seed=st.integers(0, 1 << 32),
        packets=st.integers(1, 60),
        opening=st.sampled_from([0.05, 0.3, 0.9]),
        room=st.sampled_from([0, 40, 4000]),
    )
    def traffic(self, seed: int, packets: int, opening: float, room: int) -> None:
        """Packets of new and known flows; between them the log moves by up to `room` bytes."""
        chance = random.Random(seed)
        for _ in range(packets):
            if chance.random() < opening:
                self.open(chance)
            else:
                self.go_on(chance)
            if room and not self.primary.log_state()[3] and chance.random() < 0.3:
                self.drain(room)
                self.deliver(chance.randrange(3))
                if chance.random() < 0.5:
                    self.acknowledge()

    def open(self, chance: random.Random) -> None:
        host, server, port = (
            f"10.0.1.{chance.randint(7, 9)}",
            chance.choice(SERVERS),
            chance.randint(5000, 5004),
        )
        kind = chance.randrange(5)
        if kind == 0:
            self.inject(INSIDE, frames.tcp(host, port, server, 443, frames.SYN))
        elif kind == 1:
            self.inject(INSIDE, frames.udp(host, port, server, 53))
        elif kind == 2:
            self.inject(INSIDE, frames.echo(host, server, port))
        elif kind == 3:
            self.inject(OUTSIDE, frames.tcp(CLIENT, port, OUTSIDE_VIP, 80, frames.SYN))
        else:
            self.inject(OUTSIDE, frames.udp(CLIENT, port, OUTSIDE_VIP, 80))

    def go_on(self, chance: random.Random) -> None:
        known = flows(self.primary)
        if not known:
            return
        self.continue_flow(chance.choice(known), chance)

    def continue_flow(self, flow: Flow, chance: random.Random) -> None:
        reply = chance.random() < 0.5
        source, sport, target, dport = flow.reply if reply else flow.original
        assert isinstance(source, int)
        assert isinstance(target, int)
        side = INSIDE if dotted(source).startswith("10.0.1.") else OUTSIDE
        ends = dotted(source), sport, dotted(target), dport
        if flow.proto == 6:
            self.inject(side, frames.tcp(*ends, chance.choice(TCP_FLAGS)))
        elif flow.proto == 17:
            self.inject(side, frames.udp(*ends))
        else:
            self.inject(side, frames.echo(ends[0], ends[2], sport, reply=reply))

    @rule(seconds=st.sampled_from([1, 20, 61, 130, 301, 7500]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds * SECOND_NS
        self.primary.tick(self.now)
        self.backup.tick(self.now)

    # --- the stream -----------------------------------------------------------------------------

    def drain(self, room: int = 65536) -> bool:
        first, count, records = self.primary.drain(room)
        if count:
            self.stream.append((first, count, records))
        return count > 0

    @precondition(lambda self: not self.primary.log_state()[3])
    @rule(room=st.sampled_from([36, 100, 400, 65536]))
    def put_on_the_stream(self, room: int) -> None:
        self.drain(room)

    @rule(batches=st.integers(1, 5))
    def deliver(self, batches: int) -> None:
        for _ in range(min(batches, len(self.stream))):
            first, count, records = self.stream.popleft()
            assert first == self.installed + 1, "S3"
            assert self.backup.install(records, self.now) == (count, None)
            self.installed += count

    @rule()
    def acknowledge(self) -> None:
        self.primary.acknowledge(self.installed)
        self.acknowledged = self.installed  # what the primary knows

    @rule(full=st.booleans())
    def lose_the_stream(self, full: bool) -> None:
        """What was on its way is gone; the log goes on where the backup is, or what differs is sent, or everything."""
        self.stream.clear()
        overrun = self.primary.log_state()[3]
        if overrun or self.snapshotting or not self.primary.rewind(self.installed + 1):
            self.begin_sync(full)
        else:
            self.acknowledge()

    @precondition(lambda self: self.primary.log_state()[3])
    @rule(full=st.booleans())
    def notice_the_overrun(self, full: bool) -> None:
        self.begin_sync(full)

    # --- syncs --------------------------------------------------------------------------------------

    @rule(full=st.booleans())
    def begin_sync(self, full: bool) -> None:
        """proto/sync.md §7: history goes on, where there is any and the log still has it; else a sync begins here."""
        self.stream.clear()
        suspects, head, _ = self.primary.compare_buckets(self.backup.bucket_digests(CAPACITY))
        if not full and self.follows and self.primary.rewind(self.installed + 1):
            self.primary.acknowledge(self.installed)
        else:
            assert self.primary.start_log(head + 1)
            self.installed, self.refresh_owed = head, True
        self.primary.start_snapshot(b"" if full else suspects, self.refresh_owed)
        self.backup.begin_sync(b"" if full else suspects, CAPACITY)
        self.synced, self.snapshotting, self.follows = False, True, True

    @precondition(lambda self: self.snapshotting)
    @rule(records=st.integers(1, 8))
    def move_the_cursor(self, records: int) -> None:
        appended, finished = self.primary.append_snapshot(records)
        assert appended <= records
        if finished and not self.primary.log_state()[3]:
            self.finish_sync()

    def finish_sync(self) -> None:
        while self.drain():
            pass
        self.deliver(len(self.stream))
        self.backup.end_sync()
        self.snapshotting, self.synced, self.refresh_owed = False, True, False
        self.acknowledge()
        assert self.backup.digest() == self.primary.digest()

    # --- roles ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.synced)
    @rule(arrived=st.integers(0, 3), fresh=st.booleans(), full=st.booleans())
    def primary_dies(self, arrived: int, fresh: bool, full: bool) -> None:
        """The backup forwards on with what arrived; the old primary comes back, empty or as it was."""
        self.deliver(arrived)
        held = {identity(flow) for flow in flows(self.backup)}
        self.primary, self.backup = self.backup, self.engine() if fresh else self.primary
        self.backup.disarm()
        arm(self.primary, self.now)
        self.primary.tick(self.now)
        assert {identity(flow) for flow in flows(self.primary)} == held
        if fresh:
            self.backup.reset(SEED)
        self.follows = False
        self.begin_sync(full)

    # --- what holds ------------------------------------------------------------------------------------

    @precondition(lambda self: self.synced and not self.primary.log_state()[3])
    @invariant()
    def what_is_not_at_risk_is_safe(self) -> None:
        risky = at_risk(self.primary)
        mirrored = {identity(flow): flow for flow in flows(self.backup)}
        for flow in flows(self.primary):
            if (flow.proto, flow.original) not in risky and self.acknowledged == self.installed:
                assert mirrored.get(identity(flow)) == flow

    @invariant()
    def counts_agree(self) -> None:
        for engine in (self.primary, self.backup):
            listed = flows(engine, page=5)
            assert engine.digest()[0] == len(listed) == engine.flow_counts()[0]
            replies = {(flow.proto, flow.reply) for flow in listed}
            assert len(replies) == len(listed), "N1: a reply tuple belongs to one flow"
            for index, proto in enumerate((6, 17)):
                counted = sum(engine.backend_flow_counts(index).values())
                assert counted == sum(flow.service == index and flow.proto == proto for flow in listed)
        assert self.primary.count_at_risk()[0] == len(at_risk(self.primary))

    def teardown(self) -> None:
        if self.snapshotting or self.primary.log_state()[3]:
            self.begin_sync(full=False)
            while self.drain():  # or the cursor overruns what the log still holds
                pass
            while not self.primary.append_snapshot(8)[1]:
                while self.drain():
                    pass
                self.deliver(len(self.stream))
                self.primary.acknowledge(self.installed)
            self.finish_sync()
        while self.drain():
            pass
        self.deliver(len(self.stream))
        self.acknowledge()
        assert self.primary.digest() == self.backup.digest()
        assert flows(self.primary) == flows(self.backup)
        assert self.primary.count_at_risk() == (0, 0)
        assert not any(n for name, n in self.backup.counters().items() if name.startswith("rejected_"))


TestPair = Pair.TestCase
TestPair.settings = settings(
    max_examples=60 if "HASYNCD_NATIVE_SO" in os.environ else 300,  # sanitizers are slow
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
