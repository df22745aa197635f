"""Hearing, silence, echoes, and the proof of a process' death."""

from __future__ import annotations

import pytest

from hasyncd.core.liveness import DeathWatch, Liveness, has_slept
from hasyncd.core.wire import Rejected
from tests.core.messages import SETTINGS, a_beat, ms

OWN_BOOT = 0xB


def test_a_heartbeat_counts_once() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    assert liveness.accept(a_beat(counter=5), ms(1)) is True
    assert liveness.accept(a_beat(counter=6), ms(2)) is False
    for counter in (6, 5, 1):
        with pytest.raises(Rejected, match="replayed"):
            liveness.accept(a_beat(counter=counter), ms(3))
    assert liveness.last_heard_ns == ms(2), "a replay is not heard"


def test_a_process_that_was_replaced_is_not_heard_again() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    liveness.accept(a_beat(boot_id=1, counter=900), ms(1))
    assert liveness.accept(a_beat(boot_id=2, counter=1), ms(2)) is True
    with pytest.raises(Rejected, match="replayed"):
        liveness.accept(a_beat(boot_id=1, counter=901), ms(3))


def test_a_living_process_that_seemed_replaced_is_heard_again_once_the_other_is_silent() -> None:
    """We have just started: the peer, and then a late datagram of its life before."""
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    liveness.accept(a_beat(boot_id=2, counter=1), ms(1))
    liveness.accept(a_beat(boot_id=1, counter=900), ms(2))
    with pytest.raises(Rejected, match="replayed"):  # while the other may live
        liveness.accept(a_beat(boot_id=2, counter=2, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(2)), ms(151))
    for echo in (0, ms(3)):  # it echoes nobody, or us too long ago
        with pytest.raises(Rejected, match="replayed"):
            liveness.accept(a_beat(boot_id=2, counter=3, echo_boot_id=OWN_BOOT, echo_sent_ns=echo), ms(154))
    assert liveness.accept(a_beat(boot_id=2, counter=4, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(5)), ms(154))
    with pytest.raises(Rejected, match="replayed"):
        liveness.accept(a_beat(boot_id=1, counter=901, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(5)), ms(154))


def test_our_own_name_and_our_own_boot_id_are_refused() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    with pytest.raises(Rejected, match="own_node"):
        liveness.accept(a_beat(node="gw-b"), ms(1))
    with pytest.raises(Rejected, match="replayed"):
        liveness.accept(a_beat(boot_id=OWN_BOOT), ms(1))


def test_silence_counts_from_the_last_heartbeat_or_from_when_we_began_to_listen() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, ms(10))
    assert liveness.silent_at_ns == ms(160)
    liveness.accept(a_beat(), ms(100))
    assert liveness.silent_at_ns == ms(250)
    liveness.listen_from(ms(200))
    assert liveness.silent_at_ns == ms(350), "not judged on what was slept through"
    assert liveness.living_peer(ms(249)) is not None
    assert liveness.living_peer(ms(250)) is None


def test_the_link_is_up_only_with_a_fresh_echo_of_this_process() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    assert liveness.state(ms(1)) == "never"
    liveness.accept(a_beat(counter=1), ms(100))
    assert liveness.state(ms(100)) == "lost", "it does not hear us"
    liveness.accept(a_beat(counter=2, echo_boot_id=0xDEAD, echo_sent_ns=ms(99)), ms(101))
    assert liveness.state(ms(101)) == "lost", "it hears a process before us"
    liveness.accept(a_beat(counter=3, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(60)), ms(102))
    assert liveness.state(ms(102)) == "connected"
    assert liveness.echoed_lease_ns() == ms(60 + 120), "counted from the sending"
    liveness.accept(a_beat(counter=4, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(60)), ms(210))
    assert liveness.state(ms(210)) == "lost", "the echo is older than dead_after"


def test_an_echo_from_the_future_is_no_echo() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    liveness.accept(a_beat(echo_boot_id=OWN_BOOT, echo_sent_ns=ms(500)), ms(100))
    assert liveness.echo_sent_ns is None


def test_an_older_echo_takes_nothing_back() -> None:
    liveness = Liveness(SETTINGS, OWN_BOOT, 0)
    liveness.accept(a_beat(counter=1, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(90)), ms(100))
    liveness.accept(a_beat(counter=2, echo_boot_id=OWN_BOOT, echo_sent_ns=ms(80)), ms(101))
    assert liveness.echo_sent_ns == ms(90)


@pytest.mark.parametrize(("late_ms", "slept"), [(-5, False), (75, False), (75.001, True), (900, True)])
def test_more_than_half_of_dead_after_late_is_sleep(late_ms: float, slept: bool) -> None:
    assert has_slept(ms(1000), ms(1000 + late_ms), SETTINGS) is slept
    assert not has_slept(None, ms(1000), SETTINGS)


def test_a_refused_port_after_the_end_of_the_stream_is_proof() -> None:
    watch = DeathWatch(SETTINGS)
    assert not watch.refuse(), "the stream stands"
    watch.begin(ms(0))
    assert watch.take_probe(ms(0))
    assert watch.refuse()


def test_attempts_follow_each_other_until_the_timer_has_decided() -> None:
    watch = DeathWatch(SETTINGS)
    watch.begin(ms(0))
    times = [at for at in range(400) if watch.take_probe(ms(at))]
    assert times == [0, 1, 2, 3, 4, *range(5, 151, 5)]
    watch.cancel()
    assert not watch.take_probe(ms(2000))


def test_a_heartbeat_that_comes_with_the_end_of_the_stream_only_voids_the_attempt_under_way() -> None:
    watch = DeathWatch(SETTINGS)
    watch.begin(ms(0))
    watch.take_probe(ms(0))
    watch.hear(ms(1))
    assert not watch.refuse(), "it may have been answered before that heartbeat was sent"
    assert watch.take_probe(ms(5))
    assert watch.refuse()


def test_a_later_heartbeat_proves_life() -> None:
    watch = DeathWatch(SETTINGS)
    watch.begin(ms(0))
    watch.take_probe(ms(0))
    watch.hear(ms(6))
    assert not watch.watching
    assert not watch.refuse()
