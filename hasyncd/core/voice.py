"""What a node says of itself in every heartbeat: proto/pair.md §5, field by field."""

from __future__ import annotations

from hasyncd.core.effects import SendDatagram
from hasyncd.core.election import Election
from hasyncd.core.liveness import Liveness
from hasyncd.core.messages import FITNESS_FULL, Heartbeat
from hasyncd.core.receiver import History
from hasyncd.core.types import MILLISECOND_NS, LogState, PairSettings, Role
from hasyncd.core.wire import encode_heartbeat


class Voice:
    """Counts what it says, so that nobody hears it twice."""

    def __init__(self, settings: PairSettings, boot_id: int) -> None:
        self._settings = settings
        self._boot_id = boot_id
        self._counter = 0
        self.config_hash = settings.config_hash
        self.rings: tuple[int, ...] = ()
        """Generations of the services' rings, in order of configuration."""
        self.tables = 0
        """A digest over the tables in use."""
        self.fitness = FITNESS_FULL

    def beat(
        self,
        now_ns: int,
        election: Election,
        liveness: Liveness,
        held: History,
        log: LogState,
        *,
        leaving: bool,
        ready: bool,
        solo: bool,
        hears: int,
        young: bool,
        echo: Heartbeat | None = None,
        path: str | None = None,
    ) -> SendDatagram:
        self._counter += 1
        primary = election.role is Role.PRIMARY
        mirrors = election.role is Role.BACKUP and held.boot_id != 0
        peer = echo or liveness.beat
        beat = Heartbeat(
            protocol=self._settings.protocols[1],
            node=self._settings.node,
            boot_id=self._boot_id,
            counter=self._counter,
            role=election.role,
            generation=election.generation,
            priority=self._settings.priority,
            leaving=leaving,
            ready=ready,
            solo=solo,
            sent_ns=now_ns,
            echo_boot_id=peer.boot_id if peer else 0,
            echo_sent_ns=peer.sent_ns if peer else 0,
            heard_ms=0 if echo else liveness.heard_ms(now_ns),
            ack_boot_id=held.boot_id if mirrors else 0,
            ack_sequence=held.installed if mirrors else 0,
            head_sequence=log.head_sequence,
            flow_count=log.flow_count,
            digest_sequence=log.head_sequence if primary else 0,
            digest=log.digest if primary else 0,
            config_hash=self.config_hash,
            ring_generations=self.rings,
            # sync.md §5: "While no peer is synced, every flow is at risk."
            at_risk=(log.at_risk if ready else log.flow_count) if primary else 0,
            at_risk_oldest_ms=log.at_risk_oldest_ns // MILLISECOND_NS if primary else 0,
            hears=hears,
            fitness=self.fitness,
            young=primary and young,
            tables=self.tables,
        )
        return SendDatagram(encode_heartbeat(beat), path)
