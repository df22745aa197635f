"""What the incumbent is told, where its files are ours to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasyncd.lab import plan
from hasyncd.lab.incumbent_files import (
    IncumbentOptions,
    Places,
    conntrackd_configuration,
    keepalived_configuration,
    rules,
    stock_script,
)

PLACES = Places(Path("/somewhere"))


@pytest.mark.parametrize(
    ("adverts_ms", "interval", "version"), [(1000, "1", False), (100, "0.1", True), (10, "0.01", True)]
)
def test_short_adverts_need_the_newer_protocol(adverts_ms: int, interval: str, version: bool) -> None:
    text = keepalived_configuration(plan.GATEWAYS[0], PLACES, IncumbentOptions(adverts_ms))
    assert text.count(f"advert_int {interval}\n") == 2
    assert ("vrrp_version 3" in text) is version


def test_state_is_committed_by_the_script_that_conntrackd_ships() -> None:
    text = keepalived_configuration(plan.GATEWAYS[0], PLACES, IncumbentOptions())
    assert 'notify_master "/somewhere/primary-backup.sh primary"' in text
    alone = keepalived_configuration(plan.GATEWAYS[0], PLACES, IncumbentOptions(sync_enabled=False))
    assert "notify" not in alone


def test_stock_script_is_changed_in_its_paths_only() -> None:
    packaged = (
        "#!/bin/sh\nCONNTRACKD_LOCK=/var/lock/x\nCONNTRACKD_CONFIG=/etc/x\n$BIN -C $CONNTRACKD_CONFIG -c\n"
    )
    assert stock_script(packaged, PLACES).splitlines() == [
        "#!/bin/sh",
        "CONNTRACKD_LOCK=/somewhere/conntrackd.lock",
        "CONNTRACKD_CONFIG=/somewhere/conntrackd.conf",
        "$BIN -C $CONNTRACKD_CONFIG -c",
    ]
    with pytest.raises(ValueError, match="no line CONNTRACKD_CONFIG"):
        stock_script("CONNTRACKD_LOCK=x\n", PLACES)


def test_flows_of_the_outside_address_are_synchronised() -> None:
    """Balanced and translated flows have it in their tuples; the shipped example ignores the addresses of its VIPs."""
    first, second = plan.GATEWAYS
    text = conntrackd_configuration(first, second, PLACES)
    assert plan.OUTSIDE_VIP not in text
    assert plan.OUTSIDE_VIP6 not in text
    assert "      TCP\n      UDP\n" in text
    assert f"IPv4_Destination_Address {second.sync}\n" in text


def test_ports_are_random_only_when_asked_for() -> None:
    assert "fully-random" not in rules(IncumbentOptions())
    assert "fully-random" in rules(IncumbentOptions(random_ports=True))
    assert IncumbentOptions(100, random_ports=True).variant == "adverts 100 ms, random ports"
