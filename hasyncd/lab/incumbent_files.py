"""What an operator writes to run keepalived, conntrackd and nftables as a pair: their files for the lab's plan.

Everything is Debian's default, or the example that Debian ships, unless a comment here says why not; where there was a
choice it was made in the incumbent's favour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hasyncd.lab import plan

ADVERTS_MS = (1000, 100, 10)
"""The default of keepalived; what a careful operator sets; the least that VRRPv3 can say (RFC 9568 §5.2.7)."""
STOCK_SCRIPT = Path("/usr/share/doc/conntrackd/examples/sync/primary-backup.sh")
_SYNC_PORT = 3780
_INSIDE_NETWORK = "10.0.1.0/24"


@dataclass(frozen=True, slots=True)
class IncumbentOptions:
    """What a drill may choose about the incumbent."""

    adverts_ms: int = 1000
    """VRRP's advertisement interval; the backup takes over after three of them and its skew time."""
    random_ports: bool = False
    """Source ports as RFC 6056 wants them, unguessable; the kernel's default keeps the host's own where it is free."""
    sync_enabled: bool = True

    @property
    def variant(self) -> str:
        """What tells two rows of the incumbent apart."""
        words = [f"adverts {self.adverts_ms} ms"]
        words += ["random ports"] if self.random_ports else []
        words += [] if self.sync_enabled else ["without conntrackd"]
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Places:
    """Where one node's files lie; the packages' own places hold one node only."""

    directory: Path

    @property
    def keepalived(self) -> Path:
        """Its configuration."""
        return self.directory / "keepalived.conf"

    @property
    def conntrackd(self) -> Path:
        """Its configuration."""
        return self.directory / "conntrackd.conf"

    @property
    def script(self) -> Path:
        """The copy of `STOCK_SCRIPT` that knows these places."""
        return self.directory / "primary-backup.sh"

    @property
    def socket(self) -> Path:
        """Where `conntrackd -c` and its like reach the daemon: at most 107 bytes, as all Unix sockets."""
        return self.directory / "conntrackd.ctl"

    @property
    def lock(self) -> Path:
        """conntrackd's."""
        return self.directory / "conntrackd.lock"


def keepalived_configuration(gateway: plan.Gateway, places: Places, options: IncumbentOptions) -> str:
    """Both VIP sets in one group, as in conntrackd's example. Nobody preempts: a node that returns has no table yet."""
    # Version 2, the default, counts whole seconds.
    version = "" if options.adverts_ms % 1000 == 0 else "  vrrp_version 3\n"
    notify = "".join(
        f'  notify_{state} "{places.script} {word}"\n'
        for state, word in (("master", "primary"), ("backup", "backup"), ("fault", "fault"))
        if options.sync_enabled
    )
    text = f"global_defs {{\n  router_id {gateway.name}\n  script_user root\n{version}}}\n"
    text += f"vrrp_sync_group pair {{\n  group {{\n    inside\n    outside\n  }}\n{notify}}}\n"
    for number, (side, vip, vip6) in enumerate(
        (("inside", plan.INSIDE_VIP, plan.INSIDE_VIP6), ("outside", plan.OUTSIDE_VIP, plan.OUTSIDE_VIP6))
    ):
        text += f"""\
vrrp_instance {side} {{
  interface {side}
  state BACKUP
  nopreempt
  virtual_router_id {61 + number}
  priority {gateway.priority}
  advert_int {options.adverts_ms / 1000:g}
  virtual_ipaddress {{
    {vip}/{plan.PREFIX_LENGTH}
  }}
  virtual_ipaddress_excluded {{
    {vip6}/{plan.PREFIX_LENGTH6}
  }}
}}
"""
    return text


def conntrackd_configuration(gateway: plan.Gateway, peer: plan.Gateway, places: Places) -> str:
    """The FTFW example with unicast on the sync link, UDP flows too (the example has TCP only), and room for all."""
    own = [gateway.inside, gateway.outside, gateway.sync, plan.INSIDE_VIP]
    own6 = [gateway.inside6, gateway.outside6, plan.INSIDE_VIP6]
    # Never the outside VIP, which the example ignores: balanced and translated flows have it in their tuples.
    ignored = "".join(f"      IPv4_address {address}\n" for address in ("127.0.0.1", *own))
    ignored += "".join(f"      IPv6_address {address}\n" for address in ("::1", *own6))
    return f"""\
Sync {{
  Mode FTFW {{
  }}
  UDP {{
    IPv4_address {gateway.sync}
    IPv4_Destination_Address {peer.sync}
    Port {_SYNC_PORT}
    Interface sync
    SndSocketBuffer 1249280
    RcvSocketBuffer 1249280
    Checksum on
  }}
}}
General {{
  HashSize 65536
  HashLimit 524288
  LogFile {places.directory}/conntrackd.log
  LockFile {places.lock}
  UNIX {{
    Path {places.socket}
  }}
  NetlinkBufferSize 2097152
  NetlinkBufferSizeMaxGrowth 8388608
  Filter From Userspace {{
    Protocol Accept {{
      TCP
      UDP
    }}
    Address Ignore {{
{ignored}    }}
  }}
}}
"""


def stock_script(packaged: str, places: Places) -> str:
    """conntrackd's own `primary-backup.sh`, its paths turned to this node. Raises ValueError where it has none."""
    ours = {"CONNTRACKD_LOCK": places.lock, "CONNTRACKD_CONFIG": places.conntrackd}
    lines, left = packaged.splitlines(), dict(ours)
    for number, line in enumerate(lines):
        name = line.partition("=")[0]
        if name in left:
            lines[number] = f"{name}={left.pop(name)}"
    if left:
        raise ValueError(f"conntrackd's primary-backup.sh has no line {' and none '.join(left)}")
    return "\n".join(lines) + "\n"


def rules(options: IncumbentOptions) -> str:
    """nftables: the services' DNAT and the private hosts' SNAT.

    Backends are chosen by a hash of the client, alike on both nodes, so that a flow whose state was lost meets the same
    one again. Until the state is committed, the filter keeps the kernel from answering for a VIP with RST (keepalived
    issue 2254), and from taking a backend's answer for a connection of the backend's own.
    """
    ports = " fully-random" if options.random_ports else ""
    return f"""\
table ip gateway {{
  chain services {{
    type nat hook prerouting priority dstnat;
{_services("ip", plan.OUTSIDE_VIP, [host.addresses[0] for host in plan.BACKENDS])}\
  }}
  chain sources {{
    type nat hook postrouting priority srcnat;
    ip saddr {_INSIDE_NETWORK} oifname "outside" snat to {plan.OUTSIDE_VIP}{ports}
  }}
}}
table ip6 gateway {{
  chain services {{
    type nat hook prerouting priority dstnat;
{_services("ip6", plan.OUTSIDE_VIP6, [f"[{host.addresses6[0]}]" for host in plan.BACKENDS])}\
  }}
}}
table inet strict {{
  chain forwarded {{
    type filter hook forward priority filter;
    ct state invalid drop
    ip saddr {{ {", ".join(host.addresses[0] for host in plan.BACKENDS)} }} ct state new drop
    ip6 saddr {{ {", ".join(host.addresses6[0] for host in plan.BACKENDS)} }} ct state new drop
  }}
  chain arriving {{
    type filter hook input priority filter;
    ct state invalid drop
    ip daddr {{ {plan.INSIDE_VIP}, {plan.OUTSIDE_VIP} }} meta l4proto {{ tcp, udp }} drop
    ip6 daddr {{ {plan.INSIDE_VIP6}, {plan.OUTSIDE_VIP6} }} meta l4proto {{ tcp, udp }} drop
  }}
}}
"""


def _services(family: str, vip: str, backends: list[str]) -> str:
    services = (
        ("tcp", plan.WEB_PORT, plan.BACKEND_TCP_PORT),
        ("udp", plan.NAME_PORT, plan.BACKEND_UDP_PORT),
        ("tcp", plan.BULK_SERVICE_PORT, plan.BULK_PORT),
    )
    choices = ", ".join(f"{place} : {backend.strip('[]')}" for place, backend in enumerate(backends))
    return "".join(
        f"    {family} daddr {vip} {protocol} dport {port} dnat to jhash {family} saddr . {protocol} sport "
        f"mod {len(backends)} seed 1 map {{ {choices} }} : {backend_port}\n"
        for protocol, port, backend_port in services
    )


def sysctls(options: IncumbentOptions) -> dict[str, str | int]:
    """What the gateways' kernels are told.

    A connection whose entry had not been synchronised is picked up in its middle, which is the kernel's default. With
    kept ports and hashed backends its mapping is the old one again. With random ports it would be another: refused.
    """
    return {
        "net/ipv4/ip_forward": 1,
        "net/ipv6/conf/all/forwarding": 1,
        "net/netfilter/nf_conntrack_tcp_be_liberal": 1,  # conntrackd does not synchronise windows
        "net/netfilter/nf_conntrack_tcp_loose": 0 if options.random_ports else 1,
    }
