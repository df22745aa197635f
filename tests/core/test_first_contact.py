"""proto/pair.md §8, P6: with sealed heartbeats a replay is what is left to fear, of this life or of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.effects import Effect, LookAtVips, RenewLease, SendDatagram
from hasyncd.core.liveness import Liveness, Unproven
from hasyncd.core.node import Node
from hasyncd.core.types import Role
from hasyncd.core.wire import Rejected, decode_heartbeat, encode_heartbeat
from tests.core.messages import SEED, SETTINGS, a_beat, ms

SEALED = replace(SETTINGS, authenticated=True)
OWN_BOOT = 0xB


def test_a_process_is_heard_once_it_echoes_a_young_heartbeat_of_ours() -> None:
    liveness = Liveness(SEALED, OWN_BOOT, 0)
    for stale in (
        a_beat(),
        a_beat(echo_boot_id=0xDEAD, echo_sent_ns=ms(99)),
        a_beat(echo_boot_id=OWN_BOOT, echo_sent_ns=0),
        a_beat(echo_boot_id=OWN_BOOT, echo_sent_ns=ms(999)),
    ):
        with pytest.raises(Unproven):
            liveness.accept(stale, ms(200))
    assert (liveness.beat, liveness.last_heard_ns) == (None, None)
    assert liveness.accept(a_beat(echo_boot_id=OWN_BOOT, echo_sent_ns=ms(190)), ms(200)) is True
    assert liveness.accept(a_beat(counter=2), ms(201)) is False, (
        "known now: one that hears us no more is heard"
    )


def test_an_unproven_process_changes_nothing_about_the_one_that_is_known() -> None:
    liveness = Liveness(SEALED, OWN_BOOT, 0)
    live = a_beat(boot_id=2, counter=50, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(90))
    liveness.accept(live, ms(100))
    for replay in (a_beat(boot_id=1, counter=900), a_beat(boot_id=3, echo_boot_id=OWN_BOOT, echo_sent_ns=1)):
        with pytest.raises(Unproven):
            liveness.accept(replay, ms(160))
    assert (liveness.beat, liveness.last_heard_ns, liveness.echo_sent_ns) == (live, ms(100), ms(90))
    with pytest.raises(Rejected, match="replayed"):
        liveness.accept(live, ms(161))


def test_a_replaced_process_stays_replaced_however_often_it_is() -> None:
    """The list of former processes is finite; the age of an echo is not."""
    liveness = Liveness(SEALED, OWN_BOOT, 0)
    first = a_beat(boot_id=1, counter=5, echo_boot_id=OWN_BOOT, echo_sent_ns=0)
    liveness.accept(first, ms(1))
    for boot in range(100, 140):
        now = ms(100 * boot)
        liveness.accept(a_beat(boot_id=boot, echo_boot_id=OWN_BOOT, echo_sent_ns=now), now)
    for counter in (5, 6):
        with pytest.raises(Unproven):
            liveness.accept(replace(first, counter=counter), ms(15_000))


# --- whole nodes -------------------------------------------------------------------------------------------------


class Two:
    """Both nodes and the wire between, which writes everything down."""

    def __init__(self) -> None:
        self.now = 0
        self.recorded: dict[str, list[bytes]] = {"gw-a": [], "gw-b": []}
        self.boots = 0
        self.nodes: dict[str, Node] = {}
        self.effects: list[Effect] = []

    def boot(self, name: str) -> Node:
        self.boots += 1
        settings = replace(SEALED, node=name, priority=200 if name == "gw-a" else 100, sync_enabled=False)
        node = self.nodes[name] = Node(settings, 1000 + self.boots, 0, SEED, self.now)
        self.carry(name, node.start(self.now))
        return node

    def carry(self, sender: str, effects: list[Effect]) -> None:
        self.effects += effects
        other = next(name for name in self.recorded if name != sender)
        for effect in effects:
            if isinstance(effect, SendDatagram):
                self.recorded[sender].append(effect.payload)
                self.deliver(other, effect.payload)
            elif isinstance(effect, LookAtVips):
                self.carry(sender, self.nodes[sender].receive_vip_states((), self.now))

    def deliver(self, name: str, payload: bytes) -> None:
        if name in self.nodes:
            self.carry(name, self.nodes[name].receive_datagram(payload, self.now))

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.now += ms(1)
            for name, node in list(self.nodes.items()):
                deadline = node.next_deadline_ns()
                if deadline is not None and deadline <= self.now:
                    self.carry(name, node.handle_timer(self.now))


def test_two_new_processes_know_each_other_within_one_heartbeat_of_each() -> None:
    world = Two()
    a = world.boot("gw-a")
    world.run(30)
    b = world.boot("gw-b")
    said = {name: len(beats) for name, beats in world.recorded.items()}
    assert said["gw-b"] <= 2, "the first one, and the answer to the one that knows it"
    world.run(51)
    for node in (a, b):
        assert node.view(world.now).peer.state == "connected"
        assert dict(node.view(world.now).rejections) == {}
    world.run(1000)
    assert {a.role, b.role} == {Role.PRIMARY, Role.BACKUP}


def test_no_replay_of_another_life_revives_a_dead_peer_or_renews_a_lease() -> None:
    world = Two()
    world.boot("gw-a")
    world.boot("gw-b")
    world.run(1000)
    old = list(world.recorded["gw-b"])
    del world.nodes["gw-b"], world.nodes["gw-a"]
    # gw-a starts anew, its peer is dead; everything that the peer ever said comes again and again.
    a = world.boot("gw-a")
    for payload in old * 10:
        world.deliver("gw-a", payload)
        world.run(1)
    assert a.view(world.now).peer.state == "never"
    assert a.view(world.now).peer.last_heard_ns is None
    assert a.role is Role.PRIMARY, "it listened, heard nobody who lives, and acts alone"
    assert a.view(world.now).solo


def test_a_replay_within_both_lives_does_neither() -> None:
    world = Two()
    a, _ = world.boot("gw-a"), world.boot("gw-b")
    world.run(1000)
    assert a.role is Role.PRIMARY
    assert not a.view(world.now).solo
    del world.nodes["gw-b"]
    lease = a.view(world.now).lease_until_ns
    world.effects.clear()
    for payload in world.recorded["gw-b"] * 2:
        world.deliver("gw-a", payload)
    assert [effect for effect in world.effects if isinstance(effect, RenewLease)] == []
    assert a.view(world.now).lease_until_ns == lease
    assert a.view(world.now).rejections["replayed"] > 10
    world.run(200)
    assert a.view(world.now).solo, "the silence counts in spite of them"


def test_an_unproven_heartbeat_is_answered_by_one_that_lets_its_sender_prove_itself() -> None:
    a = Node(replace(SEALED, node="gw-a"), 77, 0, SEED, 0)
    a.start(0)
    effects = a.receive_datagram(_encoded(boot_id=5, sent_ns=123, node="gw-c"), ms(1))
    [answer] = [decode_heartbeat(effect.payload) for effect in effects if isinstance(effect, SendDatagram)]
    assert (answer.echo_boot_id, answer.echo_sent_ns, answer.heard_ms) == (5, 123, 0)
    assert a.view(ms(1)).peer.state == "never"


def _encoded(**fields: object) -> bytes:
    return encode_heartbeat(a_beat(**fields))
