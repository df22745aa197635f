"""What the core may tell the shell to do. The shell performs a list of effects in order.

Effects are imperatives; each is one frozen dataclass. If `WriteGeneration` fails, the shell drops the
rest of its list and calls `Node.receive_fault` (proto/pair.md §4 step 3).
"""

from __future__ import annotations

from dataclasses import dataclass

from hasyncd.core.members import MemberWord
from hasyncd.core.register import Request
from hasyncd.core.types import Certificate, Role


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send `payload` to the peer, on every path or (`path`) on this one alone."""

    payload: bytes
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectStream:
    """Open the delta stream to the peer; answer with `receive_stream_opened` or `receive_stream_closed`."""


@dataclass(frozen=True, slots=True)
class WriteStream:
    """Queue one whole frame (length prefix included) on the stream, ahead of any later delta."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close the stream, whichever side opened it, and give up a connect under way. `flush`: first write out
    what is queued. No `receive_stream_closed` follows.
    """

    reason: str
    flush: bool = False


@dataclass(frozen=True, slots=True)
class ProbePeerPort:
    """Try to connect to the peer's port; answer with `receive_port_refused` if it was refused."""


@dataclass(frozen=True, slots=True)
class ResetTable:
    """Empty the flow table and take this seed."""

    seed: bytes


@dataclass(frozen=True, slots=True)
class DigestBuckets:
    """Answer with `receive_bucket_digests`: those of a table of `capacity` slots, proto/sync.md §8."""

    capacity: int


@dataclass(frozen=True, slots=True)
class CompareBuckets:
    """Compare the peer's bucket digests with our own; answer with `receive_suspects`, all of one moment."""

    digests: bytes


@dataclass(frozen=True, slots=True)
class BeginSync:
    """The flows of these buckets (empty: of all) of a table of `capacity` slots, and those beyond it, are suspect
    until written again.
    """

    suspects: bytes
    capacity: int


@dataclass(frozen=True, slots=True)
class EndSync:
    """Sweep what is suspect still; answer with `receive_sync_swept`."""


@dataclass(frozen=True, slots=True)
class InstallRecords:
    """Apply records `first` … ; answer with `receive_installed`."""

    first: int
    count: int
    records: bytes


@dataclass(frozen=True, slots=True)
class OfferFlows:
    """Put what a node that lost a split offers on the stream, each batch encoded by `Node.encode_offer` and made when
    write(2) has taken the one before; then answer with `receive_offer_finished`.
    """


@dataclass(frozen=True, slots=True)
class EndOffer:
    """The offer was judged: nothing that is held is at risk any more."""


@dataclass(frozen=True, slots=True)
class MergeFlows:
    """Add those of these flows that collide with none; answer with `receive_merged`."""

    records: bytes


@dataclass(frozen=True, slots=True)
class SetSolo:
    """Alone (or not): ports come of this node's half first, and what happens to flows is remembered for an offer."""

    solo: bool


@dataclass(frozen=True, slots=True)
class SendFrom:
    """Deltas may flow: continue the log at `sequence`, at most `window` records ahead of the acknowledgement."""

    sequence: int
    window: int


@dataclass(frozen=True, slots=True)
class StartSnapshot:
    """Begin a sync: sending starts afresh at `first` and the cursor at the first slot.

    SYNC_BEGIN has named `first`; what was appended since belongs to the records that follow it. If the log holds
    `first` no more, the answer is `receive_log_overrun`. `window` as in `SendFrom`. The cursor appends an ADD for each
    flow in `suspects` (empty: everywhere) and, with `refresh`, an UPDATE for each other one.
    """

    first: int
    window: int
    suspects: bytes = b""
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class StopDeltas:
    """Nothing more is put on the stream."""


@dataclass(frozen=True, slots=True)
class FlushLog:
    """Drain the whole log onto the stream now, then call `receive_log_flushed(head_sequence)`."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The peer has installed everything up to `sequence` of our log."""

    sequence: int


@dataclass(frozen=True, slots=True)
class SetCommit:
    """Hold new flows for the peer (`True`: the configured mode) or not at all."""

    hold: bool


@dataclass(frozen=True, slots=True)
class WriteGeneration:
    """Make this generation durable before anything after it in the list."""

    generation: int


@dataclass(frozen=True, slots=True)
class Arm:
    """Forward and answer until `lease_until_ns`; ageing resumes."""

    lease_until_ns: int


@dataclass(frozen=True, slots=True)
class RenewLease:
    lease_until_ns: int


@dataclass(frozen=True, slots=True)
class Disarm:
    """Stop forwarding and answering now. In a hand-over, what waits and what still arrives for the pair goes on to the
    VIPs' new owner until `relay_until_ns`: in one step, because a packet may come between two."""

    relay_until_ns: int = 0
    """0: what waits is dropped."""


@dataclass(frozen=True, slots=True)
class AnnounceVips:
    """Send gratuitous ARP, both forms, for every IPv4 VIP and an unsolicited advertisement for every IPv6 one."""


@dataclass(frozen=True, slots=True)
class ProbeVips:
    """Ask on every LAN who has the VIPs."""


@dataclass(frozen=True, slots=True)
class LookAtVips:
    """Answer with `receive_vip_states`: what was heard."""


@dataclass(frozen=True, slots=True)
class AskWitness:
    """Compare-and-swap the register; answer with `receive_witness_answer`. It replaces a request under way, whose
    answer is not wanted any more.
    """

    request: Request


@dataclass(frozen=True, slots=True)
class ReportRole:
    """One line for the log: the role changed, and why."""

    previous: Role
    role: Role
    generation: int
    reason: str
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """Something an operator wants to know that is no role change."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """The hand-over that SIGTERM asked for is done: the process may end."""


@dataclass(frozen=True, slots=True)
class FollowMembers:
    """Make the primary's word on a service's backends the service's table: proto/sync.md §4.4."""

    service: str
    ring_generation: int
    members: tuple[MemberWord, ...]


Effect = (
    SendDatagram
    | ConnectStream
    | WriteStream
    | CloseStream
    | ProbePeerPort
    | ResetTable
    | DigestBuckets
    | CompareBuckets
    | BeginSync
    | EndSync
    | InstallRecords
    | OfferFlows
    | EndOffer
    | MergeFlows
    | SetSolo
    | SendFrom
    | StartSnapshot
    | StopDeltas
    | FlushLog
    | Acknowledge
    | SetCommit
    | WriteGeneration
    | Arm
    | RenewLease
    | Disarm
    | AnnounceVips
    | ProbeVips
    | LookAtVips
    | AskWitness
    | FollowMembers
    | ReportRole
    | ReportEvent
    | Stop
)

StreamEffect = (
    ConnectStream
    | WriteStream
    | CloseStream
    | ProbePeerPort
    | SendFrom
    | StartSnapshot
    | StopDeltas
    | FlushLog
)

TableEffect = ResetTable | DigestBuckets | CompareBuckets | BeginSync | EndSync | InstallRecords
