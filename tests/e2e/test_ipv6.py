"""IPv6 through a pair of daemons, between real kernels: who answers, what passes, what a takeover moves."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.datapath.namespaces import Namespace
from tests.e2e.dual_stack import (
    BACKEND_PORT,
    FAR6,
    HOST6,
    INSIDE_VIP6,
    OUTSIDE_VIP6,
    PATH_MTU,
    SERVER6,
    SERVICE_PORT,
    DualStack,
    dual_stack,
    mac_of,
    neighbour,
    opened,
)
from tests.e2e.world import ROOT, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_IPV6_RECVERR, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_DO, _IPV6_MTU = 25, 23, 2, 24  # linux/in6.h


@pytest.fixture(scope="module")
def running() -> Iterator[DualStack]:
    """A ready pair that no test of this module takes over."""
    with dual_stack() as made:
        made.start()
        yield made


@pytest.fixture
def pair() -> Iterator[DualStack]:
    with dual_stack() as made:
        made.start()
        yield made


def pings(namespace: Namespace, target: str, *options: str) -> bool:
    command = ["ip", "netns", "exec", namespace.name, "ping", "-6", "-q", "-c", "2", "-i", "0.2", "-W", "5"]
    return subprocess.run([*command, *options, target], check=False, capture_output=True).returncode == 0


def receive_all(stream: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = stream.recv(min(length, 1 << 20))
        assert part, f"the stream ended {length} bytes early"
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def transfer(client: Namespace, target: tuple[str, int], server: Namespace, port: int, length: int) -> str:
    """Random bytes there, others back over one connection; the client's address as the server sees it."""
    up, down = random.Random(1).randbytes(length), random.Random(2).randbytes(length)
    seen: list[str | bytes] = []

    def serve(listener: socket.socket) -> None:
        stream, peer = listener.accept()
        stream.settimeout(30)
        with stream:
            seen.append(peer[0])
            seen.append(receive_all(stream, length))
            stream.sendall(down)

    with opened(server, socket.SOCK_STREAM) as listener, opened(client, socket.SOCK_STREAM) as stream:
        listener.bind(("::", port))
        listener.listen()
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        try:
            stream.connect(target)
            stream.sendall(up)
            received = receive_all(stream, length)
        finally:
            serving.join()
    assert received == down
    assert seen[1] == up
    return str(seen[0])


def path_mtu(namespace: Namespace, target: str) -> int:
    found = json.loads(namespace.ip("-j", "-d", "-6", "route", "get", target))[0]
    return int(found.get("metrics", [{}])[0].get("mtu", 0))


def test_vips_answer_and_hosts_reach_each_other(running: DualStack) -> None:
    before = running.a.status["counters"]["echo_answered"]
    assert pings(running.host, INSIDE_VIP6)
    assert pings(running.server, OUTSIDE_VIP6)
    assert running.a.status["counters"]["echo_answered"] == before + 4
    assert pings(running.host, SERVER6)
    assert pings(running.host, FAR6, "-s", "1000")


def test_what_nobody_opened_from_inside_stays_out(running: DualStack) -> None:
    """`inbound` is false: a private host is no server for the world."""
    before = running.a.status["counters"]["drop_no_rule"]
    assert not pings(running.server, HOST6, "-W", "1")
    assert running.a.status["counters"]["drop_no_rule"] > before


def test_tcp_passes_untranslated_bit_for_bit(running: DualStack) -> None:
    assert transfer(running.host, (SERVER6, 7100), running.server, 7100, 16 << 20) == HOST6


def test_tcp_through_the_service_keeps_the_client(running: DualStack) -> None:
    target = (OUTSIDE_VIP6, SERVICE_PORT)
    before = running.a.status["counters"]["send_errors"]
    assert transfer(running.server, target, running.host, BACKEND_PORT, 16 << 20) == SERVER6
    assert running.a.status["counters"]["send_errors"] == before, "the kernel segments what it is given"


def test_path_mtu_discovery_works_for_private_hosts(running: DualStack) -> None:
    """The router before the thin link says packet too big; the daemon lets the word through."""
    assert transfer(running.host, (FAR6, 7101), running.far, 7101, 1 << 20) == HOST6
    assert path_mtu(running.host, FAR6) == PATH_MTU


def test_path_mtu_discovery_works_for_backends(running: DualStack) -> None:
    """Here the word quotes a packet from the VIP: the backend hears of its own."""
    running.host.ip("-6", "route", "flush", "cache")
    before = running.a.status["counters"]["icmp_errors_translated"]
    assert transfer(running.far, (OUTSIDE_VIP6, SERVICE_PORT), running.host, BACKEND_PORT, 1 << 20) == FAR6
    assert running.a.status["counters"]["icmp_errors_translated"] > before
    assert path_mtu(running.host, FAR6) == PATH_MTU


def test_a_datagram_too_big_for_the_daemons_own_link_is_told(pair: DualStack) -> None:
    for gateway in (pair.a, pair.b):
        gateway.kill()
        gateway.namespace.ip("link", "set", "outside", "mtu", "1400")
    pair.a.start()
    pair.a.wait_role("primary")
    assert pings(pair.host, SERVER6)
    with opened(pair.host, socket.SOCK_DGRAM) as near:
        near.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_DO)
        near.connect((SERVER6, 7102))

        def learnt() -> bool:
            try:
                near.send(bytes(1440))
            except OSError:
                pass  # what came back is told here, too
            return near.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) == 1400

        until(learnt, "packet too big has arrived")
    assert pair.a.status["counters"]["packet_too_big_sent"] >= 1


def hop(running: DualStack, hops: int) -> tuple[str, int, int]:
    """Who answers a probe of so many hops, with which ICMPv6 type and code: one line of traceroute -6."""
    with opened(running.host, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        probe.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        probe.connect((FAR6, 33434))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                probe.send(b"probe")
                time.sleep(0.05)
                _, ancillary, _, _ = probe.recvmsg(2000, 2000, socket.MSG_ERRQUEUE)
            except OSError:
                continue  # nothing yet, or the error itself, told beside the queue
            data = ancillary[0][2]  # struct sock_extended_err, then the offender's sockaddr_in6
            return socket.inet_ntop(socket.AF_INET6, data[24:40]), data[5], data[6]
    raise AssertionError("nobody answered")


def test_traceroute_shows_the_gateway_and_what_lies_behind_it(running: DualStack) -> None:
    assert hop(running, 1) == (INSIDE_VIP6, 3, 0)
    assert hop(running, 2) == (SERVER6, 3, 0)
    assert hop(running, 3) == (FAR6, 1, 4), "the end: port unreachable"


@pytest.mark.parametrize("way", ["pass", "service"])
def test_fragmented_datagrams_pass_both_ways(running: DualStack, way: str) -> None:
    message = random.Random(5).randbytes(6000)
    client, server = (running.host, running.server) if way == "pass" else (running.server, running.host)
    target, port = ((SERVER6, 7103), 7103) if way == "pass" else ((OUTSIDE_VIP6, SERVICE_PORT), BACKEND_PORT)
    before = running.a.status["counters"]["fragments_forwarded"]
    with opened(client, socket.SOCK_DGRAM) as near, opened(server, socket.SOCK_DGRAM) as there:
        there.bind(("::", port))
        near.connect(target)
        near.send(message)
        received, peer = there.recvfrom(65535)
        assert received == message
        there.sendto(received[::-1], peer)
        assert near.recv(65535) == message[::-1]
    assert running.a.status["counters"]["fragments_forwarded"] >= before + 10


def cli(running: DualStack, *words: str) -> str:
    command = [sys.executable, "-m", "hasyncd", *words, "--socket", str(running.a.socket)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_flows_and_status_show_ipv6(running: DualStack) -> None:
    assert pings(running.host, FAR6)
    with opened(running.server, socket.SOCK_DGRAM) as near, opened(running.host, socket.SOCK_DGRAM) as there:
        there.bind((HOST6, BACKEND_PORT))
        near.connect((OUTSIDE_VIP6, SERVICE_PORT))
        near.send(b"question")
        assert there.recv(100) == b"question"
    lines = cli(running, "flows", "--json", "--src", "2001:db8:1::/64", "--proto", "icmpv6").splitlines()
    found = [flow for flow in map(json.loads, lines) if flow["dst"] == FAR6]
    assert found
    assert {(flow["src"], flow["reply_src"], flow["reply_dst"]) for flow in found} == {(HOST6, FAR6, HOST6)}
    assert f"src={SERVER6} dst={OUTSIDE_VIP6}" in cli(running, "flows", "--service", "udp6")
    assert "[2001:db8:2::5]:80" in cli(running, "status")

    def vips() -> dict[str, Any]:
        return {vip["address"]: vip for vip in running.a.status["vips"]}

    assert vips()["2001:db8:1::1/64"]["owned"] is True
    until(lambda: vips()["2001:db8:2::5/64"]["verified"], "traffic has come, and nobody else has it")


def test_neighbours_relearn_at_once_from_the_new_primary(pair: DualStack) -> None:
    """No packet of theirs is needed: the unsolicited advertisement changes what they hold."""
    assert pings(pair.host, INSIDE_VIP6)
    assert pings(pair.server, OUTSIDE_VIP6)
    ends = ((pair.host, INSIDE_VIP6, "inside"), (pair.server, OUTSIDE_VIP6, "outside"))
    for namespace, vip, side in ends:
        assert neighbour(namespace, vip) == mac_of(pair.a.namespace, side)
    pair.a.kill()
    pair.b.wait_role("primary")
    for namespace, vip, side in ends:
        mac = mac_of(pair.b.namespace, side)
        until(lambda n=namespace, v=vip, m=mac: neighbour(n, v) == m, f"{vip} moved")  # type: ignore[misc]
    assert pings(pair.host, INSIDE_VIP6)
    assert pings(pair.host, SERVER6)


def test_connections_of_both_ways_outlive_the_primary(pair: DualStack) -> None:
    ways = (
        (pair.host, (SERVER6, 7104), pair.server, 7104),
        (pair.server, (OUTSIDE_VIP6, SERVICE_PORT), pair.host, BACKEND_PORT),
    )
    connected = []
    for client, target, server, port in ways:
        with opened(server, socket.SOCK_STREAM) as listener:
            listener.bind(("::", port))
            listener.listen()
            near = opened(client, socket.SOCK_STREAM)
            near.connect(target)
            there, _ = listener.accept()
            there.settimeout(30)
            connected.append((near, there))
    pair.a.signal(signal.SIGKILL)
    pair.a.end()
    for near, there in connected:
        with near, there:
            near.sendall(b"still here")
            assert there.recv(100) == b"still here"
            there.sendall(b"so am I")
            assert near.recv(100) == b"so am I"
    pair.b.wait_role("primary")


def test_a_lan_that_snoops_multicast_lets_solicitations_through(pair: DualStack) -> None:
    """A switch passes a group's frames only to who has reported for it (RFC 4541)."""
    lan = pair.machines.lan
    for bridge in ("br-in", "br-out"):
        for option in ("mcast_snooping", "mcast_querier"):
            lan.ip("link", "set", bridge, "type", "bridge", option, "1")
    groups = lan.run("bridge", "mdb", "show", "dev", "br-in")
    until(lambda: "ff02::1:ff00:1" in lan.run("bridge", "mdb", "show", "dev", "br-in"), f"a report: {groups}")
    pair.host.ip("-6", "neigh", "flush", "dev", "eth0")
    assert pings(pair.host, INSIDE_VIP6)


def test_the_sync_link_may_be_ipv6() -> None:
    with dual_stack() as made:
        for gateway, here, there in ((made.a, "[fd00::1]", "[fd00::2]"), (made.b, "[fd00::2]", "[fd00::1]")):
            peer = "169.254.10.2" if gateway is made.a else "169.254.10.1"
            own = "169.254.10.1" if gateway is made.a else "169.254.10.2"
            gateway.configuration = gateway.configuration.replace(own, here).replace(peer, there)
        made.start()
        assert pings(made.host, SERVER6)
        made.a.kill()
        made.b.wait_role("primary")
        assert made.b.status["last_change"] == "the primary's process is dead"
        assert pings(made.host, SERVER6)


def test_a_forwarding_kernel_is_kept_out(pair: DualStack) -> None:
    """Each packet once, and by the daemon: the kernel forwards neither to private hosts nor for them."""
    pair.a.kill()
    pair.b.kill()
    pair.a.namespace.sysctl("ipv6/conf/all/forwarding", "1")
    pair.a.namespace.ip("-6", "route", "replace", "default", "via", SERVER6)
    pair.a.start()
    pair.a.wait_role("primary")
    assert pings(pair.host, SERVER6)
    lines = pair.a.namespace.run("cat", "/proc/net/snmp6").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("Ip6OutForwDatagrams")] == ["0"]
    pair.a.signal(signal.SIGTERM)
    assert pair.a.end() == 0
    assert "protocol ipv6" in pair.a.filters(), "it stays: a forwarding kernel must not begin to"
    assert "protocol ip " not in pair.a.filters()


def test_an_address_that_comes_later_is_the_kernels(pair: DualStack) -> None:
    """Privacy addresses come and go: the drop follows them."""
    pair.a.namespace.ip("addr", "add", "2001:db8:1::99/64", "dev", "inside", "nodad")
    until(lambda: pings(pair.host, "2001:db8:1::99", "-W", "1"), "the kernel answers for it")


def test_backends_are_checked_over_ipv6() -> None:
    """The answers come from a private address to the gateway's own: they are the kernel's, not dropped."""
    with dual_stack() as made:
        old = f'address = "[{HOST6}]:{BACKEND_PORT}" }}]'
        made.a.start(old, f"{old}\nhealth = {{ interval_ms = 50, rise = 1, fall = 1 }}")
        made.a.wait_role("primary")

        def state() -> str:
            backend: str = made.a.status["services"][0]["backends"][0]["state"]
            return backend

        until(lambda: state() == "down", "nobody listens")
        with opened(made.host, socket.SOCK_STREAM) as listener:
            listener.bind(("::", BACKEND_PORT))
            listener.listen()
            until(lambda: state() == "up", "somebody listens")
        until(lambda: state() == "down", "nobody listens any more")


def test_an_interface_without_ipv6_is_told() -> None:
    with dual_stack() as made:
        made.a.namespace.sysctl("ipv6/conf/inside/disable_ipv6", "1")
        made.a.start()
        made.a.wait_role("primary")
        assert "inside has no IPv6 address" in made.a.log
        assert "outside has no IPv6 address" not in made.a.log


def test_a_vip_that_the_kernel_holds_refuses_the_start() -> None:
    with dual_stack() as made:
        made.a.namespace.ip("addr", "add", f"{OUTSIDE_VIP6}/128", "dev", "sync", "nodad")
        made.a.start()
        assert made.a.end() == 2
        assert "2001:db8:2::5 is configured on a kernel interface: remove it there" in made.a.log
