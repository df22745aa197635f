"""Membership as a state machine: whatever comes in whatever order, the rules of anchors' state matrix hold."""

from __future__ import annotations

from ipaddress import IPv4Address

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hasyncd.balance.membership import RAMP_STEPS, Member, Membership, Policy, State
from hasyncd.config_values import Endpoint

S = 10**9
IDS = st.integers(1, 6)


def member(id: int) -> Member:
    return Member(id, Endpoint(IPv4Address(f"10.0.1.{id}"), 80), id)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.membership = Membership(Policy(30 * S, 60 * S, 50), [member(id) for id in range(1, 7)])
        self.before = (self.membership.generation, self.membership.rows)

    @rule(id=IDS, healthy=st.booleans())
    def judge(self, id: int, healthy: bool) -> None:
        self.membership.judge(id, healthy, "", self.now)

    @rule(id=IDS)
    def drain(self, id: int) -> None:
        self.membership.drain(id, self.now)

    @rule(id=IDS)
    def undrain(self, id: int) -> None:
        self.membership.undrain(id, self.now)

    @rule(id=IDS, weight=st.integers(0, 256))
    def weigh(self, id: int, weight: int) -> None:
        self.membership.weigh(id, weight)

    @rule(seconds=st.integers(0, 100))
    def wait(self, seconds: int) -> None:
        self.now += seconds * S
        self.membership.pass_time(self.now)

    @rule()
    def take_over(self) -> None:
        """A backup that was told everything publishes the same table, and goes on with it as primary."""
        self.membership.settle()
        backup = Membership(self.membership.policy, [member(id) for id in range(6, 0, -1)])
        strange = backup.follow(
            self.membership.tell(self.now), self.membership.generation, self.now, adopt=False
        )
        assert (strange, backup.rows, backup.scale) == ([], self.membership.rows, self.membership.scale)
        backup.lead(self.now)
        assert backup.settle() is None, "nothing flaps and nothing warms up anew"

    @invariant()
    def holds(self) -> None:
        told = self.membership.settle()
        generation, rows = self.membership.generation, self.membership.rows
        old_generation, old_rows = self.before
        self.before = (generation, rows)
        assert generation == old_generation + (told is not None)
        assert told is not None or rows == old_rows
        assert self.membership.settle() is None, "settled once is settled"
        for standing, state in self.membership.states():
            assert not (standing.draining and state is State.UP), "panic never takes a drained one"
            assert standing.healthy or state is State.DOWN or self.membership.panics
            assert 1 <= standing.step <= RAMP_STEPS


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMembership = Machine.TestCase
