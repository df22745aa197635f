"""Which public ports flows get: all of them, and none twice (invariants N1 to N4)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.frames import ACK, FIN, ICMP, SYN, Seen, number, read_packet, tcp, udp
from tests.native.nat_gateway import INSIDE, INSIDE_VIP, PUBLIC, Gateway, nat_rule

SERVER = "8.8.8.8"


def one_port() -> Gateway:
    return Gateway(rules=[nat_rule(first=40000, last=40000)])


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
        st.tuples(st.integers(2, 4), st.integers(1, 12), st.integers(1, 3), st.booleans()),
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


# --- options of a rule ------------------------------------------------------------------------------------


def test_a_freed_port_is_held_from_others_and_not_from_its_owner() -> None:
    """RFC 6888 REQ-8, N8."""
    gateway = one_port()
    gateway.engine.set_nat_options(0, hold_down_s=120)
    assert gateway.out(udp("10.0.1.7", 1, SERVER, 53, b"x"))
    gateway.wait(301)
    assert gateway.flows == 0
    assert gateway.out(udp("10.0.1.8", 1, SERVER, 53, b"x")) is None
    assert gateway.count("nat_held_down") > 0
    assert gateway.out(udp("10.0.1.7", 1, SERVER, 53, b"x")), "its owner may have it again"
    gateway.wait(301)
    gateway.wait(120)
    assert gateway.out(udp("10.0.1.8", 1, SERVER, 53, b"x"))


def close_both(gateway: Gateway, left: Seen, source: str, sport: int) -> None:
    gateway.back(tcp(SERVER, 80, left.source, left.sport, SYN | ACK))
    gateway.out(tcp(source, sport, SERVER, 80, ACK))
    gateway.out(tcp(source, sport, SERVER, 80, FIN | ACK))
    gateway.back(tcp(SERVER, 80, left.source, left.sport, FIN | ACK))
    gateway.out(tcp(source, sport, SERVER, 80, ACK))


def test_a_port_of_a_connection_that_both_ends_closed_is_free_at_once() -> None:
    gateway = one_port()
    gateway.engine.set_nat_options(0, hold_down_s=120)
    left = gateway.out(tcp("10.0.1.7", 1, SERVER, 80, SYN))
    assert left
    close_both(gateway, left, "10.0.1.7", 1)
    gateway.wait(241)
    assert gateway.flows == 0
    assert gateway.out(tcp("10.0.1.8", 1, SERVER, 80, SYN))


def test_the_backup_holds_what_the_primary_freed() -> None:
    """After a takeover a port of the dead peer is not another's at once."""
    first, second = one_port(), one_port()
    for gateway in (first, second):
        gateway.engine.set_nat_options(0, hold_down_s=120)
    assert first.out(udp("10.0.1.7", 1, SERVER, 53, b"x"))
    first.wait(301)
    second.now = first.now
    second.engine.install(first.engine.drain()[2], second.now)
    assert second.flows == 0
    assert second.out(udp("10.0.1.8", 1, SERVER, 53, b"x")) is None
    second.wait(120)
    assert second.out(udp("10.0.1.8", 1, SERVER, 53, b"x"))


def test_a_backup_that_was_away_holds_what_was_freed_meanwhile() -> None:
    """Its full sync finds a flow gone, or another in its place: nobody told it of their ends."""
    for another in (False, True):
        first, second = one_port(), one_port()
        for gateway in (first, second):
            gateway.engine.set_nat_options(0, hold_down_s=120)
        assert first.out(udp("10.0.1.7", 1, SERVER, 53, b"x"))
        second.engine.install(first.engine.drain()[2], second.now)
        first.wait(301)
        if another:
            assert first.out(udp("10.0.1.7", 1, "8.8.4.4", 53, b"x")), "in the same slot"
        first.engine.drain()
        second.now = first.now
        second.engine.begin_sync()
        first.engine.start_log(1)
        first.engine.start_snapshot(b"", False)
        first.engine.append_snapshot(100)
        second.engine.install(first.engine.drain()[2], second.now)
        second.engine.end_sync()
        assert second.flows == int(another)
        assert second.out(udp("10.0.1.8", 1, SERVER, 53, b"x")) is None
        second.wait(120)
        assert second.out(udp("10.0.1.8", 1, SERVER, 53, b"x"))


def test_no_source_has_more_flows_than_its_quota_imported_ones_included() -> None:
    """RFC 6888 REQ-4, N7."""
    first, second = Gateway(), Gateway()
    for gateway in (first, second):
        gateway.engine.set_nat_options(0, max_flows_per_source=3)
    for sport in (1, 2, 3):
        assert first.out(udp("10.0.1.7", sport, SERVER, 53, b"x"))
    assert first.out(udp("10.0.1.7", 4, SERVER, 53, b"x")) is None
    assert first.count("drop_nat_quota") == 1
    assert first.out(udp("10.0.1.7", 3, SERVER, 53, b"x")), "a flow that lives goes on"
    assert first.out(udp("10.0.1.8", 4, SERVER, 53, b"x")), "another source has its own quota"
    second.engine.install(first.engine.drain()[2], second.now)
    assert second.out(udp("10.0.1.7", 4, SERVER, 53, b"x")) is None
    first.wait(301)
    assert first.out(udp("10.0.1.7", 4, SERVER, 53, b"x"))


def test_a_sender_without_a_port_is_told_when_the_rule_says_so() -> None:
    """RFC 5508 REQ-8: unreachable, administratively prohibited, with the sender's own packet quoted."""
    gateway = one_port()
    gateway.engine.set_nat_options(0, icmp_on_exhaustion=True)
    gateway.out(udp("10.0.1.7", 1, SERVER, 53, b"x"))
    sent = udp("10.0.1.8", 2, SERVER, 53, b"question")
    ((side, answer),) = gateway.send(INSIDE, sent)
    assert (side, answer.source, answer.target, answer.protocol) == (INSIDE, INSIDE_VIP, "10.0.1.8", ICMP)
    assert answer.packet[20:22] == bytes([3, 13])
    assert answer.packet[28:] == sent[14:], "the packet as it was sent"
    assert read_packet(answer.packet[28:]).ends == ("10.0.1.8", 2, SERVER, 53)
    assert gateway.count("unreachable_sent") == 1
    for sport in range(100):
        gateway.send(INSIDE, udp("10.0.1.8", 1000 + sport, SERVER, 53, b"x"))
    assert gateway.count("unreachable_sent") <= 51, "at a bounded rate"
    assert gateway.count("icmp_rate_limited") == 101 - gateway.count("unreachable_sent")
    assert gateway.flows == 1, "no mapping was taken away (RFC 6888 REQ-11)"


def test_an_exempt_destination_sees_the_source_itself() -> None:
    """RFC 6888 REQ-6: translated is only what must be; the answer comes back all the same."""
    gateway = Gateway()
    gateway.engine.set_nat_options(0, exempt=[(number("192.0.2.0"), 24)])
    left = gateway.out(udp("10.0.1.7", 5000, "192.0.2.9", 53, b"x"))
    assert left
    assert left.ends == ("10.0.1.7", 5000, "192.0.2.9", 53)
    arrived = gateway.back(udp("192.0.2.9", 53, "10.0.1.7", 5000, b"y"))
    assert arrived
    assert arrived.ends == ("192.0.2.9", 53, "10.0.1.7", 5000)
    assert gateway.back(udp("192.0.2.9", 53, "10.0.1.7", 5001, b"y")) is None, "nothing else comes in"
    assert gateway.count("nat_exempt_flows") == 1
    other = gateway.out(udp("10.0.1.7", 5000, "192.0.3.9", 53, b"x"))
    assert other
    assert other.source == PUBLIC


def test_parity_and_reserved_ports() -> None:
    gateway = Gateway(rules=[nat_rule(first=40000, last=40019)])
    gateway.engine.set_nat_options(0, preserve_parity=True, reserved=[(40000, 40003)])
    ports = []
    for sport in range(5001, 5017, 2):
        left = gateway.out(udp("10.0.1.7", sport, SERVER, 53, b"x"))
        assert left
        ports.append(left.sport)
    assert sorted(ports) == list(range(40005, 40020, 2))
    assert gateway.out(udp("10.0.1.7", 5017, SERVER, 53, b"x")) is None
    assert gateway.out(udp("10.0.1.7", 5018, SERVER, 53, b"x"))
