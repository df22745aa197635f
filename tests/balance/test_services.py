"""Services as the engine takes them, and how their tables change."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from hasyncd import config
from hasyncd.balance.services import Declaration, Publication, Services, digest_of
from hasyncd.balance.tables import build_table

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


def judged(services: Services, index: int, backend: int, up: bool) -> Publication | None:
    services[index].judge(backend, up, "no answer", 0)
    return services.settle(index)


def test_every_change_of_membership_makes_the_next_generation(services: Services) -> None:
    down = [(*FIRST[:4], 2), SECOND]
    assert judged(services, 0, 1, False) == Publication(
        0, down, 2, "consistent-hash", given_up=frozenset({1})
    )
    assert judged(services, 0, 1, True) == Publication(0, [FIRST, SECOND], 3, "consistent-hash")
    assert services.ring_generations() == (3, 1)


def test_what_changes_nothing_makes_no_generation(services: Services) -> None:
    assert judged(services, 0, 1, True) is None
    judged(services, 0, 1, False)
    assert judged(services, 0, 1, False) is None
    assert services.ring_generations() == (2, 1)


def test_a_service_without_a_live_backend_has_an_explicit_empty_table(services: Services) -> None:
    publication = judged(services, 1, 1, False)
    assert publication is not None
    assert publication.members == {}
    assert [(row[0], row[4]) for row in publication.backends] == [(1, 2)]


def test_an_unknown_backend_is_an_error_and_changes_nothing(services: Services) -> None:
    with pytest.raises(KeyError):
        judged(services, 1, 2, False)
    assert services.settle(1) is None
    assert services.ring_generations() == (1, 1)


def test_shows_services_for_status(services: Services) -> None:
    judged(services, 0, 2, False)
    web, dns = services.views()
    assert (web.name, web.vip, web.algorithm, web.ring_generation) == (
        "web",
        "203.0.113.5:80",
        "consistent-hash",
        2,
    )
    assert [
        (backend.id, backend.weight, backend.weight_effective, backend.state, backend.why)
        for backend in web.backends
    ] == [
        (1, 3, 3.0, "up", ""),
        (2, 1, 0.0, "down", "no answer"),
    ]
    assert dns.backends[0].address == "10.0.1.21:5353"


def test_a_drained_backend_stays_listed_and_gets_nothing_new(services: Services) -> None:
    services[0].drain(1, now_ns=0, timeout_ns=5 * 10**9)
    publication = services.settle(0)
    assert publication is not None
    assert publication.members == {2: 1}
    assert [(row[0], row[4]) for row in publication.backends] == [(1, 1), (2, 0)]
    backend = services.views(now_ns=2 * 10**9)[0].backends[0]
    assert (backend.state, backend.drain_left_ms, backend.weight_effective) == ("drain", 3000, 0.0)


def test_slow_start_takes_parts_of_a_weight_and_leaves_the_others_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "hasyncd.toml"
    path.write_text(FILE.replace('protocol = "tcp"', 'protocol = "tcp"\nslow_start_s = 30', 1))
    services = Services(config.load(path).service)
    whole = build_table(services.publication(0))
    judged(services, 0, 1, False)
    without = build_table(services.publication(0))
    shares = []
    for second in (0, 10, 20, 30):
        services[0].judge(1, True, "", 0)
        services[0].pass_time(second * 10**9)
        services.settle(0)
        table = build_table(services.publication(0))
        shares.append({id: keys for id, _, keys in table.shares()}[1] / 2**32)
        assert without.moved(table) / 2**32 == pytest.approx(shares[-1]), "only to the one that comes"
    assert shares == sorted(shares)
    assert [services.views()[0].backends[0].state, services.publication(0).scale] == ["up", 1]
    assert whole.moved(build_table(services.publication(0))) == 0


def test_who_leaves_a_reloaded_file_is_drained_and_who_comes_is_up(
    services: Services, tmp_path: Path
) -> None:
    path = tmp_path / "other.toml"
    path.write_text(
        FILE.replace('{ id = 2, address = "10.0.1.22:8080" }', '{ id = 3, address = "10.0.1.23:8080" }')
    )
    assert services.replace(config.load(path).service, 0) == [0]
    services.settle(0)
    states = {backend.id: backend.state for backend in services.views()[0].backends}
    assert states == {1: "up", 2: "removed", 3: "up"}
    assert services.publication(0).members == {1: 3, 3: 1}
    services[0].forget(2)
    services.settle(0)
    assert [row[0] for row in services.publication(0).backends] == [1, 3]


def test_the_digest_over_all_tables_does_not_know_their_order() -> None:
    assert (
        digest_of([("a", 1), ("b", 2)]) == digest_of([("b", 2), ("a", 1)]) != digest_of([("a", 2), ("b", 1)])
    )
