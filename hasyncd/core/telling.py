"""What a node tells its peer of how it balances: proto/sync.md §4.4 and the digest of pair.md §5."""

from __future__ import annotations

from collections.abc import Iterable

from hasyncd.core.after_split import AfterSplit
from hasyncd.core.effects import Effect
from hasyncd.core.members import MemberWord
from hasyncd.core.types import Role


class Telling(AfterSplit):
    """Inputs of the balancer. The core decides nothing by them; it knows whom to tell, and when."""

    def set_ring_generations(self, rings: tuple[int, ...], tables: int) -> None:
        """One a service, in order of configuration, and a digest over all tables that are in use; the next heartbeat
        carries them."""
        self._voice.rings, self._voice.tables = rings, tables

    def set_config_hash(self, config_hash: bytes) -> None:
        """The configuration was reloaded."""
        self._config_hash = self._voice.config_hash = self._sender.config_hash = config_hash

    def tell_members(
        self, service: str, ring_generation: int, members: Iterable[MemberWord], now_ns: int
    ) -> list[Effect]:
        """A service has another table, or its backends another standing: said on the stream now, and on each that
        comes."""
        effects = self._wake(now_ns)
        said = self._sender.tell_members(service, ring_generation, tuple(members))
        return effects + (said if self._election.role is Role.PRIMARY else []) + self._settle(now_ns)
