"""The log of mappings: one line for each that was made or ended, in a bounded ring (RFC 6888 REQ-12 to 14)."""

from __future__ import annotations

import json
from typing import Any

from tests.native.frames import SYN, echo, number, tcp, udp
from tests.native.nat_gateway import SECOND, Gateway, nat_rule

SERVER = "8.8.8.8"
YEAR_2026_NS = 1_795_442_400_000_000_000  # 2026-11-23T14:00:00Z, less 1,000 s of the gateway's clock


def lines(gateway: Gateway) -> list[dict[str, Any]]:
    taken = b""
    while piece := gateway.engine.take_mappings(YEAR_2026_NS - 1000 * SECOND):
        taken += piece
    assert not taken or taken.endswith(b"\n")
    return [json.loads(line) for line in taken.splitlines()]


def logging_gateway(*, ring: int = 1 << 16, destinations: bool = False, first: int = 40000) -> Gateway:
    gateway = Gateway(rules=[nat_rule(first=first, last=40000)])
    gateway.engine.open_mapping_log(ring, destinations)
    gateway.engine.set_nat_options(0, log=True)
    assert lines(gateway) == []
    return gateway


def test_a_line_for_each_mapping_made_and_ended_and_no_destination() -> None:
    gateway = logging_gateway()
    gateway.now += 123_000_000
    gateway.out(udp("10.0.1.7", 5353, SERVER, 53, b"x"))
    gateway.out(udp("10.0.1.7", 5353, SERVER, 53, b"again"))
    gateway.wait(301)
    made = {
        "time": "2026-11-23T14:00:00.123Z", "event": "made", "protocol": "udp",
        "inside": "10.0.1.7:5353", "public": "203.0.113.6:40000", "rule": 0,
    }  # fmt: skip
    assert lines(gateway) == [made, made | {"time": "2026-11-23T14:05:01.123Z", "event": "ended"}]


def test_every_protocol_and_the_destination_if_asked_for() -> None:
    gateway = logging_gateway(destinations=True)
    gateway.out(tcp("10.0.1.7", 1, SERVER, 80, SYN))
    gateway.out(echo("10.0.1.8", SERVER, 77))
    assert [
        (line["protocol"], line["inside"], line["public"], line["destination"]) for line in lines(gateway)
    ] == [
        ("tcp", "10.0.1.7:1", "203.0.113.6:40000", "8.8.8.8:80"),
        ("icmp", "10.0.1.8:77", "203.0.113.6:40000", "8.8.8.8:0"),
    ]


def test_only_what_was_translated_by_a_rule_that_logs() -> None:
    gateway = logging_gateway()
    gateway.engine.set_nat_options(0, log=True, exempt=[(number(SERVER), 32)])
    assert gateway.out(udp("10.0.1.7", 1, SERVER, 53, b"x"))
    gateway.engine.set_nat_options(0, log=False)
    assert gateway.out(udp("10.0.1.7", 2, "8.8.4.4", 53, b"x"))
    gateway.wait(301)
    assert lines(gateway) == []


def test_what_finds_no_room_is_counted_and_told() -> None:
    gateway = logging_gateway(ring=4096, first=39000)
    for sport in range(1, 101):
        assert gateway.out(udp("10.0.1.7", sport, SERVER, 53, b"x"))
    lost = gateway.count("mapping_lines_lost")
    kept = lines(gateway)
    assert len(kept) + lost == 100
    assert lost > 50
    gateway.out(udp("10.0.1.8", 1, SERVER, 53, b"x"))
    told, made = lines(gateway)
    assert (told["event"], told["lines"]) == ("lost", lost)
    assert made["inside"] == "10.0.1.8:1"


def test_the_ring_wraps_between_lines_of_any_length() -> None:
    gateway = logging_gateway(ring=4099, first=1024)
    for sport in range(1, 500):
        left = gateway.out(udp("10.0.1.7", sport, SERVER, 53, b"x"))
        assert left
        (line,) = lines(gateway)
        assert (line["inside"], line["public"]) == (f"10.0.1.7:{sport}", f"203.0.113.6:{left.sport}")


def test_a_backup_logs_nothing_that_it_did_not_do() -> None:
    """What the primary made and ended is in the primary's log; after a takeover the end of its mappings is ours."""
    first, second = logging_gateway(), logging_gateway()
    assert first.out(tcp("10.0.1.7", 1, SERVER, 80, SYN))
    assert first.out(udp("10.0.1.7", 2, SERVER, 53, b"x"))
    second.engine.install(first.engine.drain()[2], second.now)
    assert second.flows == 2
    first.wait(241)  # the half-open one is over
    second.now = first.now
    second.engine.install(first.engine.drain()[2], second.now)
    assert second.flows == 1
    assert lines(second) == []
    second.wait(301)
    assert [(line["event"], line["inside"]) for line in lines(second)] == [("ended", "10.0.1.7:2")]
