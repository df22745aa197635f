"""Every metric, with what it means: the collector exports these and no others, deploy/metrics.md is made of them.

Names and units follow Prometheus' conventions: seconds and bytes, `_total` for what only grows, `_info` for what is
told by labels. A gauge that says which of several states holds has a series for each, 1 for the one that does.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "info", "histogram"]


class Family(NamedTuple):
    """One metric as it is documented and exported."""

    name: str
    """As series are called; `_total` and `_info` included."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return Family(f"hasyncd_{name}_total", "counter", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(f"hasyncd_{name}", "gauge", meaning, labels)


# --- the pair ---------------------------------------------------------------------------------------------

NODE: Final = Family(
    "hasyncd_node_info", "info", "Which node this is, and the program.", ("node", "engine", "version")
)
ROLE: Final = _gauge("role", "1 for the role that the node has now.", "role")
GENERATION: Final = _gauge("generation", "Number of the pair's session history; grows with every promotion.")
SOLO: Final = _gauge("solo", "1 while a primary acts alone: without a peer to lose nothing to.")
OWNER: Final = _gauge("forwarding", "1 while the lease lets this node forward and answer for the VIPs.")
FITNESS: Final = _gauge("fitness", "Of this machine, up to 1000 (proto/pair.md §4e).")
TRACK: Final = _gauge("track_good", "1 while a check of this machine is good.", "track", "kind")
CHANGED: Final = _gauge(
    "role_changed_timestamp_seconds", "When the role last changed, in Unix time; no series before it has."
)
ROLE_CHANGES: Final = _counter(
    "role_changes",
    "Role changes by the role taken and why. Failovers are those to `primary` for `process_dead`, `peer_silent`, "
    "`peer_restarted` and `peer_left`; every reason is in the list below.",
    "role", "reason",
)  # fmt: skip
TAKEOVER_COMPLETE: Final = _gauge(
    "takeover_complete",
    "1: the last promotion of this process began with every flow that the former primary spoke of; 0: flows were "
    "missing, or nobody knows. No series without a promotion.",
)
TAKEOVER_MISSING: Final = _gauge(
    "takeover_missing_flows",
    "Flows that were missing at the last promotion, at most; no series where nobody knows.",
)
EVENTS: Final = _counter("events", "Events by name (deploy/events.md).", "event")
WITNESS: Final = _gauge("witness_reachable", "1 while the witness answers; no series without one.")

# --- the peer ---------------------------------------------------------------------------------------------

PEER_STATE: Final = _gauge(
    "peer_state", "1 for what holds: `connected` (heard, and it hears us), `lost` or `never`.", "state"
)
PEER_HEARD: Final = _gauge(
    "peer_last_heard_seconds", "Age of the newest heartbeat that was accepted; no series before the first."
)
PEER_FITNESS: Final = _gauge("peer_fitness", "What the peer last said of its machine, up to 1000.")
PEER_FLOWS: Final = _gauge("peer_flows", "Flows that the peer last said it holds.")
PEER_CONFIG: Final = _gauge("peer_config_matches", "1 while both configurations agree where they must.")
PATH_UP: Final = _gauge("path_up", "1 while heartbeats arrive by the path in both directions.", "path")
PATH_HEARD: Final = _gauge(
    "path_last_heard_seconds", "Age of the newest heartbeat that came by the path.", "path"
)
HEARTBEATS_SENT: Final = _counter("heartbeats_sent", "Heartbeats that left by the path.", "path")
HEARTBEATS_RECEIVED: Final = _counter(
    "heartbeats_received", "Datagrams that came by the path from the peer's address, with its seal.", "path"
)
HEARTBEAT_ERRORS: Final = _counter(
    "heartbeat_send_errors", "Heartbeats that the kernel did not take, by its error.", "error"
)
PEER_PORT_REFUSED: Final = _counter(
    "peer_port_refused",
    "What came to the peer port and was not taken: `connections` and `datagrams` from other addresses, `routed` "
    "datagrams, `streams` out of turn, `silent` connections, `handshakes` not finished, `by_peer`: it refuses ours.",
    "what",
)
REJECTIONS: Final = _counter(
    "rejected_messages",
    "What was refused of the peer's frames, heartbeats and records, by the names of proto/sync.md §9.",
    "reason",
)

# --- the sync ---------------------------------------------------------------------------------------------

SYNC_STATE: Final = _gauge(
    "sync_state", "1 for what holds: `none`, `syncing`, `ready` or `degraded`.", "state"
)
AT_RISK: Final = _gauge(
    "at_risk_flows", "Flows that would be lost if this primary died now; no series on another role."
)
AT_RISK_AGE: Final = _gauge(
    "at_risk_oldest_seconds", "Age of the oldest change that the peer has not confirmed: the lag in time."
)
LAG: Final = _gauge("sync_lag_records", "Records written to the log and not confirmed by the peer.")
HEAD: Final = _gauge("sync_head_sequence", "The last record written to this node's log.")
INSTALLED: Final = _gauge(
    "sync_installed_sequence", "The last record installed from the peer's log (backup)."
)
DIGEST: Final = _gauge(
    "digest_match", "1: both tables are alike; 0: they differ; no series where it is not known."
)
COMMIT_HELD: Final = _gauge("commit_held", "1 while new flows wait for the peer as configured.")
FULL_SYNCS: Final = _counter("full_syncs", "Full syncs begun, as sender and as receiver.")
LEAST_SYNCS: Final = _counter(
    "least_syncs", "Comparisons that sent what differed, as sender and as receiver."
)

# --- what is forwarded ------------------------------------------------------------------------------------

FLOWS: Final = _gauge("flows", "Flows in the table.", "proto")
CAPACITY: Final = _gauge("flow_capacity", "Flows that the table holds (`node.capacity`).")
DROPS: Final = _counter(
    "dropped_packets", "Packets dropped, each for one reason; the list is below.", "reason"
)
CACHE_MISSES: Final = _counter(
    "cache_misses",
    'Packets that the kernel left to the engine (`engine = "tc"`); the list is below.',
    "reason",
)
VIP_OWNED: Final = _gauge("vip_owned", "1 while this node answers for the VIP.", "address", "side")
VIP_VERIFIED: Final = _gauge(
    "vip_verified", "1 once traffic has come here for an owned VIP; no series elsewhere.", "address", "side"
)
VIP_CLAIMED: Final = _gauge(
    "vip_claimed", "1 while somebody else answers for an owned VIP, too.", "address", "side"
)

# --- services ---------------------------------------------------------------------------------------------

RING: Final = _gauge("service_ring_generation", "Grows with every change of a service's backends.", "service")
SERVICE_FLOWS: Final = _gauge("service_flows", "Flows of the service.", "service")
BACKEND_UP: Final = _gauge("backend_up", "1 while the backend is given new flows.", "service", "backend")
BACKEND_INFO: Final = Family(
    "hasyncd_backend_info", "info", "Where a backend is, and its state.", ("service", "backend", "address", "state")
)  # fmt: skip
BACKEND_FLOWS: Final = _gauge("backend_flows", "Flows of the backend.", "service", "backend")
BACKEND_WEIGHT: Final = _gauge("backend_weight", "Its weight in the configuration.", "service", "backend")

# --- the process ------------------------------------------------------------------------------------------

LOOP_LAG: Final = Family(
    "hasyncd_loop_lag_seconds",
    "histogram",
    "How much later than asked the event loop woke the daemon's 10 ms timer.",
)
LOOP_LAG_MAX: Final = _gauge("loop_lag_max_seconds", "The largest lag since the start.")

PROCESS: Final = (
    Family("process_virtual_memory_bytes", "gauge", "Address space of the process."),
    Family("process_resident_memory_bytes", "gauge", "Memory of the process that is in use."),
    Family("process_start_time_seconds", "gauge", "When the process started, in Unix time."),
    Family("process_cpu_seconds_total", "counter", "CPU time of the process, the packet thread's included."),
    Family("process_open_fds", "gauge", "Open file descriptors."),
    Family("process_max_fds", "gauge", "Most file descriptors that may be open."),
)
"""Made by prometheus-client, named as every program's are."""

OWN: Final = tuple(value for value in dict(globals()).values() if isinstance(value, Family))
