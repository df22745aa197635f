"""Services as the engine takes them, and how their tables change."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from hasyncd import config
from hasyncd.balance.services import Declaration, Publication, Services

FILE = """
[node]
name = "gw-a"
[interfaces]
inside = "eth1"
outside = "eth0"
[[vip]]
address = "203.0.113.5/24"
interface = "outside"
[peer]
listen = "169.254.10.1:7077"
address = "169.254.10.2:7077"
insecure = true
[[service]]
name = "web"
vip = "203.0.113.5:80"
protocol = "tcp"
backends = [
  { id = 1, address = "10.0.1.21:8080", weight = 3 },
  { id = 2, address = "10.0.1.22:8080" },
]
[[service]]
name = "dns"
vip = "203.0.113.5:53"
protocol = "udp"
allow = ["198.51.100.0/24", "192.0.2.7/32"]
backends = [{ id = 1, address = "10.0.1.21:5353" }]
"""

VIP = int(IPv4Address("203.0.113.5"))
FIRST = (1, int(IPv4Address("10.0.1.21")), 8080, 3, 0)
SECOND = (2, int(IPv4Address("10.0.1.22")), 8080, 1, 0)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    path = tmp_path / "hasyncd.toml"
    path.write_text(FILE)
    return Services(config.load(path).service)


def test_declares_services_in_the_order_of_the_configuration(services: Services) -> None:
    assert services.declarations() == [
        Declaration(0, VIP, 80, 6, [(0, 0)]),
        Declaration(
            1, VIP, 53, 17, [(int(IPv4Address("198.51.100.0")), 24), (int(IPv4Address("192.0.2.7")), 32)]
        ),
    ]


def test_ipv6_services_have_their_addresses_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "hasyncd.toml"
    path.write_text(FILE.replace("203.0.113.5:80", "[2001:db8:2::5]:80").replace("10.0.1.2", "2001:db8:1::2")
                    .replace('"203.0.113.5/24"', '"2001:db8:2::5/64"').replace("203.0.113.5:53", "[2001:db8:2::5]:53")
                    .replace('"198.51.100.0/24", "192.0.2.7/32"', '"2001:db8:7::/48"')
                    .replace('"2001:db8:1::21:8080"', '"[2001:db8:1::21]:8080"')
                    .replace('"2001:db8:1::22:8080"', '"[2001:db8:1::22]:8080"')
                    .replace('"2001:db8:1::21:5353"', '"[2001:db8:1::21]:5353"'))  # fmt: skip
    services = Services(config.load(path).service)
    vip, backend = IPv6Address("2001:db8:2::5").packed, IPv6Address("2001:db8:1::21").packed
    web, dns = services.declarations()
    assert web == Declaration(0, vip, 80, 6, [(bytes(16), 0)])
    assert dns.allow == [(IPv6Address("2001:db8:7::").packed, 48)]
    assert services.publication(1) == Publication(1, [(1, backend, 5353, 1, 0)], 1, "consistent-hash")
    assert services.views()[0].vip == "[2001:db8:2::5]:80"


def test_the_first_table_holds_every_backend(services: Services) -> None:
    assert services.publication(0) == Publication(0, [FIRST, SECOND], 1, "consistent-hash")
    assert services.ring_generations() == (1, 1)


def test_every_change_of_membership_makes_the_next_generation(services: Services) -> None:
    assert services.set_backend_up(0, 1, False) == Publication(
        0, [(*FIRST[:4], 2), SECOND], 2, "consistent-hash"
    )
    assert services.set_backend_up(0, 1, True) == Publication(0, [FIRST, SECOND], 3, "consistent-hash")
    assert services.ring_generations() == (3, 1)


def test_what_changes_nothing_makes_no_generation(services: Services) -> None:
    assert services.set_backend_up(0, 1, True) is None
    services.set_backend_up(0, 1, False)
    assert services.set_backend_up(0, 1, False) is None
    assert services.ring_generations() == (2, 1)


def test_a_service_without_a_live_backend_has_an_explicit_empty_table(services: Services) -> None:
    publication = services.set_backend_up(1, 1, False)
    assert publication == services.publication(1)
    assert publication.members == {}
    assert [(row[0], row[4]) for row in publication.backends] == [(1, 2)]


def test_an_unknown_backend_is_an_error_and_changes_nothing(services: Services) -> None:
    with pytest.raises(KeyError, match="dns has no backend 2"):
        services.set_backend_up(1, 2, False)
    assert services.ring_generations() == (1, 1)


def test_shows_services_for_status(services: Services) -> None:
    services.set_backend_up(0, 2, False)
    web, dns = services.views()
    assert (web.name, web.vip, web.algorithm, web.ring_generation) == (
        "web",
        "203.0.113.5:80",
        "consistent-hash",
        2,
    )
    assert [(backend.id, backend.weight, backend.state) for backend in web.backends] == [
        (1, 3, "up"),
        (2, 1, "down"),
    ]
    assert dns.backends[0].address == "10.0.1.21:5353"
