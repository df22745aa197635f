"""Which version of the protocol a pair speaks: proto/sync.md §4.1.

Every heartbeat names the newest version that its sender speaks, so both know without asking. The stream agrees on its
own version anew each time (HELLO); here is what holds where there is no stream.
"""

from __future__ import annotations

from hasyncd.core.effects import Effect, ReportEvent
from hasyncd.core.messages import FITNESS_FULL, Heartbeat
from hasyncd.core.types import PairSettings

PROTOCOL_OF_FITNESS = 2
PROTOCOL_OF_YOUTH = 2
PROTOCOL_OF_MEMBERS = 3


class Versions:
    """The older of both nodes' newest versions."""

    def __init__(self, settings: PairSettings) -> None:
        self._own = self._told = settings.protocols[1]
        self.pair: int | None = None
        """None until the peer was heard."""

    def hear(self, beat: Heartbeat) -> list[Effect]:
        """Takes an accepted heartbeat. A change is told: the pair that both would like to be needs no word."""
        self.pair = min(self._own, beat.protocol)
        if self.pair == self._told:
            return []
        self._told = self.pair
        newest = f"{beat.node} speaks up to {beat.protocol}, this node up to {self._own}"
        return [ReportEvent("protocol_changed", f"the pair speaks version {self.pair}: {newest}")]

    @property
    def tells_tables(self) -> bool:
        """Whether both say which tables they use."""
        return self.pair is not None and self.pair >= PROTOCOL_OF_MEMBERS

    def fitness_of(self, beat: Heartbeat) -> int:
        """The peer's, where both would count it; one node alone must not (proto/pair.md §5)."""
        return beat.fitness if self.pair is not None and self.pair >= PROTOCOL_OF_FITNESS else FITNESS_FULL
