"""The configuration files that the lab writes are valid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasyncd import config
from hasyncd.lab import plan
from hasyncd.lab.nodes import NodeOptions, node_configuration


@pytest.mark.parametrize(
    ("sync_enabled", "insecure", "commit"), [(True, False, "ack"), (False, True, "emit")]
)
def test_both_nodes_files_are_valid_and_agree(
    tmp_path: Path, sync_enabled: bool, insecure: bool, commit: str
) -> None:
    options = NodeOptions(sync_enabled=sync_enabled, insecure=insecure, commit=commit)
    loaded = []
    for gateway in plan.GATEWAYS:
        file = tmp_path / f"{gateway.name}.toml"
        file.write_text(node_configuration(gateway, tmp_path, tmp_path / gateway.name, options))
        loaded.append(config.load(file))
    first, second = loaded
    assert first.config_hash() == second.config_hash()
    assert first.peer.listen == second.peer.address
    assert first.sync.enabled is second.sync.enabled is sync_enabled
    assert first.sync.commit == second.sync.commit == commit
    assert first.peer.insecure is second.peer.insecure is insecure
    assert (first.peer.keys is None) is insecure
    assert first.node.priority > second.node.priority
    assert [str(settings.control.socket) for settings in loaded] == [
        "/run/hasyncd/gw-a.sock",
        "/run/hasyncd/gw-b.sock",
    ]


def test_names_and_addresses_of_the_plan_are_unique() -> None:
    assert len(set(plan.NAMES)) == len(plan.NAMES)
    addresses = [address for host in plan.HOSTS for address in host.addresses]
    addresses += [address for host in plan.HOSTS for address in host.addresses6]
    addresses += [plan.INSIDE_VIP, plan.OUTSIDE_VIP, plan.INSIDE_VIP6, plan.OUTSIDE_VIP6]
    for gateway in plan.GATEWAYS:
        addresses += [gateway.inside, gateway.outside, gateway.sync, gateway.inside6, gateway.outside6]
    assert len(set(addresses)) == len(addresses)
