"""Two real daemons, and somebody beside the wire with tshark and proto/hasync.lua."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hasyncd.pair_files import make_pair_files
from tests.e2e.sniffer import captured
from tests.e2e.world import HOST, OUTSIDE_VIP, SERVER, SYNC, World, until, world
from tests.proto.wireshark import dissect, findings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PATIENT = "dead_after_ms = 3000"
"""A starved machine is no dead one: the story is to end with a hand-over."""
Packets = list[dict[str, list[str]]]


def an_exchange(machines: World, capture: Path, *options: str) -> None:
    """From the first heartbeat to a flow that is the backup's, and a hand-over. `options`: of [peer], a node each."""
    a, b = machines.a, machines.b
    with captured(a.namespace, "sync", capture):
        for gateway in (a, b):
            gateway.start("insecure = true", f"{options[gateway is b]}\n{PATIENT}")
        until(lambda: a.status["sync"]["state"] == b.status["sync"]["state"] == "ready", "the pair is ready")
        machines.wait_traffic()
        until(lambda: b.status["flows"]["total"] == 1, "the flow is the backup's")
        a.ask("switchover")
        b.wait_role("primary")


def frames(packets: Packets) -> list[str]:
    return [kind for packet in packets for kind in packet.get("hasync.type", [])]


def assert_the_story_is_told(packets: Packets) -> None:
    """Every frame of the exchange, and the one flow, field by field."""
    assert [each for packet in packets for each in findings(packet)] == []
    told = frames(packets)
    assert told[:3] == ["1", "2", "5"], "HELLO, HELLO_REPLY, SYNC_BEGIN"
    assert {"6", "7", "8"} <= set(told), "DELTAS, SYNC_END, LEAVING"
    adds = [packet for packet in packets if "1" in packet.get("hasync.record.kind", [])]
    flow = {
        name: adds[0][f"hasync.record.{name}"] for name in ("src_addr", "dst_addr", "dst_port", "nat_addr")
    }
    assert flow == {"src_addr": [HOST], "dst_addr": [SERVER], "dst_port": ["7000"], "nat_addr": [OUTSIDE_VIP]}
    hello = next(packet for packet in packets if "1" in packet.get("hasync.type", []))
    assert (hello["hasync.node"], hello["hasync.capacity"]) == (["gw-a"], ["4096"])


def assert_heartbeats_are_shown(packets: Packets) -> None:
    beats = [
        each for each in packets if "hasync.counter" in each and "icmp.type" not in each
    ]  # none quoted in an error
    assert {(beat["ip.src"][0], beat["hasync.node"][0]) for beat in beats} == {
        (SYNC[name], name) for name in ("gw-a", "gw-b")
    }
    assert {beat["hasync.role"][0] for beat in beats} >= {"1", "2"}


def test_an_exchange_in_the_plain_is_shown_whole(tmp_path: Path) -> None:
    with world() as machines:
        an_exchange(machines, tmp_path / "plain.pcap", "insecure = true", "insecure = true")
    packets = dissect(tmp_path / "plain.pcap")
    assert_the_story_is_told(packets)
    assert_heartbeats_are_shown(packets)


def test_an_exchange_under_tls_is_shown_with_the_key_log_and_not_without(tmp_path: Path) -> None:
    secrets, capture = tmp_path / "secrets", tmp_path / "tls.pcap"
    with world() as machines:
        make_pair_files(machines.a.directory / "keys", ("gw-a", "gw-b"))
        keys = [f'keys = "{machines.a.directory}/keys/{name}"' for name in ("gw-a", "gw-b")]
        an_exchange(machines, capture, f'{keys[0]}\nkey_log = "{secrets}"', keys[1])
        assert "key_log" in machines.a.log
        assert machines.a.status["peer"]["key_log"] == str(secrets)
        assert machines.b.status["peer"]["key_log"] is None
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    blind = dissect(capture)
    assert frames(blind) == []
    assert_heartbeats_are_shown(blind)
    assert all("hasync.seal" in packet for packet in blind if "hasync.counter" in packet)
    assert_the_story_is_told(dissect(capture, "-o", f"tls.keylog_file:{secrets}"))
