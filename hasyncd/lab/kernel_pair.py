"""A pair that loses everything: two gateways of plain kernel NAT, without any synchronisation.

The judge is proven on it. The kernel forwards, nftables translates, the VIPs are on the interfaces of one
gateway; a kill takes that gateway's links down, and after `takeover_s` a script gives the VIPs to the other
one, whose conntrack is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import subprocess
from typing import Any

from hasyncd.lab import namespaces, plan
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.pair import other
from hasyncd.lab.topology import Topology
from hasyncd.lab.traffic.process import now_ns

_ETHERTYPE_ARP = 0x0806
_GATEWAY_SYSCTLS: dict[str, str | int] = {
    "net/ipv4/ip_forward": 1,
    "net/netfilter/nf_conntrack_tcp_be_liberal": 1,
    "net/netfilter/nf_conntrack_tcp_loose": 1,
}
# `fully-random` keeps the kernel from giving a flow its old source port again by good luck.
_RULES = """
table ip lab {
  chain incoming {
    type nat hook prerouting priority dstnat;
    ip daddr %(vip)s tcp dport %(web)d dnat to %(either)s : %(tcp)d
    ip daddr %(vip)s udp dport %(name)d dnat to %(either)s : %(udp)d
    ip daddr %(vip)s tcp dport %(bulk)d dnat to %(first)s
  }
  chain outgoing {
    type nat hook postrouting priority srcnat;
    ip saddr 10.0.1.0/24 oifname "outside" snat to %(vip)s fully-random
  }
}
"""


class KernelPair:
    """gw-a and gw-b as the kernel's own gateways; for tests, not for users."""

    system = "kernel"
    engine = "nftables"

    def __init__(self, topology: Topology, takeover_s: float = 0.2) -> None:
        self._topology = topology
        self._takeover_s = takeover_s
        self.variant: str | None = None
        self.remarks: list[str] = []
        self._owner: str | None = None
        self._takeover: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if shutil.which("nft") is None:
            raise LabError("the kernel gateway needs the `nft` command (Debian package nftables)")
        for gateway in plan.GATEWAYS:
            self._set_up(gateway.name)
        self._give_addresses("gw-a")

    def _set_up(self, name: str) -> None:
        namespace = self._topology.namespace(name)
        first, second = (host.addresses[0] for host in plan.BACKENDS)
        rules = _RULES % {
            "vip": plan.OUTSIDE_VIP,
            "web": plan.WEB_PORT,
            "name": plan.NAME_PORT,
            "bulk": plan.BULK_SERVICE_PORT,
            "first": first,
            "either": f"numgen random mod 2 map {{ 0 : {first}, 1 : {second} }}",
            "tcp": plan.BACKEND_TCP_PORT,
            "udp": plan.BACKEND_UDP_PORT,
        }
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, "nft", "-f", "-"],
            input=rules,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise LabError(f"nft failed: {done.stderr.strip()}")
        # Once more after the rules: they load conntrack, and with it its sysctls.
        namespaces.write_sysctls(namespace, _GATEWAY_SYSCTLS)

    def _give_addresses(self, name: str) -> None:
        namespace = self._topology.namespace(name)
        namespaces.run_ip(
            [
                f"addr add {plan.INSIDE_VIP}/{plan.PREFIX_LENGTH} dev inside",
                f"addr add {plan.OUTSIDE_VIP}/{plan.PREFIX_LENGTH} dev outside",
            ],
            namespace,
        )
        with namespaces.inside(namespace):
            _announce("inside", plan.INSIDE_VIP)
            _announce("outside", plan.OUTSIDE_VIP)
        self._owner = name

    async def wait_ready(self) -> None:
        if self._takeover is not None:
            await self._takeover

    async def primary(self) -> str:
        if self._owner is None:
            raise LabError("no gateway has the addresses")
        return self._owner

    async def status(self, name: str) -> dict[str, Any] | None:
        return {"role": "primary" if name == self._owner else "backup"}

    def kill(self, name: str) -> int:
        moment = now_ns()
        namespaces.run_ip(
            [f"link set {interface} down" for interface in ("inside", "outside")],
            self._topology.namespace(name),
        )
        self._owner = None
        self._takeover = asyncio.create_task(self._take_over(other(name)))
        return moment

    def cut_off(self, name: str) -> int:
        return self.kill(name)

    async def _take_over(self, name: str) -> None:
        await asyncio.sleep(self._takeover_s)
        self._give_addresses(name)

    async def last_word(self, name: str) -> list[dict[str, Any]] | None:
        return None

    async def restart(self, name: str) -> None:
        raise LabError("a killed kernel gateway does not come back")

    async def switch_over(self) -> int:
        raise LabError("a kernel gateway knows no switchover")

    async def stop(self) -> None:
        if self._takeover is not None:
            self._takeover.cancel()
            with contextlib.suppress(asyncio.CancelledError, LabError):
                await self._takeover

    def messages(self) -> str:
        return ""


def _announce(interface: str, address: str) -> None:
    """A gratuitous ARP request for `address`, from this thread's namespace."""
    packed = socket.inet_aton(address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, _ETHERTYPE_ARP))
        mac = raw.getsockname()[4]
        ethernet = b"\xff" * 6 + mac + struct.pack("!H", _ETHERTYPE_ARP)
        raw.send(ethernet + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + packed + bytes(6) + packed)
