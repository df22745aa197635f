"""A pair in which one node is older than the other, or pinned: proto/sync.md §4.1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core import effects as fx
from hasyncd.core.messages import FITNESS_FULL
from hasyncd.core.node import Node
from hasyncd.core.types import TrackSettings
from hasyncd.core.versions import Versions
from hasyncd.core.wire import decode_heartbeat, encode_heartbeat
from tests.core.messages import SEED, SETTINGS, a_beat

TRACKS = (TrackSettings("gateway", "gateway", 3, 1, 1), TrackSettings("disk", "command", 1, 1, 1))


def told(effects: list[fx.Effect]) -> list[str]:
    return [effect.name for effect in effects if isinstance(effect, fx.ReportEvent)]


@pytest.mark.parametrize(("own", "heard", "pair"), [(2, 2, 2), (2, 1, 1), (1, 2, 1), (1, 1, 1), (2, 9, 2)])
def test_a_pair_speaks_the_older_of_both_newest_versions(own: int, heard: int, pair: int) -> None:
    versions = Versions(replace(SETTINGS, protocols=(1, own)))
    assert versions.pair is None
    effects = versions.hear(a_beat(protocol=heard))
    assert versions.pair == pair
    assert told(effects) == ([] if pair == own else ["protocol_changed"])


def test_each_change_is_told_once() -> None:
    versions = Versions(SETTINGS)
    assert [told(versions.hear(a_beat(protocol=p))) for p in (1, 1, 3, 3, 4, 1)] == [
        ["protocol_changed"], [], ["protocol_changed"], [], [], ["protocol_changed"],
    ]  # fmt: skip


@pytest.mark.parametrize(("own", "counts_as"), [(2, 300), (1, FITNESS_FULL)])
def test_a_pinned_node_counts_no_fitness_as_its_peer_counts_none_of_its_own(own: int, counts_as: int) -> None:
    node = Node(replace(SETTINGS, protocols=(1, own)), 0xB, 1, SEED, 0)
    node.start(0)
    node.receive_datagram(encode_heartbeat(a_beat(protocol=2, fitness=300)), 0)
    peer = node.view(0).peer
    assert (peer.protocol, peer.fitness) == (own, counts_as)


def test_a_change_of_fitness_is_told_at_once_and_once() -> None:
    node = Node(replace(SETTINGS, tracks=TRACKS), 0xB, 1, SEED, 0)
    node.start(0)
    event, beat = node.receive_sample("gateway", False, "no answer", 1)
    assert event == fx.ReportEvent("track_failed", "gateway: no answer, the fitness is 250")
    assert isinstance(beat, fx.SendDatagram)
    assert decode_heartbeat(beat.payload).fitness == 250
    assert node.receive_sample("gateway", False, "no answer", 2) == []


def test_a_pinned_node_writes_what_version_1_knows() -> None:
    node = Node(replace(SETTINGS, protocols=(1, 1), tracks=TRACKS), 0xB, 1, SEED, 0)
    node.start(0)
    _, beat = node.receive_sample("gateway", False, "no answer", 1)
    assert isinstance(beat, fx.SendDatagram)
    said = decode_heartbeat(beat.payload)
    assert (said.protocol, said.fitness) == (1, FITNESS_FULL), "22 elements: nobody is told"
