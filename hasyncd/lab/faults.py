"""Faults of wires that no carrier shows: frames are dropped, or a LAN falls apart, where a cable would be unplugged.

Frames are dropped by nftables' netdev hooks at the receiving end of a wire: the sender's kernel takes them for sent, as
it does with a real cable. Losses at random are the kernel's own dice, so a seed repeats when they begin, not which.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

from hasyncd.lab import namespaces, plan
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.topology import Topology
from hasyncd.lab.traffic.process import now_ns

FROM, TO = "ingress", "egress"
"""Of a LAN's port, seen from the LAN: what comes from the machine behind it, what goes to it."""
BOTH = (FROM, TO)
_TABLE = "lab-faults"
_BRIDGES = {"inside": "br-in", "outside": "br-out"}


def drop(namespace: str, port: str, hook: str, *matches: str) -> None:
    """From now on frames at this hook of a port are lost: all, or those that fit one of the nft matches.

    Raises LabError.
    """
    chain = f"netdev {_TABLE} {hook}-{port}"
    rules = [
        f"add table netdev {_TABLE}",
        f"add chain {chain} {{ type filter hook {hook} device {port} priority 0; policy accept; }}",
        *(f"add rule {chain} {match} counter drop" for match in matches or ("",)),
    ]
    _nft(namespace, "-f", "-", words="\n".join(rules))


def heal(namespace: str) -> None:
    """Nothing is lost in a namespace any more. Raises LabError."""
    _nft(namespace, "-f", "-", words=f"add table netdev {_TABLE}\ndelete table netdev {_TABLE}\n")


def count_dropped(namespace: str) -> int:
    """Frames that were lost since the last `heal`. Raises LabError."""
    listed = json.loads(_nft(namespace, "-j", "list", "ruleset"))
    expressions = [part for each in listed["nftables"] for part in each.get("rule", {}).get("expr", ())]
    return sum(part["counter"]["packets"] for part in expressions if "counter" in part)


def _nft(namespace: str, *arguments: str, words: str = "") -> str:
    with namespaces.inside(namespace):
        try:
            done = subprocess.run(
                ["nft", *arguments], input=words, capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise LabError("this drill needs the `nft` command (Debian package nftables)") from error
    if done.returncode != 0:
        raise LabError(f"nft failed: {done.stderr.strip()}")
    return done.stdout


def _first(count: int) -> str:
    """Fits the first so many frames: a limit lets its burst pass, and this one refills once a day."""
    return f"limit rate 1/day burst {count} packets"


class Wires:
    """The wires of one lab. Each act returns the moment after which it is in force, in ns of CLOCK_BOOTTIME."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._harmed: set[str] = set()
        self._apart: list[tuple[str, str]] = []

    def cut_sync(self, *deaf: str) -> int:
        """What these gateways (default: both) would receive over the sync link is lost."""
        for name in deaf or ("gw-a", "gw-b"):
            self._drop(name, "sync", FROM)
        return now_ns()

    def lose_on_sync(self, percent: int) -> int:
        """So many of a hundred frames over the sync link are lost, each way, each frame by itself."""
        for gateway in plan.GATEWAYS:
            self._drop(gateway.name, "sync", FROM, f"numgen random mod 100 < {percent}")
        return now_ns()

    def cut_lan(self, name: str, side: str, *ways: str) -> int:
        """A gateway's port of a LAN: what comes `FROM` it, goes `TO` it, or both."""
        for way in ways or BOTH:
            self._drop(plan.LAN, f"{name}-{side}", way)
        return now_ns()

    def lose_announcements(self, name: str, arp: int, ndp: int) -> int:
        """The first so many announcements of a gateway on each LAN: gratuitous ARP of the VIP, of either form, and
        unsolicited neighbour advertisements."""
        for side, vip in {"inside": plan.INSIDE_VIP, "outside": plan.OUTSIDE_VIP}.items():
            gratuitous = f"arp saddr ip {vip} arp daddr ip {vip}"
            unsolicited = "ip6 daddr ff02::1 icmpv6 type nd-neighbor-advert"
            matches = [
                f"{match} {_first(count)}"
                for match, count in ((gratuitous, arp), (unsolicited, ndp))
                if count
            ]
            self._drop(plan.LAN, f"{name}-{side}", FROM, *matches)
        return now_ns()

    def _drop(self, place: str, port: str, hook: str, *matches: str) -> None:
        drop(self._topology.namespace(place), port, hook, *matches)
        self._harmed.add(place)

    def dropped(self) -> int:
        """Frames that were lost by what is in force now."""
        return sum(count_dropped(self._topology.namespace(place)) for place in self._harmed)

    def set_apart(self, names: Iterable[str]) -> int:
        """Splits both LANs: these machines (gateways and hosts) are on one half, everybody else on the other.

        Carriers stay up: to each half it looks as if the others had fallen silent.
        """
        ports = []
        for name in names:
            hosts = [host for host in plan.HOSTS if host.name == name]
            sides = [(name, host.side) for host in hosts] or [
                (f"{name}-{side}", side) for side in ("inside", "outside")
            ]
            ports += sides
        commands = []
        for bridge in sorted({f"{_BRIDGES[side]}-2" for _, side in ports}):
            commands.append(f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
            commands.append(f"link set {bridge} up")
        commands += [f"link set {port} master {_BRIDGES[side]}-2" for port, side in ports]
        namespaces.run_ip(commands, self._topology.namespace(plan.LAN))
        self._apart = ports
        return now_ns()

    def join(self) -> int:
        """The halves of both LANs meet again; the moment after they did."""
        namespace = self._topology.namespace(plan.LAN)
        apart, self._apart = self._apart, []
        namespaces.run_ip([f"link set {port} master {_BRIDGES[side]}" for port, side in apart], namespace)
        met_ns = now_ns()  # removing a bridge takes its time
        namespaces.run_ip(
            [f"link del {bridge}-2" for bridge in sorted({_BRIDGES[side] for _, side in apart})], namespace
        )
        return met_ns

    def heal(self) -> int:
        """All is whole again; the moment after the last wire was."""
        if self._apart:
            self.join()
        for place in sorted(self._harmed):
            heal(self._topology.namespace(place))
        self._harmed.clear()
        return now_ns()
