"""One node alone with a hostile world: whatever comes in, what goes out keeps the promises of a single node."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd.core import effects as fx
from hasyncd.core.messages import (
    Deltas,
    Frame,
    Heartbeat,
    HelloReply,
    Leaving,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.node import Node
from hasyncd.core.types import Findings, Role, SyncState
from hasyncd.core.wire import decode_frame, decode_heartbeat, encode_frame, encode_heartbeat
from tests.core.messages import SEED, SETTINGS, a_beat, a_hello, ms

BOOT = 0xB


def a_node(role: Role = Role.INIT) -> tuple[Node, int]:
    """A node in this role, and its clock."""
    node, now = Node(SETTINGS, BOOT, 1, SEED, 0), 0
    node.start(now)
    if role is Role.BACKUP:
        node.receive_datagram(encode_heartbeat(a_beat()), now)
    elif role is Role.PRIMARY:
        while node.role is not Role.PRIMARY:
            now = node.next_deadline_ns() or now
            tick(node, now)
    elif role is Role.FAULT:
        node.receive_fault("test", now)
    assert node.role is role
    return node, now


def tick(node: Node, now: int) -> list[fx.Effect]:
    """Time passes; nobody else has the VIPs."""
    effects = node.handle_timer(now)
    if fx.LookAtVips() in effects:
        effects += node.receive_vip_states((), now)
    return effects


def said(effects: list[fx.Effect]) -> list[Heartbeat]:
    return [decode_heartbeat(effect.payload) for effect in effects if isinstance(effect, fx.SendDatagram)]


def written(effects: list[fx.Effect]) -> list[Frame]:
    return [decode_frame(effect.frame[4:]) for effect in effects if isinstance(effect, fx.WriteStream)]


def kinds(effects: list[fx.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


# --- the order inside a list -------------------------------------------------------------------------


def test_a_promotion_writes_the_generation_then_arms_then_announces_then_reports() -> None:
    node, now = a_node(Role.BACKUP)
    effects = node.handle_timer(now + ms(49))
    effects = node.handle_timer(now + ms(99))
    effects = node.handle_timer(now + ms(150))
    assert kinds(effects) == ["ProbeVips", "ReportEvent", "SendDatagram"], "silence alone is no licence"
    assert effects[1] == fx.ReportEvent("path_down", "sync: the peer was not heard there for 150 ms")
    for later in (162.5, 175):
        assert kinds(node.handle_timer(now + ms(later))) == ["ProbeVips"]
    assert kinds(node.handle_timer(now + ms(187.5))) == ["LookAtVips"]
    effects = node.receive_vip_states((), now + ms(187.5))
    order = ["WriteGeneration", "SetCommit", "SetSolo", "Arm", "AnnounceVips", "SendDatagram", "ReportRole"]
    assert kinds(effects) == [*order, "ReportEvent", "ProbeVips"]
    assert effects[-2] == fx.ReportEvent("promoted_incomplete", "at most 0 flows are missing; 0 are held")
    assert effects[0] == fx.WriteGeneration(2)
    assert effects[2:4] == [fx.SetSolo(True), fx.Arm(now + ms(337.5))], "before a port is given out"
    [beat] = said(effects)
    assert (beat.role, beat.generation, beat.solo) == (Role.PRIMARY, 2, True)


def test_stepping_down_disarms_first() -> None:
    node, now = a_node(Role.PRIMARY)
    beat = a_beat(generation=9, counter=1)
    effects = node.receive_datagram(encode_heartbeat(beat), now + ms(1))
    assert effects[0] == fx.Disarm()
    assert node.role is Role.BACKUP
    assert "WriteGeneration" not in kinds(effects), "that comes with the stream it accepts"


def test_a_primary_of_lower_rank_changes_nothing() -> None:
    node, now = a_node(Role.PRIMARY)
    beat = a_beat(generation=1, young=True)
    effects = node.receive_datagram(encode_heartbeat(beat), now + ms(1))
    assert kinds(effects) == ["SendDatagram"], "it was new, and hears at once of its better"
    assert node.role is Role.PRIMARY


def test_a_primary_that_began_alone_and_empty_yields_to_one_with_a_history() -> None:
    """P11: whatever the numbers."""
    node, now = a_node(Role.PRIMARY)
    assert said(node.handle_timer(now + ms(50)))[0].young
    effects = node.receive_datagram(encode_heartbeat(a_beat(generation=1)), now + ms(51))
    assert effects[0] == fx.Disarm()
    assert node.role is Role.BACKUP
    assert not any(beat.young for beat in said(effects)), "only a primary is"


def test_in_a_pair_of_version_1_nobody_weighs_who_is_young() -> None:
    node, now = a_node(Role.PRIMARY)
    node.receive_datagram(encode_heartbeat(a_beat(protocol=1, generation=0)), now + ms(51))
    assert node.role is Role.PRIMARY


def test_garp_leaves_in_a_train() -> None:
    node, now = a_node(Role.PRIMARY)
    began, cars = now, []
    while now < began + ms(6000):
        now = node.next_deadline_ns() or now
        if fx.AnnounceVips() in node.handle_timer(now):
            cars.append((now - began) // ms(1))
    assert cars == [50, 200, 1000, 5000]


def test_a_solo_primary_renews_its_lease_with_each_heartbeat() -> None:
    node, now = a_node(Role.PRIMARY)
    now += ms(50)
    effects = node.handle_timer(now)
    assert fx.RenewLease(now + ms(150)) in effects


def test_a_backup_answers_its_primary_at_once_and_keeps_its_rhythm() -> None:
    node, _ = a_node(Role.BACKUP)
    [beat] = said(node.receive_datagram(encode_heartbeat(a_beat(counter=2, sent_ns=77)), ms(20)))
    assert (beat.echo_boot_id, beat.echo_sent_ns, beat.heard_ms) == (0xA, 77, 0)
    assert node.next_deadline_ns() == ms(70)


# --- the stream through the node -----------------------------------------------------------------------


def a_synced_backup() -> Node:
    node, _ = a_node(Role.BACKUP)
    assert node.refuse_stream() is None
    node.receive_stream_accepted(ms(1))
    [reply] = written(node.receive_stream_data(encode_frame(a_hello()), ms(1)))
    assert isinstance(reply, HelloReply)
    node.receive_stream_data(encode_frame(SyncBegin(1, 1, 1)), ms(2))
    node.receive_stream_data(encode_frame(Deltas(1, 1, 1, b"\x01" + bytes(31))), ms(2))
    node.receive_installed(1, None, 1, 42, ms(2))
    node.receive_stream_data(encode_frame(SyncEnd(1, 1, 1, 42)), ms(2))
    [beat] = said(node.receive_sync_swept(1, 42, Findings(), ms(2)))
    assert (beat.ready, beat.ack_boot_id, beat.ack_sequence) == (True, 0xA, 1)
    return node


def deltas(first: int, count: int) -> bytes:
    return encode_frame(Deltas(1, first, count, (b"\x03" + bytes(11)) * count))


def test_what_came_together_is_acknowledged_by_one_datagram_at_once() -> None:
    """proto/sync.md §5."""
    node = a_synced_backup()
    assert kinds(node.receive_stream_data(deltas(2, 3) + deltas(5, 1), ms(3))) == ["InstallRecords"] * 2
    assert said(node.receive_installed(3, None, 1, 43, ms(3))) == []
    [beat] = said(node.receive_installed(1, None, 1, 43, ms(3)))
    assert beat.ack_sequence == 5
    node.receive_stream_data(deltas(6, 1), ms(4))
    [beat] = said(node.receive_installed(1, None, 1, 44, ms(4)))
    assert beat.ack_sequence == 6


def test_much_that_came_together_is_acknowledged_before_all_of_it_is_installed() -> None:
    node = a_synced_backup()
    node.receive_stream_data(deltas(2, 1024) + deltas(1026, 1) + deltas(1027, 1), ms(3))
    acks = [
        [beat.ack_sequence for beat in said(node.receive_installed(count, None, 1, 43, ms(3)))]
        for count in (1024, 1, 1)
    ]
    assert acks == [[1025], [], [1027]]


def test_what_was_installed_before_a_rejected_record_is_acknowledged() -> None:
    node = a_synced_backup()
    node.receive_stream_data(deltas(2, 3) + deltas(5, 2), ms(3))
    node.receive_installed(3, None, 1, 43, ms(3))
    effects = node.receive_installed(1, "unknown_handle", 1, 43, ms(3))
    assert effects[-1] == fx.CloseStream("unknown_handle")
    [beat] = said(effects)
    assert (beat.ack_sequence, beat.ready) == (5, False)


def test_garbage_on_the_stream_is_counted_closed_and_forgotten() -> None:
    for data, name in [
        (b"\x00\x00\x00\x00", "oversized"),
        (b"\x00\x00\x00\x01\xc1", "malformed"),
        (b"\x00\x00\x00\x02\x91\x63", "unknown_type"),
        (encode_frame(Deltas(1, 9, 1, b"\x03" + bytes(11))), "sequence_gap"),
        (encode_frame(Deltas(2, 2, 1, b"\x03" + bytes(11))), "wrong_generation"),
        (encode_frame(Refuse("role")), "unexpected_frame"),
    ]:
        node = a_synced_backup()
        effects = node.receive_stream_data(data, ms(3))
        assert effects[-1] == fx.CloseStream(name)
        assert node.view(ms(3)).rejections == {name: 1}
        assert node.view(ms(3)).sync.state is SyncState.DEGRADED
        assert node.receive_stream_data(b"more of it", ms(3)) == []


def test_a_primary_shows_strangers_the_door() -> None:
    node, now = a_node(Role.PRIMARY)
    frame = node.refuse_stream()
    assert frame is not None
    assert decode_frame(frame[4:]) == Refuse("role")
    assert kinds(node.receive_stream_accepted(now)) == ["WriteStream", "CloseStream"]


def test_a_backup_takes_the_generation_of_the_stream_it_accepts_before_it_answers() -> None:
    node, _ = a_node(Role.BACKUP)
    node.receive_stream_accepted(ms(1))
    effects = node.receive_stream_data(encode_frame(a_hello(generation=6)), ms(1))
    assert kinds(effects) == ["WriteGeneration", "WriteStream"]
    assert effects[0] == fx.WriteGeneration(6)


def test_a_hello_is_as_good_as_a_heartbeat_to_init() -> None:
    node, _ = a_node(Role.INIT)
    node.receive_stream_accepted(ms(1))
    node.receive_stream_data(encode_frame(a_hello(generation=6)), ms(1))
    assert node.role is Role.BACKUP


def test_leaving_promotes_when_everything_before_it_is_installed() -> None:
    node = a_synced_backup()
    stream = encode_frame(Deltas(1, 2, 1, b"\x03" + bytes(11))) + encode_frame(Leaving(1, 2, True))
    node.receive_stream_data(stream, ms(3))
    assert node.role is Role.BACKUP
    effects = node.receive_installed(1, None, 1, 42, ms(3))
    assert node.role is Role.PRIMARY
    assert isinstance(effects[-1], fx.ReportRole)
    assert effects[-1].certificate is not None
    assert effects[-1].certificate.complete
    assert not node.view(ms(3)).solo


def test_a_resume_to_a_backup_that_holds_nothing_is_refused() -> None:
    node, _ = a_node(Role.BACKUP)
    node.receive_stream_accepted(ms(1))
    node.receive_stream_data(encode_frame(a_hello()), ms(1))
    node.receive_stream_data(encode_frame(Resume(1, 1)), ms(1))
    assert node.view(ms(1)).rejections == {"sequence_gap": 1}


# --- anything at all -----------------------------------------------------------------------------------

small = st.integers(0, 6)
BEATS = st.builds(
    Heartbeat, st.just(1), st.sampled_from(["gw-a", "gw-a", "gw-a", "gw-b"]), st.sampled_from([0xA, 0xAA, BOOT]),
    st.integers(0, 60), st.sampled_from(Role), small, st.sampled_from([50, 100, 150]),
    *[st.booleans()] * 3, small, st.sampled_from([0, BOOT, 0xDEAD]), st.integers(0, ms(2000)), small,
    st.sampled_from([0, BOOT]), *[small] * 5, st.just(b"confhash"),
)  # fmt: skip
RECORDS = st.integers(1, 3).map(lambda count: (count, b"\x03" * 12 * count))
WIRE_FRAMES = st.one_of(
    st.builds(a_hello, generation=small, boot_id=st.sampled_from([0xA, 0xAA])),
    st.builds(
        HelloReply,
        st.just(1),
        st.just("gw-a"),
        st.just(0xA),
        small,
        st.just(BOOT),
        small,
        st.booleans(),
        digests=st.sampled_from([b"", bytes(512)]),
    ),
    st.builds(Refuse, st.sampled_from(["generation", "role"])),
    st.builds(Resume, small, st.integers(1, 6)),
    st.builds(
        SyncBegin, small, st.integers(1, 6), small, st.sampled_from([b"", bytes(8), b"\x01" + bytes(7)])
    ),
    st.tuples(small, st.integers(1, 6), RECORDS).map(lambda t: Deltas(t[0], t[1], *t[2])),
    st.builds(SyncEnd, small, small, small, small),
    st.builds(Leaving, small, small, st.booleans()),
)
INPUTS = st.one_of(
    st.tuples(st.just("beat"), BEATS),
    st.tuples(st.just("frame"), WIRE_FRAMES),
    st.tuples(st.just("garbage"), st.binary(max_size=30)),
    st.tuples(st.just("installed"), st.tuples(st.integers(0, 3), st.sampled_from([None, None, "unknown_handle"]))),
    st.tuples(st.just("swept"), small),
    st.tuples(st.just("digests"), st.sampled_from([b"", bytes(512)])),
    st.tuples(st.just("suspects"), st.sampled_from([bytes(8), b"\x01" + bytes(7)])),
    st.tuples(st.just("resync"), st.sampled_from([None, "--full"])),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 20, 50, 149, 400])),
    st.tuples(
        st.sampled_from([
            "timer", "accepted", "opened", "closed", "refused", "overrun", "flushed", "snapshot", "switchover",
            "force", "stop", "fault", "clear",
        ]),
        st.none(),
    ),
)  # fmt: skip


class Watcher:
    """Performs nothing, and holds one node to its word."""

    def __init__(self) -> None:
        self.node = Node(SETTINGS, BOOT, 1, SEED, 0)
        self.durable = 1
        self.armed = False
        self.watch(self.node.start(0), 0)

    def give(self, kind: str, value: object, now: int) -> list[fx.Effect]:
        node = self.node
        match kind, value:
            case "beat", Heartbeat() as beat:
                return node.receive_datagram(encode_heartbeat(beat), now)
            case "frame", frame:
                return node.receive_stream_data(encode_frame(frame), now)  # type: ignore[arg-type]
            case "garbage", bytes(data):
                return node.receive_stream_data(data, now) + node.receive_datagram(data, now)
            case "installed", (count, rejection):
                return node.receive_installed(count, rejection, 1, 1, now)
            case "swept", int(count):
                return node.receive_sync_swept(count, count, Findings(), now)
            case "switchover", _:
                return node.command_switchover(False, now)[2]
            case "force", _:
                return node.command_switchover(True, now)[2]
            case "resync", _:
                return node.command_resync(value is not None, now)[2]
            case "fault", _:
                return node.receive_fault("test", now)
            case "flushed", _:
                return node.receive_log_flushed(5, now)
            case "snapshot", _:
                return node.receive_snapshot_finished(5, 1, 1, 1, 0, now)
            case "digests", bytes(digests):
                return node.receive_bucket_digests(digests, now)
            case "suspects", bytes(suspects):
                return node.receive_suspects(suspects, 5, 1, now)
        plain = {
            "timer": node.handle_timer, "accepted": node.receive_stream_accepted, "opened": node.receive_stream_opened,
            "closed": node.receive_stream_closed, "refused": node.receive_port_refused,
            "overrun": node.receive_log_overrun, "stop": node.command_stop, "clear": node.clear_fault,
        }  # fmt: skip
        return plain[kind](now)

    def watch(self, effects: list[fx.Effect], now: int) -> None:
        if fx.LookAtVips() in effects:
            self.watch(self.node.receive_vip_states((), now), now)
        for effect in effects:
            match effect:
                case fx.WriteGeneration(generation):
                    assert generation > self.durable, "P1: it never goes back"
                    self.durable = generation
                case fx.Arm(until):
                    assert self.node.generation == self.durable, "P1: durable before the data path arms"
                    assert until <= now + SETTINGS.dead_after_ns
                    self.armed = True
                case fx.RenewLease(until):
                    assert self.armed
                    assert until <= now + SETTINGS.dead_after_ns
                case fx.Disarm():
                    self.armed = False
                case fx.SendDatagram(payload):
                    beat = decode_heartbeat(payload)
                    assert beat.generation <= self.durable, "nobody hears a number that is not durable"
                case fx.WriteStream(frame):
                    decode_frame(frame[4:])
        assert not self.armed or self.node.role is Role.PRIMARY
        assert self.armed is self.node.view(now).armed


@given(st.lists(INPUTS, max_size=40))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_in_the_node_keeps_its_word(inputs: list[tuple[str, object]]) -> None:
    watcher, now = Watcher(), 0
    for kind, value in inputs:
        if kind == "wait":
            assert isinstance(value, int)
            now += ms(value)
        else:
            watcher.watch(watcher.give(kind, value, now), now)
        watcher.watch(watcher.node.handle_timer(now), now)
        deadline = watcher.node.next_deadline_ns()
        assert deadline is not None
        assert deadline > now, "a deadline that stays in the past would make the shell spin"
        watcher.node.view(now)


def test_a_primary_that_holds_no_commit_does_not_call_itself_ready() -> None:
    """Its peer has everything, but echoes nothing young enough for a paired lease: still solo."""
    node, now = a_node(Role.PRIMARY)
    generation, counter = node.generation, iter(range(1, 100))

    def hear(echoed_at: int) -> list[fx.Effect]:
        beat = a_beat(
            role=Role.BACKUP, generation=generation, counter=next(counter), ready=True, ack_boot_id=BOOT,
            ack_sequence=500, echo_boot_id=BOOT, echo_sent_ns=echoed_at,
        )  # fmt: skip
        return node.receive_datagram(encode_heartbeat(beat), now)

    node.receive_log_state(500, 40, 99, 101, 0, 0, now)
    assert fx.ConnectStream() in hear(now - ms(140))
    node.receive_stream_opened(now)
    reply = encode_frame(HelloReply(1, "gw-a", 0xA, generation, BOOT, 500, True))
    assert kinds(node.receive_stream_data(reply, now))[-1] == "SendFrom"
    hear(now - ms(139))
    view = node.view(now)
    assert (view.solo, view.commit_held) == (True, False)
    assert (view.sync.state, view.sync.reason) == (SyncState.DEGRADED, "solo")
    assert fx.SetCommit(True) in hear(now - ms(1))
    view = node.view(now)
    assert (view.solo, view.commit_held, view.sync.state) == (False, True, SyncState.READY)
