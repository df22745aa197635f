"""A service has 1,024 places for backends; one that left keeps its place while it has flows, and no longer."""

from __future__ import annotations

import pytest

from hasyncd._native import BackendTable
from tests.native.engines import publish_ring
from tests.native.frames import ACK, RST, SYN, number, tcp
from tests.native.nat_gateway import OUTSIDE, OUTSIDE_VIP, Gateway

CLIENT, PLACES = "198.51.100.9", 1024


def generation_of(first: str, count: int) -> list[tuple[int, int, int, int]]:
    """Backends at consecutive addresses, numbered by them."""
    return [(number(first) + i, number(first) + i, 8080, 1) for i in range(count)]


def serving(backends: list[tuple[int, int, int, int]]) -> Gateway:
    gateway = Gateway()
    gateway.engine.set_service(0, number(OUTSIDE_VIP), 80, 6, [(0, 0)])
    publish_ring(gateway.engine, 0, backends, 1, 4)
    return gateway


def test_places_of_backends_without_flows_serve_newcomers() -> None:
    gateway = serving(generation_of("10.0.4.0", PLACES))
    for round_, first in enumerate(["10.0.8.0", "10.0.12.0", "10.0.4.0"], start=2):
        publish_ring(gateway.engine, 0, generation_of(first, PLACES), round_, 4)
        ((_, sent),) = gateway.send(OUTSIDE, tcp(CLIENT, 5000 + round_, OUTSIDE_VIP, 80, SYN))
        assert sent.target.startswith(first[:5])
        gateway.send(OUTSIDE, tcp(CLIENT, 5000 + round_, OUTSIDE_VIP, 80, RST))
        gateway.wait(241)
        assert gateway.flows == 0


def test_a_backend_that_left_keeps_its_place_while_it_has_flows() -> None:
    gateway = serving([(1, number("10.0.4.1"), 8080, 1)])
    gateway.send(OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, SYN))
    gateway.send(0, tcp("10.0.4.1", 8080, CLIENT, 5000, SYN | ACK))
    with pytest.raises(ValueError, match="more backends"):
        publish_ring(gateway.engine, 0, generation_of("10.0.8.0", PLACES), 2, 4)
    rows = [(*backend, 0) for backend in generation_of("10.0.8.0", PLACES - 1)]
    members = [(row[0], 1) for row in rows]
    drained = (1, number("10.0.4.1"), 8080, 1, 1)
    gateway.engine.publish(0, [drained, *rows], BackendTable("consistent-hash", members, 2, 4))
    ((_, sent),) = gateway.send(OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, ACK))
    assert sent.target == "10.0.4.1", "its flow goes on"
    assert gateway.engine.backend_flow_counts(0)[1] == 1
    gateway.send(OUTSIDE, tcp(CLIENT, 5000, OUTSIDE_VIP, 80, RST))
    gateway.wait(241)
    publish_ring(gateway.engine, 0, generation_of("10.0.8.0", PLACES), 3, 4)
