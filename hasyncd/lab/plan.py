"""Who lives in the lab, and at which address.

client .100-.103   server-50 .50   server-51 .51          203.0.113.0/24, VIP .5; 2001:db8:2::/64, VIP ::5
      |                 |               |
------+-----------------+---------------+------ br-out (in the namespace `lan`)
      |                               |
    gw-a .2 ===== sync 169.254.10 ===== gw-b .3
      |                               |
------+------+--------+---------+-------------- br-in
             |        |         |                          10.0.1.0/24, VIP .1; 2001:db8:1::/64, VIP ::1
       host-7, host-8  backend-21, backend-22

Everybody speaks both families; an IPv6 address ends in the same digits as its host's IPv4 address.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INSIDE_VIP = "10.0.1.1"
OUTSIDE_VIP = "203.0.113.5"
PREFIX_LENGTH = 24
INSIDE_VIP6 = "2001:db8:1::1"
OUTSIDE_VIP6 = "2001:db8:2::5"
PREFIX_LENGTH6 = 64
INSIDE_NETWORK6 = f"2001:db8:1::/{PREFIX_LENGTH6}"
"""The private hosts' IPv6: passed as it is, where their IPv4 is translated."""

WEB_PORT = 80
"""The TCP service on the outside VIP; its backends listen on `BACKEND_TCP_PORT`."""
NAME_PORT = 53
"""The UDP service on the outside VIP; its backends listen on `BACKEND_UDP_PORT`."""
BACKEND_TCP_PORT = 8080
BACKEND_UDP_PORT = 5353
SERVER_PORT = 7000
"""TCP and UDP on the outside servers, which private hosts reach through NAT."""
SERVER_PORTS = tuple(range(SERVER_PORT, SERVER_PORT + 8))
"""TCP of the same servers: thousands of connections a second need many far ends to find a public port."""
BULK_PORT = 9000
"""Bulk transfers on backends and on outside servers."""
BULK_SERVICE_PORT = 9000
FLOOD_PORT = 9100
"""Where numbered datagrams end, on an outside server."""
SINK_PORT_FIRST = 20_000
"""Background flows end on outside servers at ports from here on."""

RUN_DIR = Path("/run/hasyncd")


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace with one interface, `eth0`, on one LAN."""

    name: str
    side: str
    """`inside` or `outside`."""
    addresses: tuple[str, ...]
    number: int = 0
    """What the server in it calls itself; 0 for clients."""

    @property
    def addresses6(self) -> tuple[str, ...]:
        """Its IPv6 addresses, one for each of `addresses`."""
        return tuple(_address6(self.side, address) for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One namespace with `inside`, `outside` and `sync`."""

    name: str
    inside: str
    outside: str
    sync: str
    priority: int

    @property
    def inside6(self) -> str:
        return _address6("inside", self.inside)

    @property
    def outside6(self) -> str:
        return _address6("outside", self.outside)


def _address6(side: str, address: str) -> str:
    return f"2001:db8:{1 if side == 'inside' else 2}::{address.rpartition('.')[2]}"


CLIENTS = (Host("client", "outside", ("203.0.113.100", "203.0.113.101", "203.0.113.102", "203.0.113.103")),)
PRIVATE_HOSTS = (Host("host-7", "inside", ("10.0.1.7",)), Host("host-8", "inside", ("10.0.1.8",)))
BACKENDS = (
    Host("backend-21", "inside", ("10.0.1.21",), 21),
    Host("backend-22", "inside", ("10.0.1.22",), 22),
)
SERVERS = (
    Host("server-50", "outside", ("203.0.113.50",), 50),
    Host("server-51", "outside", ("203.0.113.51",), 51),
)
HOSTS = (*CLIENTS, *PRIVATE_HOSTS, *BACKENDS, *SERVERS)
GATEWAYS = (
    Gateway("gw-a", "10.0.1.2", "203.0.113.2", "169.254.10.1", 200),
    Gateway("gw-b", "10.0.1.3", "203.0.113.3", "169.254.10.2", 100),
)
LAN = "lan"
NAMES = (LAN, *(gateway.name for gateway in GATEWAYS), *(host.name for host in HOSTS))


def gateway_named(name: str) -> Gateway:
    """The gateway of that name. Raises KeyError."""
    for gateway in GATEWAYS:
        if gateway.name == name:
            return gateway
    raise KeyError(name)
