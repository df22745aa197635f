"""The small world of `world.py` with IPv6 beside IPv4, and a host far away behind a thin link.

host 2001:db8:1::7 ── VIP ::1 [gw-a ::2, gw-b ::3] VIP 2001:db8:2::5 ── server ::50 ══ far 2001:db8:9::9
                                                                        (router)    MTU 1280
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.datapath.namespaces import Namespace, join, namespaces
from tests.e2e.world import Gateway, World, until, world

HOST6, SERVER6, FAR6 = "2001:db8:1::7", "2001:db8:2::50", "2001:db8:9::9"
INSIDE_VIP6, OUTSIDE_VIP6 = "2001:db8:1::1", "2001:db8:2::5"
SERVICE_PORT, BACKEND_PORT = 80, 8080
PATH_MTU = 1280

_VIPS = f"""
[[vip]]
address = "{INSIDE_VIP6}/64"
interface = "inside"
[[vip]]
address = "{OUTSIDE_VIP6}/64"
interface = "outside"
[[pass]]
source = ["2001:db8:1::/64"]
"""
_SERVICE = f"""
[[service]]
name = "{{protocol}}6"
vip = "[{OUTSIDE_VIP6}]:{SERVICE_PORT}"
protocol = "{{protocol}}"
backends = [{{{{ id = 1, address = "[{HOST6}]:{BACKEND_PORT}" }}}}]
"""


@dataclass
class DualStack:
    """Both gateways' machines and three hosts; no daemon yet."""

    machines: World
    far: Namespace

    @property
    def host(self) -> Namespace:
        return self.machines.host

    @property
    def server(self) -> Namespace:
        return self.machines.server

    @property
    def a(self) -> Gateway:
        return self.machines.a

    @property
    def b(self) -> Gateway:
        return self.machines.b

    def start(self) -> None:
        """The pair, ready."""
        self.a.start()
        self.a.wait_role("primary")
        self.b.start()
        pair = (self.a, self.b)
        until(lambda: all(each.status["sync"]["state"] == "ready" for each in pair), "the pair is ready")


@contextmanager
def dual_stack() -> Iterator[DualStack]:
    with world() as machines, namespaces(1) as (far,):
        a, b = machines.a.namespace, machines.b.namespace
        for namespace in (machines.host, machines.server, a, b, far):
            namespace.speak_ipv6()
        join(machines.server, "way", far, "eth0")
        for namespace, address, interface in (
            (machines.host, HOST6, "eth0"),
            (machines.server, SERVER6, "eth0"),
            (machines.server, "2001:db8:9::1", "way"),
            (far, FAR6, "eth0"),
            (a, "2001:db8:1::2", "inside"),
            (b, "2001:db8:1::3", "inside"),
            (a, "2001:db8:2::2", "outside"),
            (b, "2001:db8:2::3", "outside"),
            (a, "fd00::1", "sync"),
            (b, "fd00::2", "sync"),
        ):
            namespace.ip("addr", "add", f"{address}/64", "dev", interface, "nodad")
        machines.host.ip("-6", "route", "add", "default", "via", INSIDE_VIP6)
        machines.server.sysctl("ipv6/conf/all/forwarding", "1")
        machines.server.ip("-6", "route", "add", "2001:db8:1::/64", "via", OUTSIDE_VIP6)
        machines.server.ip("link", "set", "way", "mtu", str(PATH_MTU))
        far.ip("-6", "route", "add", "default", "via", "2001:db8:9::1")
        services = "".join(_SERVICE.format(protocol=protocol) for protocol in ("tcp", "udp"))
        for gateway in (machines.a, machines.b):
            gateway.namespace.ip("-6", "route", "add", "default", "via", SERVER6)
            gateway.configuration = gateway.configuration.replace("[control]", f"{_VIPS}{services}[control]")
        yield DualStack(machines, far)


def mac_of(namespace: Namespace, interface: str) -> str:
    return namespace.run("cat", f"/sys/class/net/{interface}/address").strip()


def neighbour(namespace: Namespace, address: str) -> str | None:
    """The MAC that a host holds for an address."""
    found = json.loads(namespace.ip("-j", "-6", "neigh", "show", address, "dev", "eth0"))
    return str(found[0]["lladdr"]) if found and "lladdr" in found[0] else None


def opened(namespace: Namespace, kind: socket.SocketKind) -> socket.socket:
    """An IPv6 socket in a namespace, with much patience."""
    with namespace.entered():
        made = socket.socket(socket.AF_INET6, kind)
    made.settimeout(30)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
