"""An address of the pair that turns up on a kernel interface is said, once for each time."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from hasyncd.addresses import Address, Network
from hasyncd.runtime.claims import Claims

OURS, OTHER = IPv4Address("203.0.113.5"), IPv4Address("203.0.113.6")


def test_a_claim_is_said_when_it_appears_and_when_it_comes_back() -> None:
    kernel: list[Address] = []
    reported: list[str] = []

    def in_use(asked: Sequence[Network]) -> list[Address]:
        return [address for network in asked for address in kernel if address in network]

    claims = Claims(
        [IPv4Network(OURS), IPv4Network(OTHER)],
        lambda name, detail: reported.append(f"{name} {detail}"),
        in_use,
    )
    claims.look()
    assert reported == []
    kernel.append(OURS)
    claims.look()
    claims.look()
    assert len(reported) == 1
    assert reported[0].startswith("address_claimed 203.0.113.5:")
    kernel.clear()
    claims.look()
    kernel.extend([OURS, OTHER])
    claims.look()
    assert len(reported) == 2
    assert "203.0.113.5, 203.0.113.6" in reported[1]
