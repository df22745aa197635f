"""The engine between real kernels: default offloads, real TCP, ARP, ping and path MTU discovery.

private 10.0.1.7 ── inside [gateway: engine] outside ── 203.0.113.50 and .254 router ══ 198.51.100.9 far
   MTU 3000            VIPs 10.0.1.1, 203.0.113.5                   the way to `far` has an MTU of 1280
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.datapath.namespaces import Namespace, join, namespaces
from tests.native.frames import number

pytestmark = pytest.mark.e2e

PRIVATE, SERVER, ROUTER, FAR = "10.0.1.7", "203.0.113.50", "203.0.113.254", "198.51.100.9"
INSIDE_VIP, OUTSIDE_VIP = "10.0.1.1", "203.0.113.5"
INSIDE_MTU, OUTSIDE_MTU, PATH_MTU = 3000, 1500, 1280
SERVICE_PORT, BACKEND_PORT = 80, 8080
BULK = 16 << 20
ROOT = Path(__file__).parents[2]


class Gateway:
    """The engine's process and a line to it."""

    def __init__(self, namespace: Namespace, settings: dict[str, Any]) -> None:
        program = Path(__file__).with_name("gateway_process.py")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace.name, sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._ask(settings)

    def _ask(self, question: object) -> dict[str, int]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    def ask(self, name: str, *arguments: float) -> dict[str, int]:
        return self._ask([name, *arguments])

    def counters(self) -> dict[str, int]:
        return self.ask("counters")

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class World:
    private: Namespace
    router: Namespace
    far: Namespace
    gateway: Gateway


def mac_of(namespace: Namespace, name: str) -> str:
    found: str = json.loads(namespace.ip("-j", "link", "show", name))[0]["address"]
    return found.replace(":", "")


def address(namespace: Namespace, name: str, *addresses: str, mtu: int = 1500) -> None:
    namespace.ip("link", "set", name, "mtu", str(mtu))
    for one in addresses:
        namespace.ip("address", "add", one, "dev", name)


@pytest.fixture(scope="module", params=["poll", "thread", "mmsg"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The four namespaces; packets move by `poll` from an event loop, or in the packet thread, which
    reads from rings or, as the last, without."""
    with namespaces(4) as (private, gateway, router, far):
        join(private, "lan", gateway, "inside")
        join(gateway, "outside", router, "lan")
        join(router, "way", far, "lan")
        address(private, "lan", f"{PRIVATE}/24", mtu=INSIDE_MTU)
        address(gateway, "inside", "10.0.1.2/24", mtu=INSIDE_MTU)
        address(gateway, "outside", "203.0.113.2/24")
        address(router, "lan", f"{SERVER}/24", f"{ROUTER}/24")
        address(router, "way", "198.51.100.1/24")
        address(far, "lan", f"{FAR}/24")
        router.sysctl("ipv4/ip_forward", "1")
        router.ip("route", "replace", "198.51.100.0/24", "dev", "way", "mtu", str(PATH_MTU))
        private.ip("route", "add", "default", "via", INSIDE_VIP)
        far.ip("route", "add", "default", "via", "198.51.100.1")
        made = World()
        made.private, made.router, made.far = private, router, far
        made.gateway = Gateway(
            gateway,
            settings(private, gateway, router)
            | {"thread": request.param != "poll", "ring": request.param != "mmsg"},
        )
        try:
            yield made
        finally:
            made.gateway.close()


def settings(private: Namespace, gateway: Namespace, router: Namespace) -> dict[str, Any]:
    net_inside, net_outside = [number("10.0.1.0"), 24], [number("203.0.113.0"), 24]
    backends = [(1, number(PRIVATE), BACKEND_PORT, 1)]
    router_mac = mac_of(router, "lan")
    return {
        "sides": [
            ("inside", mac_of(gateway, "inside"), INSIDE_MTU),
            ("outside", mac_of(gateway, "outside"), OUTSIDE_MTU),
        ],
        "vips": [(0, number(INSIDE_VIP)), (1, number(OUTSIDE_VIP))],
        "routes": [(*net_inside, 0, 0), (*net_outside, 1, 0), (0, 0, 1, number(ROUTER))],
        "neighbours": [
            (0, number(PRIVATE), mac_of(private, "lan")),
            (1, number(SERVER), router_mac),
            (1, number(ROUTER), router_mac),
        ],
        "nat": [([net_inside], [], [number(OUTSIDE_VIP)], 1024, 65535)],
        "services": [
            (number(OUTSIDE_VIP), SERVICE_PORT, 6, backends),
            (number(OUTSIDE_VIP), SERVICE_PORT, 17, backends),
        ],
    }


def in_namespace(namespace: Namespace, kind: socket.SocketKind) -> socket.socket:
    with namespace.entered():
        made = socket.socket(socket.AF_INET, kind)
    made.settimeout(30)
    return made


def listen(namespace: Namespace, port: int) -> socket.socket:
    listener = in_namespace(namespace, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(16)
    return listener


def receive_all(stream: socket.socket, length: int) -> bytes:
    parts, left = [], length
    while left:
        part = stream.recv(min(left, 1 << 20))
        assert part, f"the stream ended {left} bytes early"
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def transfer_both_ways(client: Namespace, target: tuple[str, int], server: Namespace, length: int) -> str:
    """Sends random bytes to the server and others back over one connection; the client as the server sees it."""
    up, down = random.Random(1).randbytes(length), random.Random(2).randbytes(length)
    seen: list[str] = []
    port = BACKEND_PORT if target == (OUTSIDE_VIP, SERVICE_PORT) else target[1]

    def serve(listener: socket.socket) -> None:
        stream, peer = listener.accept()
        stream.settimeout(30)
        with stream:
            seen.append(peer[0])
            seen.append(hashlib.sha256(receive_all(stream, length)).hexdigest())
            stream.sendall(down)

    with listen(server, port) as listener, in_namespace(client, socket.SOCK_STREAM) as stream:
        listener.settimeout(30)
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        try:
            stream.connect(target)
            stream.sendall(up)
            received = receive_all(stream, length)
        finally:
            serving.join()
    assert received == down
    assert seen[1] == hashlib.sha256(up).hexdigest()
    return seen[0]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not become true"
        time.sleep(0.02)


def dropped(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {k: after[k] - before[k] for k in after if k.startswith("drop_") and after[k] != before[k]}


def test_tcp_through_source_nat_arrives_bit_for_bit(world: World) -> None:
    before = world.gateway.counters()
    assert transfer_both_ways(world.private, (SERVER, 7000), world.router, BULK) == OUTSIDE_VIP
    after = world.gateway.counters()
    assert dropped(before, after) == {}
    assert after["send_errors"] == before["send_errors"]
    # Super-packets passed whole: 32 MiB in MTU-sized pieces would be more than 23,000.
    assert after["sent_packets"] - before["sent_packets"] < 12_000


def test_tcp_through_a_service_arrives_bit_for_bit_and_keeps_the_client(world: World) -> None:
    before = world.gateway.counters()
    assert transfer_both_ways(world.router, (OUTSIDE_VIP, SERVICE_PORT), world.private, BULK) == SERVER
    assert dropped(before, world.gateway.counters()) == {}


@pytest.mark.parametrize("offload", ["tso", "tx", "gso"])
def test_tcp_survives_without_each_offload(world: World, offload: str) -> None:
    try:
        for namespace in (world.private, world.router):
            namespace.run("ethtool", "-K", "lan", offload, "off")
        assert transfer_both_ways(world.private, (SERVER, 7001), world.router, 1 << 20) == OUTSIDE_VIP
        assert transfer_both_ways(world.router, (OUTSIDE_VIP, SERVICE_PORT), world.private, 1 << 20) == SERVER
    finally:
        for namespace in (world.private, world.router):
            namespace.run("ethtool", "-K", "lan", "tx", "on", "tso", "on", "gso", "on")


@pytest.mark.parametrize("length", [0, 1, 33, 1472])
def test_udp_goes_there_and_back_through_nat_and_service(world: World, length: int) -> None:
    message = random.Random(length).randbytes(length)
    for client, target, server, port, seen_as in (
        (world.private, (SERVER, 7002), world.router, 7002, OUTSIDE_VIP),
        (world.router, (OUTSIDE_VIP, SERVICE_PORT), world.private, BACKEND_PORT, SERVER),
    ):
        with (
            in_namespace(client, socket.SOCK_DGRAM) as near,
            in_namespace(server, socket.SOCK_DGRAM) as there,
        ):
            there.bind(("0.0.0.0", port))
            near.connect(target)
            near.send(message)
            received, peer = there.recvfrom(65535)
            assert (received, peer[0]) == (message, seen_as)
            there.sendto(received[::-1], peer)
            assert near.recv(65535) == message[::-1]


def ping(namespace: Namespace, target: str, *options: str) -> bool:
    command = ["ip", "netns", "exec", namespace.name, "ping", "-q", "-c", "3", "-i", "0.05", "-W", "5"]
    return subprocess.run([*command, *options, target], check=False, capture_output=True).returncode == 0


def test_vips_answer_pings_and_pings_pass_the_nat(world: World) -> None:
    before = world.gateway.counters()
    assert ping(world.private, INSIDE_VIP)
    assert ping(world.router, OUTSIDE_VIP)
    assert ping(world.private, OUTSIDE_VIP)
    assert world.gateway.counters()["echo_answered"] - before["echo_answered"] == 9
    assert ping(world.private, SERVER)
    assert ping(world.private, FAR, "-s", "900")
    assert world.gateway.counters()["echo_answered"] - before["echo_answered"] == 9
    assert dropped(before, world.gateway.counters()) == {}


def neighbour_state(namespace: Namespace, target: str) -> str:
    found = json.loads(namespace.ip("-j", "neigh", "show", target, "dev", "lan"))
    return str(found[0].get("state", [""])[0]) if found else ""


def test_arp_is_answered_only_while_the_lease_lasts(world: World) -> None:
    ends = ((world.private, INSIDE_VIP), (world.router, OUTSIDE_VIP))
    world.gateway.ask("lease", 0)
    try:
        answered = world.gateway.counters()["arp_answered"]
        for namespace, vip in ends:
            namespace.ip("neigh", "flush", "dev", "lan")
            assert not ping(namespace, vip, "-W", "1")
            wait_until(lambda n=namespace, v=vip: neighbour_state(n, v) == "FAILED")  # type: ignore[misc]
        assert world.gateway.counters()["arp_answered"] == answered
    finally:
        world.gateway.ask("lease", 3600)
    for namespace, vip in ends:
        namespace.ip("neigh", "flush", "dev", "lan")
        assert ping(namespace, vip)
    assert world.gateway.counters()["arp_answered"] == answered + 2


def test_an_announcement_changes_a_neighbours_mind(world: World) -> None:
    assert ping(world.private, INSIDE_VIP)
    right = neighbour_mac(world.private, INSIDE_VIP)
    world.private.ip(
        "neigh", "replace", INSIDE_VIP, "lladdr", "02:00:00:00:00:99", "dev", "lan", "nud", "stale"
    )
    assert world.gateway.ask("announce") == {"frames": 4}
    wait_until(lambda: neighbour_mac(world.private, INSIDE_VIP) == right)


def neighbour_mac(namespace: Namespace, target: str) -> str:
    return str(json.loads(namespace.ip("-j", "neigh", "show", target, "dev", "lan"))[0]["lladdr"])


def path_mtu(namespace: Namespace, target: str) -> int:
    found = json.loads(namespace.ip("-j", "-d", "route", "get", target))[0]
    return int(found.get("metrics", [{}])[0].get("mtu", 0))


def test_path_mtu_discovery_works_for_private_hosts(world: World) -> None:
    before = world.gateway.counters()
    assert transfer_both_ways(world.private, (FAR, 7003), world.far, 1 << 20) == OUTSIDE_VIP
    assert world.gateway.counters()["icmp_errors_translated"] > before["icmp_errors_translated"]
    assert path_mtu(world.private, FAR) == PATH_MTU


def test_path_mtu_discovery_works_for_backends(world: World) -> None:
    world.private.ip("route", "flush", "cache")
    before = world.gateway.counters()
    assert transfer_both_ways(world.far, (OUTSIDE_VIP, SERVICE_PORT), world.private, 1 << 20) == FAR
    assert world.gateway.counters()["icmp_errors_translated"] > before["icmp_errors_translated"]
    assert path_mtu(world.private, FAR) == PATH_MTU


def test_a_datagram_too_big_for_the_next_link_tells_its_sender(world: World) -> None:
    ip_mtu_discover, ip_pmtudisc_do, ip_mtu = 10, 2, 14  # linux/in.h
    before = world.gateway.counters()
    with in_namespace(world.private, socket.SOCK_DGRAM) as near:
        near.setsockopt(socket.IPPROTO_IP, ip_mtu_discover, ip_pmtudisc_do)
        near.connect((SERVER, 7004))
        near.send(b"x" * 2000)
        wait_until(lambda: near.getsockopt(socket.IPPROTO_IP, ip_mtu) == OUTSIDE_MTU)
        with pytest.raises(OSError, match="Message too long"):
            near.send(b"x" * 2000)
    after = world.gateway.counters()
    assert after["fragmentation_needed_sent"] == before["fragmentation_needed_sent"] + 1
    assert dropped(before, after) == {"drop_too_big": 1}


def test_a_closed_port_is_reported_to_the_private_host(world: World) -> None:
    with in_namespace(world.private, socket.SOCK_DGRAM) as near:
        near.connect((SERVER, 7005))
        near.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            near.recv(100)


def test_no_python_per_packet_when_packets_wait(world: World) -> None:
    """4,096 datagrams wait while the process is stopped; what it then needs is counted in calls of `poll`."""
    count, polled = 4096, world.gateway.counters()
    with (
        in_namespace(world.private, socket.SOCK_DGRAM) as near,
        in_namespace(world.router, socket.SOCK_DGRAM) as there,
    ):
        there.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        there.bind(("0.0.0.0", 7006))
        near.connect((SERVER, 7006))
        near.send(b"first")
        assert there.recv(100) == b"first"
        os.kill(world.gateway.process.pid, signal.SIGSTOP)
        try:
            for index in range(count):
                near.send(index.to_bytes(4, "big"))
        finally:
            os.kill(world.gateway.process.pid, signal.SIGCONT)
        assert [int.from_bytes(there.recv(100), "big") for _ in range(count)] == list(range(count))
    after = world.gateway.counters()
    packets = after["received_packets"] - polled["received_packets"]
    assert packets >= count
    assert (after["poll_calls"] - polled["poll_calls"]) / packets < 1 / 16


def hop(world: World, target: str, ttl: int) -> tuple[str, int, int]:
    """Who answers a UDP probe with this TTL, with which ICMP type and code: one line of traceroute."""
    with in_namespace(world.private, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        probe.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        probe.connect((target, 33434))
        probe.send(b"probe")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                _, ancillary, _, _ = probe.recvmsg(2000, 2000, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            except OSError:
                continue  # the error itself, told beside the queue
            data = ancillary[0][2]  # struct sock_extended_err, then the offender's sockaddr_in
            return socket.inet_ntoa(data[20:24]), data[5], data[6]
    raise AssertionError("nobody answered")


def test_traceroute_shows_the_gateway_and_what_lies_behind_it(world: World) -> None:
    before = world.gateway.counters()
    assert hop(world, FAR, 1) == (INSIDE_VIP, 11, 0)
    assert hop(world, FAR, 2) == (SERVER, 11, 0), "the router, by the first address on its side"
    assert hop(world, FAR, 3) == (FAR, 3, 3), "the end: port unreachable"
    assert world.gateway.counters()["time_exceeded_sent"] - before["time_exceeded_sent"] == 1


def test_fragmented_datagrams_pass_in_both_directions(world: World) -> None:
    world.private.ip("route", "add", SERVER, "via", INSIDE_VIP, "mtu", str(OUTSIDE_MTU))
    message = random.Random(5).randbytes(6000)
    try:
        with (
            in_namespace(world.private, socket.SOCK_DGRAM) as near,
            in_namespace(world.router, socket.SOCK_DGRAM) as there,
        ):
            for end in (near, there):
                end.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: do not
            there.bind(("0.0.0.0", 7005))
            near.connect((SERVER, 7005))
            near.send(message)
            received, peer = there.recvfrom(65535)
            assert received == message
            there.sendto(received[::-1], peer)
            assert near.recv(65535) == message[::-1]
    finally:
        world.private.ip("route", "del", SERVER)
    assert world.gateway.counters()["fragments_forwarded"] >= 10
