"""hasyncd.runtime.clock: the clock that the lease in the data path is checked against."""

from __future__ import annotations

from hasyncd._native import INSIDE
from hasyncd.runtime.clock import now_ns
from tests.native.engines import INSIDE_VIP, bare_engine, mac_of
from tests.native.frames import arp


def test_it_never_goes_back() -> None:
    moments = [now_ns() for _ in range(1000)]
    assert moments == sorted(moments)
    assert moments[-1] > moments[0]


def test_it_is_the_clock_of_the_data_path() -> None:
    """`announce` reads the engine's own clock: a lease in the future of ours is one of its future too."""
    engine = bare_engine()
    engine.arm(now_ns())
    engine.set_lease(now_ns() - 1)
    assert engine.announce() == 0
    engine.set_lease(now_ns() + 3600 * 10**9)
    assert engine.announce() > 0


def test_a_lease_ends_at_its_moment() -> None:
    engine = bare_engine()
    moment = now_ns()
    engine.arm(moment)
    engine.set_lease(moment + 1000)
    question = arp(1, mac_of("10.0.1.7"), "10.0.1.7", INSIDE_VIP)
    for at, answers in ((moment + 999, 1), (moment + 1000, 0), (moment + 1001, 0)):
        engine.inject(INSIDE, question, at)
        assert len(engine.take_sent()) == answers
