"""What two nodes say to each other, as values: the frames of proto/sync.md §4 and the heartbeat of
proto/pair.md §5. How they become bytes is `wire.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

from hasyncd.core.members import MemberWord
from hasyncd.core.types import Role

PROTOCOL = 3
"""The newest version that this program speaks; proto/sync.md §4.1."""
PROTOCOL_MIN = 1
"""The oldest."""
FEATURE_IPV6 = 0b10
"""Records of kind 6: a node that forwards IPv6 cannot do without."""
FEATURE_OFFER = 0b100
"""A primary that takes a backup's flows after a split: proto/sync.md §7a."""
FEATURES = 0b1 | FEATURE_IPV6 | FEATURE_OFFER
"""Bits of proto/sync.md §4.2: records of kind 5 and 6, OFFER."""
WINDOW = 65_536
"""Records that a backup lets be sent ahead of its acknowledgement; proto/sync.md §5.1."""

FITNESS_FULL = 1000
"""All tracks are good; what a peer that says nothing of it counts as."""

HEARD_NEVER = 2**32 - 1
"""`heard_ms` when nothing was heard yet."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Primary to backup, first frame of a stream."""

    protocol: int
    node: str
    boot_id: int
    generation: int
    config_hash: bytes
    capacity: int
    seed: bytes
    log_next: int
    protocol_min: int = PROTOCOL_MIN
    features: int = FEATURES
    resume_from: int = 1
    """Oldest sequence that RESUME could name; `log_next` + 1 where a comparison is wanted."""


@dataclass(frozen=True, slots=True)
class HelloReply:
    """What the backup holds; `Refuse` and `Offer` apart the only frame from backup to primary."""

    protocol: int
    node: str
    boot_id: int
    generation: int
    """Of the history held, 0 when none."""
    log_boot_id: int
    installed: int
    synced: bool
    features: int = FEATURES
    """Both have them."""
    window: int = WINDOW
    digests: bytes = b""
    """One u64 a bucket of a table of HELLO's capacity; empty: to be resumed, or to be given everything."""


@dataclass(frozen=True, slots=True)
class Refuse:
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    generation: int
    next: int


@dataclass(frozen=True, slots=True)
class SyncBegin:
    generation: int
    next: int
    flow_count: int
    suspects: bytes = b""
    """One bit a bucket, the least significant first; empty: every bucket."""


@dataclass(frozen=True, slots=True)
class Deltas:
    generation: int
    first: int
    count: int
    records: bytes


@dataclass(frozen=True, slots=True)
class SyncEnd:
    generation: int
    sequence: int
    flow_count: int
    digest: int


@dataclass(frozen=True, slots=True)
class Leaving:
    generation: int
    sequence: int
    handover: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """Backup to primary, ahead of `HelloReply`: flows that the primary may lack since a split."""

    generation: int
    count: int
    records: bytes


@dataclass(frozen=True, slots=True)
class Members:
    """Primary to backup, of version 3: whom a service's new flows go to, and why not to the others."""

    generation: int
    service: str
    ring_generation: int
    members: tuple[MemberWord, ...]
    """By id."""


Frame = Hello | HelloReply | Refuse | Resume | SyncBegin | Deltas | SyncEnd | Leaving | Offer | Members


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One datagram that speaks for everything; field meanings in proto/pair.md §5."""

    protocol: int
    node: str
    boot_id: int
    counter: int
    role: Role
    generation: int
    priority: int
    leaving: bool
    ready: bool
    solo: bool
    sent_ns: int
    echo_boot_id: int
    echo_sent_ns: int
    heard_ms: int
    ack_boot_id: int
    ack_sequence: int
    head_sequence: int
    flow_count: int
    digest_sequence: int
    digest: int
    config_hash: bytes
    ring_generations: tuple[int, ...] = ()
    at_risk: int = 0
    """Flows of the sender that nobody has confirmed, and since when the oldest of them is not (ms)."""
    at_risk_oldest_ms: int = 0
    hears: int = 0
    """Bits of the paths on which the sender hears its peer: `core.paths.bit_of`."""
    fitness: int = FITNESS_FULL
    """Of the sender's machine, up to `FITNESS_FULL`; written from version 2 on."""
    young: bool = False
    """A primary that began with an empty table, of which no backup has completed a sync; from version 2 on."""

    tables: int = 0
    """A digest over the sender's backend tables, by their services' names; from version 3 on."""

    @property
    def standing(self) -> tuple[bool, int, int, str]:
        """What two primaries are compared by: proto/pair.md §7, P11."""
        return (not self.young, *self.rank)

    @property
    def rank(self) -> tuple[int, int, str]:
        """proto/pair.md §1: higher first."""
        return (self.generation, self.priority, self.node)
