"""Builds the lab of `plan.py`: two LAN bridges in a namespace of their own, the hosts, two gateways.

Nothing is made in the machine's own namespace, and every sysctl that the lab stands on is written:
a container engine may have changed the defaults that new namespaces inherit.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from hasyncd.lab import namespaces, plan
from hasyncd.lab.traffic.process import now_ns

_DIRECTORY_PREFIX = "hasyncd-lab-run-"

_EVERYWHERE: dict[str, str | int] = {
    "net/ipv4/ip_forward": 0,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/conf/default/send_redirects": 0,
    "net/ipv4/conf/all/accept_redirects": 0,
    "net/ipv4/conf/default/accept_redirects": 0,
    "net/ipv4/conf/all/arp_ignore": 1,
    "net/ipv4/conf/all/arp_announce": 2,
    "net/ipv4/conf/all/arp_accept": 0,
    "net/ipv4/conf/default/arp_accept": 0,
    "net/ipv6/conf/all/forwarding": 0,
    **{
        f"net/ipv6/conf/{which}/{name}": value
        for which in ("all", "default")
        # Addresses are given by hand and usable at once.
        for name, value in (("disable_ipv6", 0), ("accept_ra", 0), ("accept_dad", 0), ("accept_redirects", 0))
    },
    "net/ipv4/ip_local_port_range": "10000 65000",
    "net/ipv4/tcp_max_syn_backlog": 16384,
    "net/ipv4/tcp_no_metrics_save": 1,
    "net/core/somaxconn": 16384,
}
_LAN: dict[str, str | int] = {
    "net/ipv6/conf/all/disable_ipv6": 1,
    "net/ipv6/conf/default/disable_ipv6": 1,
    "net/bridge/bridge-nf-call-iptables": 0,
    "net/bridge/bridge-nf-call-ip6tables": 0,
    "net/bridge/bridge-nf-call-arptables": 0,
}


class Topology:
    """The namespaces and links of one lab; a context manager that leaves nothing behind."""

    def __init__(self, lab_id: int | None = None) -> None:
        self.lab_id = os.getpid() if lab_id is None else lab_id
        self.directory = Path()
        """Temporary: configuration files, state directories, logs and flow records."""

    def namespace(self, name: str) -> str:
        """The machine-wide name of one of `plan.NAMES`."""
        return f"hs-{self.lab_id}-lab-{name}"

    def __enter__(self) -> Topology:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Builds everything. Raises LabError; call `down` then."""
        self.directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX))
        namespaces.run_ip(f"netns add {self.namespace(name)}" for name in plan.NAMES)
        for name in plan.NAMES:
            namespaces.write_sysctls(self.namespace(name), _EVERYWHERE | (_LAN if name == plan.LAN else {}))
        namespaces.run_ip(self._links(), self.namespace(plan.LAN))
        # The sysctls of bridge netfilter appear with the module, which the first bridge may have loaded.
        namespaces.write_sysctls(self.namespace(plan.LAN), _LAN)
        for gateway in plan.GATEWAYS:
            namespaces.run_ip(_gateway_addresses(gateway), self.namespace(gateway.name))
        for host in plan.HOSTS:
            namespaces.run_ip(_host_addresses(host), self.namespace(host.name))

    def down(self) -> None:
        """Removes everything, and the processes that still run in it; may be called twice."""
        namespaces.remove(self.namespace(name) for name in plan.NAMES)
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def cut(self, name: str) -> int:
        """Cuts all links of a gateway; the moment after the last one went, in ns of CLOCK_BOOTTIME."""
        self._switch(name, "down")
        return now_ns()

    def mend(self, name: str) -> None:
        """Puts them back."""
        self._switch(name, "up")

    def _switch(self, name: str, state: str) -> None:
        ports = [f"link set {name}-{side} {state}" for side in ("inside", "outside")]
        namespaces.run_ip(ports, self.namespace(plan.LAN))
        namespaces.run_ip([f"link set sync {state}"], self.namespace(name))

    def _links(self) -> list[str]:
        """Commands for the namespace of the bridges: one veth a port, its far end put where it belongs."""
        commands = ["link set lo up"]
        for bridge in ("br-in", "br-out"):
            commands.append(f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
            commands.append(f"link set {bridge} up")
        ports = [(host.name, host.name, "eth0", host.side) for host in plan.HOSTS]
        for gateway in plan.GATEWAYS:
            ports += [(f"{gateway.name}-{side}", gateway.name, side, side) for side in ("inside", "outside")]
        for port, name, interface, side in ports:
            bridge = "br-in" if side == "inside" else "br-out"
            commands.append(f"link add {port} type veth peer name {interface} netns {self.namespace(name)}")
            commands.append(f"link set {port} master {bridge} up")
        first, second = (self.namespace(gateway.name) for gateway in plan.GATEWAYS)
        commands.append(f"link add sync netns {first} type veth peer name sync netns {second}")
        return commands


def sweep() -> bool:
    """Removes what labs left behind that could not do it themselves; whether there was anything.

    Only for the holder of the lab's lock, and where no lab is kept: every lab it finds is dead.
    """
    found = namespaces.lab_namespaces()
    namespaces.remove(found)
    directories = [
        directory
        for directory in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*")
        if directory.is_dir() and not directory.is_symlink() and directory.stat().st_uid == os.geteuid()
    ]
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    if found:
        remove_run_files()
    return bool(found or directories)


def remove_run_files() -> None:
    """Removes the control sockets and last words of nodes that were killed and could not do it themselves."""
    for gateway in plan.GATEWAYS:
        for left in plan.RUN_DIR.glob(f"{gateway.name}.*"):
            left.unlink(missing_ok=True)


def _gateway_addresses(gateway: plan.Gateway) -> list[str]:
    commands = ["link set lo up"]
    for interface, address, address6 in (
        ("inside", gateway.inside, gateway.inside6),
        ("outside", gateway.outside, gateway.outside6),
        ("sync", gateway.sync, None),
    ):
        commands.append(f"addr add {address}/{plan.PREFIX_LENGTH} dev {interface}")
        if address6 is not None:
            commands.append(f"addr add {address6}/{plan.PREFIX_LENGTH6} dev {interface} nodad")
        commands.append(f"link set {interface} up")
    return commands


def _host_addresses(host: plan.Host) -> list[str]:
    commands = ["link set lo up"]
    commands += [f"addr add {address}/{plan.PREFIX_LENGTH} dev eth0" for address in host.addresses]
    commands += [f"addr add {address}/{plan.PREFIX_LENGTH6} dev eth0 nodad" for address in host.addresses6]
    commands.append("link set eth0 up")
    if host.side == "inside":
        commands.append(f"route add default via {plan.INSIDE_VIP}")
        commands.append(f"route add default via {plan.INSIDE_VIP6}")
    else:
        # Untranslated: outside hosts have to know the way back.
        commands.append(f"route add {plan.INSIDE_NETWORK6} via {plan.OUTSIDE_VIP6}")
    return commands
