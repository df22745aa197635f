"""proto/pair.md §4b at the edges: what ends the waiting for a silent primary."""

from __future__ import annotations

from dataclasses import replace

from hasyncd.core import effects as fx
from hasyncd.core.messages import Deltas, SyncBegin, SyncEnd
from hasyncd.core.node import Node
from hasyncd.core.types import Findings, Role
from hasyncd.core.wire import encode_frame, encode_heartbeat
from tests.core.messages import SEED, SETTINGS, a_beat, a_hello, ms

PATIENT = replace(SETTINGS, wait_ns=ms(1000))


def a_waiting_backup() -> Node:
    """In the middle of a sync at 2 ms, its primary silent since then; it waits from 152 ms to 1152 ms."""
    node = Node(PATIENT, 0xB, 1, SEED, 0)
    node.start(0)
    node.receive_datagram(encode_heartbeat(a_beat(flow_count=5, head_sequence=5)), 0)
    node.receive_stream_accepted(ms(1))
    node.receive_stream_data(encode_frame(a_hello()), ms(1))
    node.receive_stream_data(encode_frame(SyncBegin(1, 1, 1)), ms(2))
    node.receive_stream_data(encode_frame(Deltas(1, 1, 1, b"\x01" + bytes(31))), ms(2))
    node.receive_installed(1, None, 1, 42, ms(2))
    node.receive_datagram(encode_heartbeat(a_beat(counter=2, flow_count=5, head_sequence=5)), ms(2))
    for at in (52, 102):
        assert told(node.handle_timer(ms(at))) == []
    assert "promotion_waits" in told(node.handle_timer(ms(152)))
    for at in range(202, 502, 50):
        assert "promotion_waits" not in told(node.handle_timer(ms(at))), "it is said once"
    return node


def ask_and_act(node: Node, at: float) -> list[fx.Effect]:
    """From its question on the LANs to the answer, that nobody has the VIPs (§4c), and what follows."""
    effects = node.handle_timer(ms(at))
    assert fx.ProbeVips() in effects
    for later in (12.5, 25, 37.5):
        effects += node.handle_timer(ms(at + later))
    assert fx.LookAtVips() in effects
    return effects + node.receive_vip_states((), ms(at + 37.5))


def told(effects: list[fx.Effect]) -> list[str]:
    return [effect.name for effect in effects if isinstance(effect, fx.ReportEvent)]


def test_a_sync_that_completes_meanwhile_promotes_at_once_and_whole() -> None:
    node = a_waiting_backup()
    node.receive_stream_data(encode_frame(SyncEnd(1, 1, 1, 42)), ms(500))
    node.receive_sync_swept(1, 42, Findings(), ms(500))
    assert node.next_deadline_ns() == ms(500)
    effects = ask_and_act(node, 501)
    assert node.role is Role.PRIMARY
    assert "slept" not in told(effects)


def test_its_time_is_over_to_the_millisecond() -> None:
    node = a_waiting_backup()
    for at in [*range(502, 1152, 50), 1151]:
        node.handle_timer(ms(at))
    assert node.role is Role.BACKUP
    assert node.next_deadline_ns() == ms(1152)
    assert "promoted_incomplete" in told(ask_and_act(node, 1152))
    certificate = node.view(ms(1152)).certificate
    assert certificate is not None
    assert (certificate.flows_held, certificate.flows_missing) == (1, 5), "an empty table, 4 records behind"


def test_a_heartbeat_ends_it_and_the_next_silence_begins_anew() -> None:
    node = a_waiting_backup()
    effects = node.receive_datagram(encode_heartbeat(a_beat(counter=3, head_sequence=5)), ms(502))
    assert "peer_heard" in told(effects)
    for at in range(550, 650, 50):
        node.handle_timer(ms(at))
    assert "promotion_waits" in told(node.handle_timer(ms(652)))
    for at in range(702, 1652, 50):
        node.handle_timer(ms(at))
    assert node.role is Role.BACKUP, "the first waiting's end means nothing any more"


def test_who_sleeps_while_he_waits_listens_before_he_acts() -> None:
    node = a_waiting_backup()
    assert "slept" in told(node.handle_timer(ms(3000)))
    assert node.role is Role.BACKUP
    for at in range(3050, 3150, 50):
        node.handle_timer(ms(at))
    assert node.role is Role.BACKUP
    ask_and_act(node, 3150)
    assert node.role is Role.PRIMARY


def test_a_stop_ends_it() -> None:
    node = a_waiting_backup()
    node.command_stop(ms(502))
    for at in range(550, 2000, 50):
        node.handle_timer(ms(at))
    assert node.role is Role.BACKUP
