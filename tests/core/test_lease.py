"""The lease: solo by our own timer, paired by what the peer echoed, and never longer than that."""

from __future__ import annotations

from hasyncd.core.effects import Arm, Disarm, RenewLease
from hasyncd.core.lease import Lease
from tests.core.messages import SETTINGS, ms


def test_solo_lasts_dead_after_from_now() -> None:
    lease = Lease(SETTINGS)
    assert lease.arm(ms(10), solo=True, echoed_until_ns=0) == [Arm(ms(160))]
    assert lease.act_alone(ms(60)) == [RenewLease(ms(210))]


def test_paired_lasts_as_long_as_the_echo_says_even_if_that_is_over() -> None:
    lease = Lease(SETTINGS)
    assert lease.arm(ms(10), solo=False, echoed_until_ns=ms(5)) == [Arm(ms(5))]
    assert lease.extend(ms(80)) == [RenewLease(ms(80))]
    assert lease.extend(ms(70)) == [], "an older echo takes nothing back and gives nothing"


def test_becoming_paired_shrinks_the_lease_to_the_echo() -> None:
    """From the echoed heartbeat on the peer counts our silence, not from our last solo renewal."""
    lease = Lease(SETTINGS)
    lease.arm(ms(100), solo=True, echoed_until_ns=0)
    assert not lease.echo(ms(90), ms(100)), "an echo that is over pairs nobody"
    assert lease.echo(ms(190), ms(100))
    assert lease.pair(ms(190)) == [RenewLease(ms(190))]
    assert not lease.solo


def test_nothing_renews_a_disarmed_lease() -> None:
    lease = Lease(SETTINGS)
    lease.arm(ms(0), solo=True, echoed_until_ns=0)
    assert lease.suspend() == [Disarm()]
    assert lease.act_alone(ms(10)) == []
    assert lease.pair(ms(200)) == []
    assert lease.extend(ms(300)) == []
    assert lease.until_ns == 0
