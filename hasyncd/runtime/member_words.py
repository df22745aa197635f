"""A backend's standing as the balancer has it, and as the core carries it to the peer."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from hasyncd.balance.membership import Told
from hasyncd.config_values import Endpoint
from hasyncd.core.members import MemberWord


def words_of(told: Iterable[Told]) -> list[MemberWord]:
    """What the core sends (proto/sync.md §4.4)."""
    return [
        MemberWord(
            each.id, each.address.address.packed, each.address.port, each.weight, each.ordered, int(each.state),
            each.step, each.drain_ms,
        )
        for each in told
    ]  # fmt: skip


def told_by(words: Iterable[MemberWord]) -> list[Told]:
    """What the core has received."""
    return [
        Told(
            word.id, Endpoint(ip_address(word.address), word.port), word.weight, word.ordered, word.state, word.step,
            word.drain_ms,
        )
        for word in words
    ]  # fmt: skip
