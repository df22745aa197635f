"""Which public ports flows get: all of them, and none twice (invariants N1 to N4)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.frames import ACK, SYN, tcp, udp
from tests.native.nat_gateway import PUBLIC, Gateway, nat_rule


def test_every_port_of_every_address_is_given_out_before_one_is_refused() -> None:
    publics = (PUBLIC, "203.0.113.7")
    gateway = Gateway(rules=[nat_rule(*publics, first=40000, last=40099)])
    seen = set()
    for sport in range(1, 201):
        left = gateway.out(udp("10.0.1.7", sport, "8.8.8.8", 53, b"x"))
        assert left
        assert left.source in publics
        assert 40000 <= left.sport <= 40099
        seen.add((left.source, left.sport))
    assert len(seen) == 200
    assert gateway.out(udp("10.0.1.7", 999, "8.8.8.8", 53, b"x")) is None
    assert gateway.count("drop_nat_exhausted") == 1
    assert gateway.out(udp("10.0.1.7", 999, "8.8.4.4", 53, b"x")), "another destination has them all"


def test_a_backup_counts_imported_flows() -> None:
    """The peer's flows occupy their ports here too: after a promotion none is given out twice."""
    first, second = (Gateway(rules=[nat_rule(first=40000, last=40099)]) for _ in range(2))
    taken = set()
    for sport in range(1, 61):
        left = first.out(udp("10.0.1.7", sport, "8.8.8.8", 53, b"x"))
        assert left
        taken.add(left.sport)
    _, _, records = first.engine.drain()
    second.engine.install(records, second.now)
    for sport in range(61, 101):
        left = second.out(udp("10.0.1.8", sport, "8.8.8.8", 53, b"x"))
        assert left
        assert left.sport not in taken
        taken.add(left.sport)
    assert second.out(udp("10.0.1.8", 999, "8.8.8.8", 53, b"x")) is None


def test_a_reset_frees_every_port() -> None:
    gateway = Gateway(rules=[nat_rule(first=40000, last=40009)])
    for _ in range(3):
        for sport in range(1, 11):
            assert gateway.out(udp("10.0.1.7", sport, "8.8.8.8", 53, b"x"))
        gateway.engine.reset(b"another seed for")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3), st.booleans()),
        min_size=1,
        max_size=80,
    )
)
def test_replies_find_their_way_back(flows: list[tuple[int, int, int, bool]]) -> None:
    """N1, N2: no two live flows share a reply tuple, and reverse after forward is the identity."""
    gateway = Gateway(rules=[nat_rule(first=50000, last=50015)])
    owners: dict[tuple[int, str, int, int], tuple[str, int]] = {}
    for host, sport, server, is_tcp in flows:
        source, target = f"10.0.1.{host}", f"198.51.100.{server}"
        make = tcp(source, sport, target, 80, SYN) if is_tcp else udp(source, sport, target, 80, b"question")
        left = gateway.out(make)
        key_count = sum(1 for key in owners if key[0] == (6 if is_tcp else 17) and key[1] == target)
        if left is None:
            assert key_count == 16, "refused while a port was free"
            continue
        key = (left.protocol, target, 80, left.sport)
        assert 50000 <= left.sport <= 50015
        assert owners.setdefault(key, (source, sport)) == (source, sport)
        answer = (
            tcp(target, 80, left.source, left.sport, SYN | ACK)
            if is_tcp
            else udp(target, 80, left.source, left.sport, b"answer")
        )
        arrived = gateway.back(answer)
        assert arrived
        assert arrived.ends == (target, 80, source, sport)
