"""Pairs behind a router that knows of their VIP by BGP alone: real zebra and bgpd (Debian's frr) in every gateway.

                            router (bgpd, AS 65000) ── client 192.0.2.10
             203.0.1.0/24 ──┘                     └── 203.0.2.0/24
       pair 1: gw-a .2, gw-b .3 (AS 65001)      pair 2: gw-a .2, gw-b .3 (AS 65002)
             10.0.1.0/24: backend .21                 10.0.2.0/24: backend .21

Each pair has a LAN of its own to the router: two pairs that own one VIP on one LAN would be a conflict there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.datapath.namespaces import Namespace, join, namespaces
from tests.e2e.world import PATIENCE_S, Gateway, until

VIP, PORT, CLIENT = "198.51.100.7", 7000, "192.0.2.10"
FRR = Path("/usr/lib/frr")

NODE = """
[node]
name = "{name}"
priority = {priority}
state_dir = "{directory}/{name}"
capacity = 4096
[interfaces]
inside = "inside"
outside = "outside"
[[vip]]
address = "10.0.{pair}.1/24"
interface = "inside"
[[vip]]
address = "{vip}/32"
interface = "outside"
[peer]
listen = "169.254.10.{number}:7077"
address = "169.254.10.{other}:7077"
insecure = true
[[service]]
name = "echo"
vip = "{vip}:{port}"
protocol = "tcp"
backends = [{{ id = {pair}, address = "10.0.{pair}.21:{port}" }}]
[routes]
driver = "frr"
prefixes = ["{vip}/32"]
vty_socket = "{frr}"
[control]
socket = "{directory}/{name}.sock"
"""

GATEWAY_BGP = """
router bgp 6500{pair}
 bgp router-id 203.0.{pair}.{number}
 no bgp ebgp-requires-policy
 neighbor 203.0.{pair}.254 remote-as 65000
 neighbor 203.0.{pair}.254 timers 1 3
 neighbor 203.0.{pair}.254 timers connect 1
 address-family ipv4 unicast
  redistribute kernel route-map HASYNCD
 exit-address-family
!
route-map HASYNCD permit 10
 match interface hs-routes
!
"""

ROUTER_BGP = """
router bgp 65000
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 {neighbours}
 address-family ipv4 unicast
  maximum-paths 8
 exit-address-family
!
"""

NEIGHBOUR = """
 neighbor {address} remote-as 6500{pair}
 neighbor {address} timers 1 3
 neighbor {address} timers connect 1"""

BACKEND = """
import socket, socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(64):
            self.request.sendall(sys.argv[1].encode() + b":" + data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("0.0.0.0", int(sys.argv[2])), Echo).serve_forever()
"""


class Router:
    """zebra and bgpd of one namespace, as the user that Debian's package makes; they end with `stack`."""

    def __init__(
        self, namespace: Namespace, directory: Path, configuration: str, stack: contextlib.ExitStack
    ) -> None:
        self.directory = directory
        directory.mkdir()
        shutil.chown(directory, "frr", "frr")
        (directory / "bgpd.conf").write_text(f"log stdout\n{configuration}")
        (directory / "zebra.conf").write_text("log stdout\n")
        self._processes: list[subprocess.Popen[bytes]] = []
        stack.callback(self.close)
        for name, more in (("zebra", ()), ("bgpd", ("-p", "179"))):
            command = [
                "ip", "netns", "exec", namespace.name, FRR / name, "-i", directory / f"{name}.pid",
                "-z", directory / "zserv.api", "--vty_socket", directory, "-f", directory / f"{name}.conf",
                "-A", "127.0.0.1", "-P", "0", *more,
            ]  # fmt: skip
            with (directory / f"{name}.log").open("w") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            self._processes.append(process)
            self._wait_for(name, process)

    def _wait_for(self, name: str, process: subprocess.Popen[bytes]) -> None:
        def runs() -> bool:
            assert process.poll() is None, (self.directory / f"{name}.log").read_text()
            return (self.directory / f"{name}.vty").exists()

        until(runs, f"{name} runs")

    def ask(self, question: str) -> Any:
        done = subprocess.run(
            ["vtysh", "--vty_socket", self.directory, "-d", "bgpd", "-c", question],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return json.loads(done.stdout or "{}")

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(PATIENCE_S)


class RoutedGateway(Gateway):
    def __init__(
        self, pair: int, letter: str, namespace: Namespace, directory: Path, stack: contextlib.ExitStack
    ) -> None:
        super().__init__(f"gw-{letter}", namespace, directory)
        number = 2 if letter == "a" else 3
        self.address = f"203.0.{pair}.{number}"
        frr = directory / f"frr-{letter}"
        self.configuration = NODE.format(
            name=self.name, priority=200 if letter == "a" else 100, directory=directory, pair=pair, vip=VIP, port=PORT,
            number=number, other=5 - number, frr=frr,
        )  # fmt: skip
        self.router = Router(namespace, frr, GATEWAY_BGP.format(pair=pair, number=number), stack)


class RoutedPair:
    def __init__(
        self, number: int, lan: Namespace, made: list[Namespace], directory: Path, stack: contextlib.ExitStack
    ) -> None:
        self.number = number
        self._backend, first, second = made
        inside, outside = f"br-in{number}", f"br-out{number}"
        for bridge in (inside, outside):
            lan.ip("link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            lan.ip("link", "set", bridge, "up")
        join(lan, f"be{number}", self._backend, "eth0")
        lan.ip("link", "set", f"be{number}", "master", inside)
        for letter, namespace, last in (("a", first, 2), ("b", second, 3)):
            for side, bridge in (("inside", inside), ("outside", outside)):
                port = f"{letter}{number}-{side[:3]}"
                join(lan, port, namespace, side)
                lan.ip("link", "set", port, "master", bridge)
            namespace.ip("address", "add", f"10.0.{number}.{last}/24", "dev", "inside")
            namespace.ip("address", "add", f"203.0.{number}.{last}/24", "dev", "outside")
            namespace.ip("route", "add", "default", "via", f"203.0.{number}.254")
        join(first, "sync", second, "sync")
        first.ip("address", "add", "169.254.10.2/24", "dev", "sync")
        second.ip("address", "add", "169.254.10.3/24", "dev", "sync")
        self._backend.ip("address", "add", f"10.0.{number}.21/24", "dev", "eth0")
        self._backend.ip("route", "add", "default", "via", f"10.0.{number}.1")
        server = [
            "ip",
            "netns",
            "exec",
            self._backend.name,
            sys.executable,
            "-c",
            BACKEND,
            str(number),
            str(PORT),
        ]
        self._server = subprocess.Popen(server)
        self.gateways: list[RoutedGateway] = []
        stack.callback(self.close)
        directory.mkdir()
        for letter, namespace in (("a", first), ("b", second)):
            self.gateways.append(RoutedGateway(number, letter, namespace, directory, stack))
        self.a, self.b = self.gateways

    def start(self) -> None:
        self.a.start()
        self.a.wait_role("primary")
        self.b.start()
        until(lambda: all(g.status["sync"]["state"] == "ready" for g in self.gateways), "the pair is ready")

    def close(self) -> None:
        for gateway in self.gateways:
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.signal(signal.SIGCONT)
            gateway.kill()
        self._server.kill()
        self._server.wait(PATIENCE_S)


class RoutedWorld:
    def __init__(self, router: Namespace, client: Namespace, pairs: list[RoutedPair], bgp: Router) -> None:
        self.router, self.client, self.pairs, self.bgp = router, client, pairs, bgp

    def next_hops(self) -> set[str]:
        """Where the router's kernel sends what is for the VIP."""
        routes = json.loads(self.router.ip("-json", "route", "show", f"{VIP}/32") or "[]")
        hops = [hop for route in routes for hop in route.get("nexthops", [route])]
        return {hop["gateway"] for hop in hops if "gateway" in hop}

    def wait_next_hops(self, *addresses: str) -> None:
        until(
            lambda: self.next_hops() == set(addresses),
            f"the router's next hops are {addresses}: {self.next_hops()}",
        )

    def connect(self) -> Flow:
        return Flow(self.client)


class Flow:
    """A TCP connection to the VIP, and which pair it goes through."""

    def __init__(self, client: Namespace) -> None:
        with client.entered():
            self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((VIP, PORT))
        self._said = 0
        self.pair = self.ask()

    def ask(self) -> int:
        """One question, and its answer by the same connection; which pair answered. Raises OSError where it is lost."""
        self._said += 1
        question = f"{self._said:06}".encode()
        self._socket.sendall(question)
        answer = b""
        while len(answer) < 8:
            part = self._socket.recv(8 - len(answer))
            if not part:
                raise ConnectionResetError("the far end has closed")
            answer += part
        assert answer[2:] == question
        return int(answer[:1])

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def routed_world(pairs: int) -> Iterator[RoutedWorld]:
    """The routers' daemons run and know each other; no hasyncd yet."""
    with (
        namespaces(3 + 3 * pairs) as (lan, router, client, *others),
        tempfile.TemporaryDirectory(prefix="hs-routed-") as base,
        contextlib.ExitStack() as stack,
    ):
        join(router, "client", client, "eth0")
        router.ip("address", "add", "192.0.2.1/24", "dev", "client")
        client.ip("address", "add", f"{CLIENT}/24", "dev", "eth0")
        client.ip("route", "add", "default", "via", "192.0.2.1")
        router.sysctl("ipv4/ip_forward", "1")
        router.sysctl("ipv4/fib_multipath_hash_policy", "1")  # by ports, too: one client is many flows
        for name in ("all", "default"):
            router.sysctl(f"ipv4/conf/{name}/rp_filter", "0")
        Path(base).chmod(0o755)  # for bgpd, which is not root
        Path("/run/frr").mkdir(exist_ok=True)
        made = []
        neighbours = ""
        for number in range(1, pairs + 1):
            pair = RoutedPair(
                number, lan, others[3 * number - 3 : 3 * number], Path(base) / str(number), stack
            )
            made.append(pair)
            join(lan, f"router{number}", router, f"pair{number}")
            lan.ip("link", "set", f"router{number}", "master", f"br-out{number}")
            router.ip("address", "add", f"203.0.{number}.254/24", "dev", f"pair{number}")
            for gateway in pair.gateways:
                neighbours += NEIGHBOUR.format(address=gateway.address, pair=number)
        bgp = Router(router, Path(base) / "router", ROUTER_BGP.format(neighbours=neighbours.strip()), stack)
        world = RoutedWorld(router, client, made, bgp)

        def established() -> bool:
            peers = bgp.ask("show bgp ipv4 unicast summary json").get("peers", {})
            return len(peers) == 2 * pairs and all(each["state"] == "Established" for each in peers.values())

        until(established, "every gateway's bgpd speaks with the router's")
        yield world
