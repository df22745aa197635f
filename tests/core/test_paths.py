"""What is known of each path to the peer: proto/pair.md §5b."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasyncd.core.messages import Heartbeat
from hasyncd.core.node import Node
from hasyncd.core.paths import NAMES, Paths, bit_of
from hasyncd.core.wire import encode_heartbeat
from tests.core.messages import SEED, SETTINGS, a_beat, ms

ON_ALL = replace(SETTINGS, paths=NAMES)
HEARD_ON_ALL = 0b111


def heard(paths: Paths, name: str, at_ms: float, **fields: object) -> Heartbeat:
    beat = a_beat(**({"hears": HEARD_ON_ALL} | fields))
    paths.hear(name, beat, ms(at_ms))
    paths.learn(beat)
    return beat


def changes(paths: Paths, at_ms: float) -> list[tuple[str, bool]]:
    return [(change.name, change.up) for change in paths.judge(ms(at_ms))]


def test_the_bits_are_those_of_the_page() -> None:
    assert [bit_of(name) << 3 for name in ("sync", "inside", "outside")] == [1 << 3, 1 << 4, 1 << 5]


def test_nothing_is_judged_before_the_peer_was_heard() -> None:
    paths = Paths(ON_ALL, 0)
    assert changes(paths, 10_000) == []
    assert paths.next_deadline_ns() is None
    assert paths.hears() == 0


def test_a_path_is_up_when_it_works_both_ways() -> None:
    paths = Paths(ON_ALL, 0)
    heard(paths, "inside", 10, counter=1, hears=0)
    assert paths.hears() == bit_of("inside")
    assert changes(paths, 10) == [], "there is time left to hear us"
    heard(paths, "inside", 20, counter=2, hears=bit_of("inside"))
    assert changes(paths, 20) == [("inside", True)]
    assert changes(paths, 159) == []
    assert changes(paths, 160) == [("sync", False), ("outside", False)], "dead_after after first contact"


@pytest.mark.parametrize("unheard", NAMES)
def test_a_path_goes_down_with_its_own_silence(unheard: str) -> None:
    paths = Paths(ON_ALL, 0)
    for name in NAMES:
        heard(paths, name, 10, counter=1)
    assert len(changes(paths, 10)) == 3
    for name in NAMES:
        if name != unheard:
            heard(paths, name, 60, counter=2)
    assert paths.next_deadline_ns() == ms(160)
    assert changes(paths, 159.999) == []
    assert changes(paths, 160) == [(unheard, False)]
    assert paths.is_down(unheard)
    assert paths.hears() == HEARD_ON_ALL & ~bit_of(unheard)
    assert changes(paths, 170) == [], "told once"


def test_a_path_goes_down_when_the_peer_says_that_it_hears_nothing_there() -> None:
    paths = Paths(ON_ALL, 0)
    for name in NAMES:
        heard(paths, name, 10, counter=1)
    paths.judge(ms(10))
    heard(paths, "sync", 60, counter=2, hears=HEARD_ON_ALL & ~bit_of("outside"))
    [change] = paths.judge(ms(60))
    assert (change.name, change.up, change.why) == ("outside", False, "the peer does not hear us there")


def test_a_new_process_is_given_time_on_every_path() -> None:
    paths = Paths(ON_ALL, 0)
    for name in NAMES:
        heard(paths, name, 10, counter=900)
    paths.judge(ms(10))
    heard(paths, "sync", 400, boot_id=0xF, counter=1, hears=0)
    assert changes(paths, 400) == []
    assert changes(paths, 550) == [("sync", False), ("inside", False), ("outside", False)]


def test_what_was_slept_through_is_no_silence() -> None:
    paths = Paths(ON_ALL, 0)
    heard(paths, "sync", 10, counter=1)
    paths.judge(ms(10))
    paths.listen_from(ms(1000))
    assert changes(paths, 1149) == []
    assert ("sync", False) in changes(paths, 1150)


def test_a_path_that_is_not_configured_is_none() -> None:
    paths = Paths(SETTINGS, 0)
    beat = heard(paths, "inside", 10, counter=1)
    assert [path.name for path in paths] == ["sync"]
    assert not paths.is_later_copy("inside", beat, beat)
    assert paths.hears() == 0


# --- copies ------------------------------------------------------------------------------------------


def a_node() -> Node:
    node = Node(ON_ALL, 0xB, 1, SEED, 0)
    node.start(0)
    return node


def rejections(node: Node) -> dict[str, int]:
    return dict(node.view(0).rejections)


def test_a_copy_on_another_path_is_no_replay_and_a_second_one_is() -> None:
    node = a_node()
    payload = encode_heartbeat(a_beat(counter=5, hears=HEARD_ON_ALL))
    for path in NAMES:
        node.receive_datagram(payload, ms(1), path)
    assert rejections(node) == {}
    assert [path.up for path in node.view(ms(1)).peer.paths] == [True, True, True]
    for number, path in enumerate(NAMES, 1):
        node.receive_datagram(payload, ms(2), path)
        assert rejections(node) == {"replayed": number}


def test_a_copy_renews_nothing_but_its_path() -> None:
    """The lease and the peer's silence know the first copy alone."""
    node = a_node()
    for at in (1, 51):
        node.receive_datagram(encode_heartbeat(a_beat(counter=at, hears=HEARD_ON_ALL)), ms(at), "sync")
    before = node.view(ms(100)).peer.last_heard_ns
    effects = node.receive_datagram(encode_heartbeat(a_beat(counter=51)), ms(100), "outside")
    view = node.view(ms(100))
    assert view.peer.last_heard_ns == before == ms(51)
    assert view.peer.paths[2].last_heard_ns == ms(100)
    assert not [effect for effect in effects if type(effect).__name__ != "ReportEvent"]


def test_a_slow_path_may_bring_what_others_have_overtaken() -> None:
    node = a_node()
    first, second = (encode_heartbeat(a_beat(counter=n, hears=HEARD_ON_ALL)) for n in (1, 2))
    node.receive_datagram(first, ms(1), "sync")
    node.receive_datagram(second, ms(2), "sync")
    node.receive_datagram(first, ms(3), "inside")
    node.receive_datagram(second, ms(4), "inside")
    assert rejections(node) == {}


def test_a_copy_of_a_former_process_is_a_replay_on_every_path() -> None:
    node = a_node()
    node.receive_datagram(encode_heartbeat(a_beat(boot_id=1, counter=900)), ms(1), "sync")
    node.receive_datagram(encode_heartbeat(a_beat(boot_id=2, counter=1)), ms(2), "sync")
    node.receive_datagram(encode_heartbeat(a_beat(boot_id=1, counter=900)), ms(3), "inside")
    assert rejections(node) == {"replayed": 1}
