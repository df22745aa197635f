"""IPv6 flows: balanced to a backend and back, or passed on as they are; everything else has its reason."""

from __future__ import annotations

import pytest

from hasyncd._native import INSIDE, OUTSIDE, BackendTable
from tests.native import engines, frames, frames6
from tests.native.engines import publish_ring
from tests.native.frames import ACK, FIN, RST, SYN, TCP, UDP
from tests.native.frames6 import (
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    datagram6,
    echo6,
    ethernet6,
    extension,
    fragment_header,
    ipv6,
    number6,
    segment6,
    tcp6,
    udp6,
)
from tests.native.gateway6 import (
    ANY,
    BACKENDS6,
    CLIENT,
    HOST,
    INSIDE_NET,
    INSIDE_VIP6,
    NAMES6,
    OTHER_HOST,
    OUTSIDE_NET,
    OUTSIDE_VIP6,
    OUTWARDS,
    ROUTER,
    SERVER,
    WEB6,
    Gateway6,
    mac6_of,
    make_engine,
)

ESP, AH, NO_NEXT, SCTP = 50, 51, 59, 132
BOTH_WAYS = ([INSIDE_NET], [], True)

ONE = BackendTable("consistent-hash", [(1, 1)], 2)


def test_a_balanced_connection_and_its_answers_are_exact_inverses() -> None:
    gateway = Gateway6()
    for port in range(4000, 4040):
        there = gateway.crosses(OUTSIDE, tcp6(CLIENT, port, OUTSIDE_VIP6, 80, SYN))
        assert (there.source, there.sport, there.dport) == (CLIENT, port, 8080)
        assert there.target in BACKENDS6.values()
        assert (there.hops, there.mac) == (63, mac6_of(INSIDE, there.target))
        back = gateway.crosses(INSIDE, tcp6(there.target, 8080, CLIENT, port, SYN | ACK, b""))
        assert back.ends == (OUTSIDE_VIP6, 80, CLIENT, port)
        again = gateway.crosses(OUTSIDE, tcp6(CLIENT, port, OUTSIDE_VIP6, 80, ACK, b"GET"))
        assert (again.target, again.payload) == (there.target, b"GET")
    shares = gateway.engine.backend_flow_counts(WEB6)
    assert sum(shares.values()) == 40
    assert min(shares.values()) > 5
    assert gateway.engine.flow_counts() == (40, 40, 0, 0)
    assert gateway.count("flows_created") == 40


def test_a_rewritten_packet_differs_in_ends_hop_limit_and_checksum_alone() -> None:
    gateway = Gateway6()
    sent = ipv6(CLIENT, OUTSIDE_VIP6, UDP, datagram6(CLIENT, 5000, OUTSIDE_VIP6, 53, b"who"))
    seen = gateway.crosses(OUTSIDE, ethernet6(sent))
    assert seen.packet[:7] == sent[:7], "traffic class, flow label and lengths"
    assert seen.packet[8:24] == sent[8:24], "the client is who it is"
    assert seen.packet[44:46] == sent[44:46]
    assert seen.payload == b"who"


def test_what_passes_is_not_changed_but_for_its_hop_limit() -> None:
    gateway = Gateway6()
    for frame, answer in (
        (udp6(HOST, 5000, SERVER, 53, b"odd"), udp6(SERVER, 53, HOST, 5000, b"even")),
        (tcp6(HOST, 5000, SERVER, 443, SYN), tcp6(SERVER, 443, HOST, 5000, SYN | ACK)),
        (echo6(HOST, SERVER, 77), echo6(SERVER, HOST, 77, reply=True)),
    ):
        out = gateway.crosses(INSIDE, frame)
        assert out.packet == frame[14:21] + b"\x3f" + frame[22:]
        assert out.mac == mac6_of(OUTSIDE, ROUTER), "the default route's gateway is link-local"
        back = gateway.crosses(OUTSIDE, answer)
        assert back.packet == answer[14:21] + b"\x3f" + answer[22:]
        assert back.mac == mac6_of(INSIDE, HOST)
    assert gateway.engine.flow_counts() == (3, 1, 1, 1)
    assert gateway.count("pass_flows") == 3


def test_a_pass_rule_opens_from_inside_alone_unless_it_says_otherwise() -> None:
    gateway = Gateway6()
    assert gateway.drops(OUTSIDE, udp6(SERVER, 53, HOST, 5000)) == "drop_no_rule"
    assert gateway.drops(OUTSIDE, echo6(CLIENT, HOST, 1)) == "drop_no_rule"
    gateway.engine.set_passes([OUTWARDS, ([(number6(HOST), 128)], [OUTSIDE_NET], True)])
    assert gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, HOST, 22, SYN)).target == HOST
    assert gateway.crosses(INSIDE, tcp6(HOST, 22, CLIENT, 4000, SYN | ACK)).source == HOST
    assert gateway.drops(OUTSIDE, tcp6(CLIENT, 4000, OTHER_HOST, 22, SYN)) == "drop_no_rule"
    assert gateway.drops(OUTSIDE, tcp6(SERVER, 4000, HOST, 22, SYN)) == "drop_no_rule"
    gateway.engine.set_passes([])
    assert gateway.drops(INSIDE, udp6(HOST, 5001, SERVER, 53)) == "drop_no_rule"
    assert gateway.crosses(INSIDE, tcp6(HOST, 22, CLIENT, 4000, ACK)), "what is open stays open"


def test_destinations_limit_a_pass_rule() -> None:
    gateway = Gateway6(passes=[([INSIDE_NET], [(number6("2001:4860::"), 32)], False)])
    assert gateway.crosses(INSIDE, udp6(HOST, 5000, SERVER, 53))
    assert gateway.drops(INSIDE, udp6(HOST, 5000, CLIENT, 53)) == "drop_no_rule"


def test_every_drop_has_its_reason() -> None:
    gateway = Gateway6(passes=[BOTH_WAYS])
    anything = b"x" * 16
    table = [
        (INSIDE, udp6(HOST, 1, SERVER, 53, hops=1), "drop_ttl"),  # an error leaves: see test_icmp6.py
        (INSIDE, udp6("2001:db8:7::1", 1, SERVER, 53), "drop_no_rule"),
        (INSIDE, tcp6(HOST, 1, SERVER, 80, ACK), "drop_no_flow"),
        (INSIDE, tcp6(HOST, 1, SERVER, 80, RST), "drop_no_flow"),
        (INSIDE, echo6(HOST, SERVER, 1, reply=True), "drop_no_flow"),
        (INSIDE, udp6(HOST, 1, OTHER_HOST, 53), "drop_same_side"),
        (OUTSIDE, udp6(OTHER_HOST, 1, HOST, 53), "drop_not_allowed"),  # its way back is on the other side
        (OUTSIDE, udp6(OUTSIDE_VIP6, 1, HOST, 53), "drop_no_rule"),  # nobody else speaks for a VIP
        (INSIDE, udp6(HOST, 1, OUTSIDE_VIP6, 9), "drop_no_rule"),
        (INSIDE, udp6(HOST, 1, INSIDE_VIP6, 53), "drop_no_rule"),
        (INSIDE, ethernet6(ipv6(HOST, SERVER, ESP, anything)), "drop_protocol"),
        (INSIDE, ethernet6(ipv6(HOST, SERVER, AH, anything)), "drop_protocol"),
        (INSIDE, ethernet6(ipv6(HOST, SERVER, SCTP, anything)), "drop_protocol"),
        (INSIDE, ethernet6(ipv6(HOST, SERVER, NO_NEXT, b"")), "drop_protocol"),
        (INSIDE, ethernet6(ipv6(HOST, SERVER, 253, anything)), "drop_protocol"),
    ]
    for side, frame, reason in table:
        before = gateway.engine.counters()
        gateway.engine.inject(side, frame, gateway.now)
        gateway.engine.take_sent()
        moved = engines.moved(gateway.engine.counters(), before)
        assert [name for name in moved if name.startswith("drop_")] == [reason], (reason, moved)
    assert gateway.flows() == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("fe80::7", SERVER), (HOST, "fe80::7"), ("::", SERVER), (HOST, "::"), ("::1", SERVER), (HOST, "::1"),
        ("ff02::1", SERVER), (HOST, "ff02::1"), (HOST, "ff0e::1"), ("::ffff:10.0.1.7", SERVER),
        (HOST, "::ffff:8.8.8.8"), ("::10.0.1.7", SERVER),
    ],
)  # fmt: skip
def test_what_is_link_local_or_a_groups_or_nobodys_is_never_forwarded(source: str, target: str) -> None:
    gateway = Gateway6(passes=[([ANY], [], True)])
    for side in (INSIDE, OUTSIDE):
        for frame in (
            udp6(source, 5000, target, 53),
            tcp6(source, 5000, target, 80, SYN),
            echo6(source, target, 1),
        ):
            assert gateway.drops(side, frame) == "drop_scope"


def test_a_link_local_client_gets_no_backend() -> None:
    gateway = Gateway6()
    assert gateway.drops(OUTSIDE, udp6("fe80::7", 5000, OUTSIDE_VIP6, 53)) == "drop_scope"


def test_a_groups_frame_is_not_forwarded_whatever_its_address() -> None:
    gateway = Gateway6()
    frame = udp6(HOST, 5000, SERVER, 53)
    assert gateway.drops(INSIDE, b"\x33\x33\0\0\0\1" + frame[6:]) == "drop_scope"


def chained(*headers: tuple[int, bytes], data: bytes = b"x") -> bytes:
    """A datagram behind extension headers, each a kind and what lies behind its first byte."""
    body, following = datagram6(HOST, 5000, SERVER, 53, data), UDP
    for kind, rest in reversed(headers):
        body, following = bytes([following]) + rest + body, kind
    return ethernet6(ipv6(HOST, SERVER, following, body))


OPTIONS = extension(0)[1:]
LONG_OPTIONS = extension(0, 64)[1:]
ALONE = fragment_header(0, 0, more=False)[1:]


def routing(kind: int, left: int) -> bytes:
    return extension(0, 24, bytes([kind, left]) + bytes(4))[1:]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(HOP_BY_HOP, OPTIONS)], None),
        ([(DESTINATION_OPTIONS, LONG_OPTIONS)], None),
        ([(HOP_BY_HOP, OPTIONS), (DESTINATION_OPTIONS, OPTIONS), (ROUTING, routing(2, 0))], None),
        ([(FRAGMENT, ALONE)], None),  # RFC 6946: a packet like any other
        ([(HOP_BY_HOP, OPTIONS), (FRAGMENT, ALONE), (DESTINATION_OPTIONS, OPTIONS)], None),
        ([(DESTINATION_OPTIONS, OPTIONS)] * 8, None),
        ([(DESTINATION_OPTIONS, OPTIONS)] * 9, "drop_extension_header"),
        ([(DESTINATION_OPTIONS, OPTIONS), (HOP_BY_HOP, OPTIONS)], "drop_extension_header"),  # RFC 8200 §4.1
        ([(ROUTING, routing(0, 0))], "drop_extension_header"),  # RFC 5095
        ([(ROUTING, routing(0, 1))], "drop_extension_header"),
        ([(ROUTING, routing(2, 1))], "drop_extension_header"),
        ([(FRAGMENT, ALONE), (FRAGMENT, ALONE)], "drop_extension_header"),
    ],
)
def test_the_chain_of_extension_headers(headers: list[tuple[int, bytes]], reason: str | None) -> None:
    gateway = Gateway6()
    if reason:
        assert gateway.drops(INSIDE, chained(*headers)) == reason
    else:
        seen = gateway.crosses(INSIDE, chained(*headers, data=b"data"))
        assert (seen.ends, seen.payload) == ((HOST, 5000, SERVER, 53), b"data")


def test_a_balanced_packet_keeps_its_extension_headers() -> None:
    gateway = Gateway6()
    body = extension(TCP, 16) + segment6(CLIENT, 4000, OUTSIDE_VIP6, 80, SYN)
    seen = gateway.crosses(OUTSIDE, ethernet6(ipv6(CLIENT, OUTSIDE_VIP6, DESTINATION_OPTIONS, body)))
    assert seen.target in BACKENDS6.values()
    assert seen.packet[40:56] == body[:16]


def test_jumbograms_and_lengths_that_lie() -> None:
    gateway = Gateway6()
    good = udp6(HOST, 5000, SERVER, 53, b"x" * 30)
    jumbo = good[:18] + b"\0\0\0" + good[21:54] + bytes([UDP, 0, 0xC2, 4, 0, 1, 0, 0]) + good[54:]
    assert gateway.drops(INSIDE, jumbo) == "drop_extension_header"
    for broken in (
        good[:53], good[:-1], good[:14] + b"\x45" + good[15:], good[:18] + b"\xff\xff" + good[20:],
        good[:58] + b"\0\x07" + good[60:], good[:58] + b"\0\xff" + good[60:],
        ethernet6(ipv6(HOST, SERVER, TCP, bytes(19))),
        ethernet6(ipv6(HOST, SERVER, TCP, bytes(12) + b"\x40" + bytes(7))),
        ethernet6(ipv6(HOST, SERVER, HOP_BY_HOP, b"\x11\1" + bytes(6))), ethernet6(ipv6(HOST, SERVER, UDP, bytes(7))),
        ethernet6(ipv6(HOST, SERVER, frames6.ICMPV6, bytes(7))),
    ):  # fmt: skip
        assert gateway.drops(INSIDE, broken) == "drop_malformed"
    padded = gateway.frames(INSIDE, good + b"padding of the link")
    assert [len(frame) for _, frame in padded] == [len(good)]


def test_routes_of_both_families_and_the_longest_prefix() -> None:
    gateway = Gateway6(passes=[([ANY], [], True)])
    assert gateway.crosses(OUTSIDE, udp6(CLIENT, 1, "2001:db8:9::5", 53)).mac == mac6_of(INSIDE, ROUTER)
    assert gateway.crosses(OUTSIDE, udp6(CLIENT, 1, HOST, 53)).mac == mac6_of(INSIDE, HOST)
    gateway.engine.set_routes([(*INSIDE_NET, INSIDE, 0)])
    assert gateway.drops(INSIDE, udp6(HOST, 1, SERVER, 53)) == "drop_no_route"
    assert gateway.drops(OUTSIDE, udp6(CLIENT, 2, HOST, 53)) == "drop_no_route"  # no way back


def test_a_packet_waits_for_its_neighbour_which_is_asked_for_by_side() -> None:
    gateway = Gateway6()
    engine = gateway.engine
    engine.used_neighbours()
    engine.set_neighbours([(OUTSIDE, number6(ROUTER), b"")])
    gateway.now = engines.now_ns()
    for port in (1, 2):
        assert gateway.frames(INSIDE, udp6(HOST, port, SERVER, 53)) == []
    assert engine.wanted_neighbours() == [(OUTSIDE, number6(ROUTER))]
    assert engine.wanted_neighbours() == []
    engine.set_neighbours([(OUTSIDE, number6(ROUTER), b"\x01\x02\x03\x04\x05\x06")])
    assert [frames6.read6(frame).mac for _, frame in engine.take_sent()] == [b"\x01\x02\x03\x04\x05\x06"] * 2
    assert engine.used_neighbours() == [(OUTSIDE, number6(ROUTER))]
    assert engine.used_neighbours() == []
    engine.set_neighbours([(OUTSIDE, bytes(16), b"\0" * 6)])  # :: is nobody


def test_a_scan_cannot_fill_the_mirror_for_good() -> None:
    gateway = Gateway6(passes=[([ANY], [], True)], capacity=8192)
    gateway.now = engines.now_ns()
    for host in range(5000):
        gateway.frames(OUTSIDE, udp6(CLIENT, 1, f"2001:db8:1::{host:x}:1", 53))
    assert len(gateway.engine.wanted_neighbours()) > 2000
    gateway.engine.used_neighbours()
    gateway.engine.used_neighbours()
    gateway.engine.set_neighbours([(INSIDE, number6("2001:db8:1::abcd"), b"\x02" * 6)])
    assert gateway.crosses(OUTSIDE, udp6(CLIENT, 1, "2001:db8:1::abcd", 53)).mac == b"\x02" * 6


def test_a_service_allows_whom_it_names_and_keeps_its_flows_backends() -> None:
    gateway = Gateway6()
    gateway.engine.set_service(WEB6, number6(OUTSIDE_VIP6), 80, 6, [(number6("2001:db8:2::100"), 127)])
    assert gateway.drops(OUTSIDE, tcp6(SERVER, 4000, OUTSIDE_VIP6, 80, SYN)) == "drop_not_allowed"
    target = gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, SYN)).target
    gateway.crosses(INSIDE, tcp6(target, 8080, CLIENT, 4000, SYN | ACK))
    [left] = [server_id for server_id, address in BACKENDS6.items() if address != target]
    drained = (3 - left, number6(target), 8080, 1)
    publish_ring(gateway.engine, WEB6, [(left, number6(BACKENDS6[left]), 8080, 1)], 2, draining=[drained])
    assert gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, ACK)).target == target
    for port in range(4001, 4011):
        assert gateway.crosses(OUTSIDE, tcp6(CLIENT, port, OUTSIDE_VIP6, 80, SYN)).target == BACKENDS6[left]
    publish_ring(gateway.engine, WEB6, [], 3)
    assert gateway.drops(OUTSIDE, tcp6(CLIENT, 5000, OUTSIDE_VIP6, 80, SYN)) == "drop_no_backend"
    assert sum(gateway.engine.backend_flow_counts(WEB6).values()) == 11


def test_two_ways_to_one_pair_of_ends_are_not_mixed_up() -> None:
    """A client that speaks to the backend itself, from a port from which it speaks to the service."""
    gateway = Gateway6(passes=[([ANY], [], True)])
    target = gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, SYN)).target
    assert gateway.drops(OUTSIDE, tcp6(CLIENT, 4000, target, 8080, SYN)) == "drop_not_allowed"
    assert gateway.crosses(OUTSIDE, tcp6(CLIENT, 4001, target, 8080, SYN)).target == target
    publish_ring(gateway.engine, WEB6, [(1, number6(target), 8080, 1)], 2)
    assert gateway.drops(OUTSIDE, tcp6(CLIENT, 4001, OUTSIDE_VIP6, 80, SYN)) == "drop_no_backend"


def test_both_directions_die_together() -> None:
    gateway = Gateway6()
    target = gateway.crosses(OUTSIDE, udp6(CLIENT, 4000, OUTSIDE_VIP6, 53)).target
    gateway.crosses(INSIDE, udp6(HOST, 4000, SERVER, 53))
    assert len(gateway.flows()) == 2
    gateway.wait(301)
    assert gateway.flows() == []
    assert gateway.engine.digest() == (0, 0)
    assert gateway.drops(OUTSIDE, udp6(SERVER, 53, HOST, 4000)) == "drop_no_rule"
    assert gateway.crosses(INSIDE, udp6(target, 8080, CLIENT, 4000)).source == target, "passed, not balanced"


def test_a_tcp_flow_goes_through_its_states_as_in_ipv4() -> None:
    gateway = Gateway6()
    steps = [
        (INSIDE, SYN, 1), (OUTSIDE, SYN | ACK, 2), (INSIDE, ACK, 3), (OUTSIDE, FIN | ACK, 4), (INSIDE, ACK, 5),
        (INSIDE, FIN | ACK, 6), (OUTSIDE, ACK, 7),
    ]  # fmt: skip
    for side, flags, state in steps:
        ends = (HOST, 4000, SERVER, 443) if side == INSIDE else (SERVER, 443, HOST, 4000)
        gateway.crosses(side, tcp6(*ends, flags))
        assert gateway.flows()[0][9] == state
    assert gateway.drops(OUTSIDE, tcp6(SERVER, 443, HOST, 4000, SYN)) == "drop_tcp_invalid"
    assert gateway.crosses(INSIDE, tcp6(HOST, 4000, SERVER, 443, SYN)), "a new connection on the same ports"
    assert gateway.flows()[0][9] == 1


def test_a_full_table_holds_both_families_and_takes_no_more() -> None:
    gateway = Gateway6(capacity=8)
    for port in range(4):
        gateway.crosses(INSIDE, udp6(HOST, 5000 + port, SERVER, 53))
        gateway.engine.inject(INSIDE, frames.udp(engines.PRIVATE, 5000 + port, "8.8.8.8", 53), gateway.now)
        assert len(gateway.engine.take_sent()) == 1
    assert gateway.drops(INSIDE, udp6(HOST, 6000, SERVER, 53)) == "drop_table_full"
    gateway.engine.inject(INSIDE, frames.udp(engines.PRIVATE, 6000, "8.8.8.8", 53), gateway.now)
    assert gateway.engine.take_sent() == []
    assert gateway.engine.flow_counts() == (8, 0, 8, 0)
    gateway.wait(301)
    assert gateway.engine.digest() == (0, 0)
    for port in range(8):
        gateway.crosses(INSIDE, udp6(HOST, 7000 + port, SERVER, 53))


def test_half_open_flows_are_counted_by_the_64_bits_that_one_sender_has() -> None:
    gateway = Gateway6(passes=[([ANY], [], True)])
    gateway.engine.set_policy(half_open_per_source=4)
    for host in range(4):
        gateway.crosses(OUTSIDE, tcp6(f"2001:db8:77::{host + 1}", 4000, OUTSIDE_VIP6, 80, SYN))
    assert (
        gateway.drops(OUTSIDE, tcp6("2001:db8:77::99", 4000, OUTSIDE_VIP6, 80, SYN))
        == "drop_half_open_source"
    )
    target = gateway.crosses(OUTSIDE, tcp6("2001:db8:77:1::99", 4000, OUTSIDE_VIP6, 80, SYN)).target
    gateway.crosses(INSIDE, tcp6(target, 8080, "2001:db8:77:1::99", 4000, RST | ACK))
    gateway.wait(241)
    gateway.crosses(OUTSIDE, tcp6("2001:db8:77::99", 4000, OUTSIDE_VIP6, 80, SYN))


def test_loose_pick_up_where_it_leads_to_the_same_host() -> None:
    gateway = Gateway6()
    gateway.engine.set_policy(loose=True)
    gateway.crosses(INSIDE, tcp6(HOST, 4000, SERVER, 443, ACK))
    gateway.crosses(OUTSIDE, tcp6(SERVER, 443, HOST, 4000, ACK))
    gateway.crosses(OUTSIDE, tcp6(CLIENT, 4000, OUTSIDE_VIP6, 80, ACK))
    assert gateway.count("flows_picked_up") == 2
    assert gateway.drops(OUTSIDE, tcp6(SERVER, 443, HOST, 4001, ACK)) == "drop_no_rule"


def test_an_inside_host_cannot_reach_a_service_whose_backend_is_beside_it() -> None:
    """Without NAT66 the backend would answer it past us."""
    gateway = Gateway6()
    assert gateway.drops(INSIDE, udp6(HOST, 5000, OUTSIDE_VIP6, 53)) == "drop_same_side"


def test_without_a_lease_nothing_moves() -> None:
    gateway = Gateway6()
    gateway.engine.set_lease(0)
    for frame in (
        udp6(CLIENT, 1, OUTSIDE_VIP6, 53), echo6(CLIENT, OUTSIDE_VIP6, 1),
        frames6.solicitation(CLIENT, OUTSIDE_VIP6), frames6.solicitation("::", OUTSIDE_VIP6, mac=None),
    ):  # fmt: skip
        assert gateway.drops(OUTSIDE, frame) == "drop_no_lease"
    assert gateway.engine.announce() == 0


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set_vips", ([(0, b"\0" * 15)],)),
        ("set_vips", ([(0, number6("fe80::1"))],)),
        ("set_vips", ([(0, number6("ff02::1"))],)),
        ("set_vips", ([(0, number6("::ffff:1.2.3.4"))],)),
        ("set_vips", ([(0, 2**32)],)),
        ("set_service", (4, number6(OUTSIDE_VIP6), 80, 6, [(0, 0)])),
        ("set_service", (4, 1, 80, 6, [ANY])),
        ("set_service", (WEB6, 1, 80, 6, [(0, 0)])),  # it has backends of IPv6
        ("publish", (WEB6, [(1, 1, 80, 1, 0)], ONE)),
        ("publish", (0, [(1, number6(HOST), 80, 1, 0)], ONE)),
        ("publish", (NAMES6, [(1, number6("fe80::1"), 80, 1, 0)], ONE)),
        ("set_passes", ([([(0, 0)], [], False)],)),
        ("set_passes", ([([ANY], [(0, 0)], False)],)),
        ("set_passes", ([([(bytes(16), 129)], [], False)],)),
        ("set_passes", ([([ANY] * 65, [], False)],)),
        ("set_passes", ([([ANY], [], False)] * 65,)),
        ("set_nat_rules", ([([ANY], [], [1], 1, 2)],)),
        ("set_forwards", ([(1, 1, 6, 1, 1, [ANY])],)),
        ("set_routes", ([(bytes(16), 129, 0, 0)],)),
        ("set_routes", ([(bytes(16), 0, 0, 1)],)),
        ("set_routes", ([(0, 0, 0, number6(ROUTER))],)),
        ("set_routes", ([(0, 33, 0, 0)],)),
        ("set_neighbours", ([(0, b"\0" * 4, b"\0" * 6)],)),
    ],
)
def test_what_is_of_another_family_or_out_of_range_is_an_error(
    method: str, arguments: tuple[object, ...]
) -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match=r"."):
        getattr(engine, method)(*arguments)
    assert len(engines.flows(engine)) == 0
