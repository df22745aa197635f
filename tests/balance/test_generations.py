"""T9 (tests/native/README.md), the part that no packet sees: when a service's table gets another generation."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd.balance.membership import Member, Membership, Policy
from hasyncd.config_values import Endpoint

S = 10**9
IDS = st.integers(1, 5)
ORDERS = st.one_of(
    st.tuples(st.just("judge"), IDS, st.booleans()),
    st.tuples(st.just("drain"), IDS),
    st.tuples(st.just("undrain"), IDS),
    st.tuples(st.just("weigh"), IDS, st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(0, 100)),
    st.tuples(st.just("replace"), st.sets(IDS, min_size=1), st.integers(1, 3)),
)


def members(ids: set[int], weight: int) -> list[Member]:
    return [Member(id, Endpoint(IPv4Address(f"10.0.1.{id}"), 80), weight) for id in sorted(ids)]


@settings(max_examples=200, deadline=None)
@given(orders=st.lists(ORDERS, max_size=30), slow=st.booleans(), panic=st.sampled_from([0, 50]))
def test_t9_generations_grow_with_changes_and_with_nothing_else(
    orders: list[tuple[str, int, int]], slow: bool, panic: int
) -> None:
    now, ids = 0, set(range(1, 6))
    membership = Membership(Policy(30 * S * slow, 60 * S, panic), members(ids, 1))
    for what, *given_ in orders:
        before, generation = (membership.rows, membership.scale), membership.generation
        if what == "wait":
            now += given_[0] * S
            membership.pass_time(now)
        elif what == "replace":
            ids = set(given_[0])  # type: ignore[call-overload]
            membership.replace(members(ids, given_[1]), now)
        elif given_[0] not in ids:
            continue
        elif what == "judge":
            membership.judge(given_[0], bool(given_[1]), "", now)
        elif what == "weigh":
            membership.weigh(given_[0], given_[1])
        else:
            getattr(membership, what)(given_[0], now)
        changed = membership.settle() is not None
        assert changed == ((membership.rows, membership.scale) != before)
        assert membership.generation == generation + changed
        assert membership.settle() is None, "the same twice is no change"
