"""Nodes' files with other backends: every service has them, in its family and at its port."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hasyncd.lab import plan
from hasyncd.lab.backends import HEALTH_EDITS, MORE, RingChange, host_of, with_backends
from hasyncd.lab.nodes import NodeOptions, node_configuration


def a_file() -> str:
    return node_configuration(plan.GATEWAYS[0], Path("/state"), Path("/keys"), NodeOptions())


def test_every_service_gets_the_backends_at_its_own_port_and_family() -> None:
    document = tomllib.loads(with_backends(a_file(), {21: 1, 33: 5}))
    assert len(document["service"]) == len(HEALTH_EDITS)
    for before, service in zip(tomllib.loads(a_file())["service"], document["service"], strict=True):
        port = before["backends"][0]["address"].rpartition(":")[2]
        addresses = (
            ["[2001:db8:1::21]", "[2001:db8:1::33]"]
            if service["vip"][0] == "["
            else ["10.0.1.21", "10.0.1.33"]
        )
        assert service["backends"] == [
            {"id": 21, "address": f"{addresses[0]}:{port}", "weight": 1},
            {"id": 33, "address": f"{addresses[1]}:{port}", "weight": 5},
        ]
    assert with_backends(with_backends(a_file(), dict.fromkeys(MORE, 2)), {21: 1}) == with_backends(
        a_file(), {21: 1}
    )


def test_health_is_found_in_every_service() -> None:
    text = a_file()
    for words, others in HEALTH_EDITS:
        assert text.count(words) == 1
        text = text.replace(words, others)
    assert all(
        service["health"]["port"] == plan.BACKEND_TCP_PORT for service in tomllib.loads(text)["service"]
    )


def test_further_backends_live_with_the_others_and_have_numbers_of_their_own() -> None:
    taken = [host.addresses[0] for host in plan.HOSTS]
    for number in MORE:
        host = host_of(number)
        assert host.number == number
        assert host.addresses[0] not in taken
        assert host.name in [backend.name for backend in plan.BACKENDS]


def test_a_change_is_drawn_for_services_that_it_concerned() -> None:
    def ring(**rows: tuple[float, int]) -> dict[str, object]:
        rows_ = [
            {"id": int(key[1:]), "share": share, "flows": flows, "weight": 1}
            for key, (share, flows) in rows.items()
        ]
        return {"backends": rows_}

    before = {"web": ring(b1=(1.0, 7)), "idle": ring(b1=(1.0, 0)), "same": ring(b1=(1.0, 7))}
    after = {"web": ring(b1=(0.5, 7), b2=(0.5, 0)), "idle": ring(b1=(0.5, 0)), "same": ring(b1=(1.0, 7))}
    assert RingChange("2 came", before, after).to_json() == [
        {
            "service": "web",
            "what": "2 came",
            "before": [{"id": 1, "share": 1.0, "flows": 7}],
            "after": [{"id": 1, "share": 0.5, "flows": 7}, {"id": 2, "share": 0.5, "flows": 0}],
        }
    ]
