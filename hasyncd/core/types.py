"""The words of the pair as plain values, shared by every file of the core and shown to the shell.

Moments (`*_ns`) are CLOCK_BOOTTIME of this node in nanoseconds; durations are nanoseconds too.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000


class Role(enum.Enum):
    """proto/pair.md §1."""

    INIT = "init"
    BACKUP = "backup"
    PRIMARY = "primary"
    FAULT = "fault"


class SyncState(enum.Enum):
    """How much of a table the peer shares with us (or we with it)."""

    NONE = "none"
    """No stream, and nothing held."""
    SYNCING = "syncing"
    """A handshake or a sync is under way."""
    READY = "ready"
    """The sync is complete and verified, and deltas flow."""
    DEGRADED = "degraded"
    """It was ready once; now the stream is lost or the tables drifted."""


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """One check of this machine's fitness; proto/pair.md §4e."""

    name: str
    kind: str
    """`lan`, `interface`, `gateway` or `command`."""
    weight: int
    """Its share of the fitness; 0 of a LAN, without which there is none."""
    rise: int
    """Good samples in a row that bring it back."""
    fall: int
    """Bad ones in a row that make it fail."""


@dataclass(frozen=True, slots=True)
class PairSettings:
    """What the core has to know of the configuration."""

    node: str
    priority: int
    heartbeat_ns: int
    dead_after_ns: int
    prefer: str
    """`availability` or `safety`."""
    sync_enabled: bool
    capacity: int
    """Flows the table holds."""
    config_hash: bytes
    """8 bytes over the parts both nodes must share."""
    protocols: tuple[int, int] = (1, 3)
    """The oldest and the newest version spoken; proto/sync.md §4.1."""
    features: int = 7
    """proto/sync.md §4.2; what the configuration cannot do without is `features_needed`."""
    features_needed: int = 0
    window: int = 65_536
    """Records that a primary may send ahead of our acknowledgement; proto/sync.md §5.1."""
    paths: tuple[str, ...] = ("sync",)
    """The ways of the heartbeats; proto/pair.md §5b."""
    wait_ns: int = 0
    """How much longer than dead_after a backup without all flows waits for a silent primary; proto/pair.md §4b."""
    authenticated: bool = False
    """Heartbeats are sealed, so that a replay is what is left to fear: proto/pair.md §8."""

    tracks: tuple[TrackSettings, ...] = ()
    """Beside the two LANs, which every node tracks."""
    fitness_margin: int = 100
    """By how much the peer has to be fitter, and for how long, before this node hands over; proto/pair.md §4e."""
    hold_down_ns: int = SECOND_NS

    takes_owned_vips: bool = False
    """Acts alone although somebody else has the VIPs; proto/pair.md §4c."""
    witness: bool = False
    """A witness decides who may act alone on silence; proto/pair.md §7b."""

    @property
    def probe_ns(self) -> int:
        """proto/pair.md §2: how long the LANs are asked for the VIPs' owner."""
        return self.dead_after_ns // 4

    @property
    def lease_ns(self) -> int:
        """proto/pair.md §2: 0.8 x dead_after."""
        return self.dead_after_ns * 4 // 5

    @property
    def listen_ns(self) -> int:
        """proto/pair.md §2: how long `init` listens before it may act alone."""
        return self.dead_after_ns + (255 - min(self.priority, 255)) * self.dead_after_ns // 255

    @property
    def acts_alone(self) -> bool:
        """On silence: by its own judgement, or by the witness'."""
        return self.prefer == "availability" or self.witness


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a backup knew of its completeness when it took over; proto/pair.md §4 step 2."""

    generation: int
    """Of the history the table came from; 0 when it held none."""
    last_sequence: int
    """Last contiguous record installed of that history's log."""
    digest: str
    """Verdict of the last comparison: `match`, `mismatch` or `unknown`."""
    flows_held: int
    flows_missing: int | None
    """How many are missing of those that the primary spoke of; None where it cannot be known."""
    flows_missing_is: str
    """How that is known: `exact`, `at_most` or `unknown`; proto/pair.md §4a."""
    complete: bool
    """Sync verified, no drift, nothing heard of that was not installed."""


@dataclass(frozen=True, slots=True)
class LogState:
    """The shell's latest word on the flow table and its delta log."""

    head_sequence: int = 0
    """Last sequence written; 0 when the log is empty."""
    flow_count: int = 0
    digest: int = 0
    oldest_sequence: int = 1
    """Oldest sequence the log still holds."""
    at_risk: int = 0
    """Flows with an ADD or a change of state that is not acknowledged."""
    at_risk_oldest_ns: int = 0
    """Age of the oldest record that is not acknowledged; 0 while nothing is at risk."""


@dataclass(frozen=True, slots=True)
class VipState:
    """What the data path has heard about one VIP."""

    address: str
    interface: str
    claimant: str
    """The MAC that last said it has the VIP, and is not ours."""
    claimed_ns: int
    """When; 0: nobody has."""
    seen_ns: int
    """When traffic for it last came here; 0: none has."""

    def describe(self) -> str:
        return f"{self.address} ({self.interface}): {self.claimant} has it"


@dataclass(frozen=True, slots=True)
class VipView:
    """What an armed primary knows of a VIP; proto/pair.md §4d."""

    address: str
    verified_ms: int | None
    """Milliseconds after arming; None: not verified."""
    claimant: str | None
    """The MAC of somebody else who has it, too."""


@dataclass(frozen=True, slots=True)
class TrackView:
    name: str
    kind: str
    weight: int
    good: bool
    why: str
    """What the last check said where it is not good."""


@dataclass(frozen=True, slots=True)
class PathView:
    name: str
    up: bool
    last_heard_ns: int | None


@dataclass(frozen=True, slots=True)
class WitnessView:
    """What is known of the witness; proto/pair.md §7b."""

    reachable: bool | None
    """None: it was not asked yet."""
    licensed: bool
    """By its word this node acts alone."""
    node: str | None
    """Who wrote the register last; None as the other two where nobody has, or where it is not known."""
    generation: int | None
    alone: bool | None


@dataclass(frozen=True, slots=True)
class Findings:
    """How many of our flows a sync found to be otherwise than the primary's."""

    added: int = 0
    replaced: int = 0
    """The slot held another flow, or the flow otherwise."""
    removed: int = 0
    unchanged: int = 0
    """Sent, and held alike already."""


@dataclass(frozen=True, slots=True)
class LastSync:
    """A completed sync; None is what this side of the stream cannot know."""

    kind: str
    """`full`, `least` or `resume`: proto/sync.md §7."""
    buckets: int | None = None
    suspects: int | None = None
    flows_sent: int | None = None
    """ADDs of the cursor (primary)."""
    refreshed: int | None = None
    """UPDATEs of the cursor (primary)."""
    added: int | None = None
    replaced: int | None = None
    removed: int | None = None
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class MergeFindings:
    """What became of offered flows: proto/pair.md P22. `closed` are TCP connections of the two before it."""

    known: int = 0
    merged: int = 0
    collided: int = 0
    refused: int = 0
    closed: int = 0

    def __add__(self, other: MergeFindings) -> MergeFindings:
        return MergeFindings(
            self.known + other.known, self.merged + other.merged, self.collided + other.collided,
            self.refused + other.refused, self.closed + other.closed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MergeReport:
    """The last offer after a split; only the winner knows what it found."""

    offered: int
    found: MergeFindings | None = None


@dataclass(frozen=True, slots=True)
class PeerView:
    state: str
    """`connected` (heard, and it hears us), `lost` or `never`."""
    last_heard_ns: int | None
    node: str | None
    role: Role | None
    generation: int | None
    config_matches: bool | None
    at_risk: int | None = None
    """What a primary last said: its flows that nobody has confirmed, and for how long the oldest has not been."""
    at_risk_oldest_ms: int | None = None
    ring_generations: tuple[int, ...] = ()
    paths: tuple[PathView, ...] = ()
    protocol: int | None = None
    """The version that the pair speaks: the older of both nodes' newest."""
    fitness: int | None = None
    flows: int | None = None
    """What the peer last said that it holds, and whether it is in step (a backup)."""
    ready: bool | None = None
    tables_match: bool | None = None
    """Whether it uses the same backend tables; None where one of both does not say."""


@dataclass(frozen=True, slots=True)
class SyncView:
    state: SyncState
    installed: int
    """Last record installed here (backup)."""
    acked: int
    """Last record the peer has confirmed (primary)."""
    head: int
    """Last record written to our own log."""
    digest_match: bool | None
    full_syncs: int
    """Full syncs begun, as sender and as receiver."""
    least_syncs: int = 0
    reason: str | None = None
    """Why the state is `degraded`, where somebody has to act: `config_skew`, `refused: NAME`, `path_down: sync`."""
    protocol: int | None = None
    """What the two agreed on, while there is a stream."""
    features: int | None = None
    last: LastSync | None = None
    merge: MergeReport | None = None
    """What followed the last split."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What `status` shows of the pair."""

    role: Role
    generation: int
    solo: bool
    armed: bool
    """The core has armed the data path; the lease may still have run out there."""
    lease_until_ns: int
    leaving: bool
    commit_held: bool
    peer: PeerView
    sync: SyncView
    certificate: Certificate | None
    last_change_reason: str
    rejections: Mapping[str, int] = field(default_factory=dict)
    vips: tuple[VipView, ...] = ()
    fitness: int = 1000
    tracks: tuple[TrackView, ...] = ()
    witness: WitnessView | None = None
    """None: there is none."""
