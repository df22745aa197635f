"""Every event by its name: what it means, and how loud the log says it. deploy/events.md is made of this.

An event says that something changed; what holds now is in the status. `hasyncd events` follows them, the log has each
as one line, and `hasyncd_events_total` counts them.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple


class EventName(NamedTuple):
    """What an event means, and what to do where anything is."""

    meaning: str
    level: int = logging.INFO


_WARNING: Final = logging.WARNING
_ERROR: Final = logging.ERROR

EVENTS: Final = {
    # --- roles and the peer
    "role_changed": EventName("The role changed; `reason` says why, `certificate` what a new primary knew to hold."),
    "promoted_incomplete": EventName(
        "This node took over, and flows of the former primary are missing, or nobody knows: those connections are "
        "lost.",
        _ERROR,
    ),
    "solo": EventName("This primary acts alone: a death now would lose every flow. See to the peer.", _WARNING),
    "paired": EventName("Both nodes hear each other again: the lease depends on the peer."),
    "peer_heard": EventName("A process of the peer's was heard for the first time."),
    "peer_silent": EventName(
        "Nobody hears the peer, and `prefer = safety` waits for proof or for an operator.", _WARNING
    ),
    "promotion_waits": EventName(
        "The primary is silent, and this backup has not every flow: it waits `peer.wait_ms` before it takes over.",
        _WARNING,
    ),
    "unsure": EventName(
        "Nobody was heard at the start, and `prefer = safety`: an operator decides (`switchover --force`).", _WARNING
    ),
    "slept": EventName("This node stood still for longer than it may: it asks before it acts again.", _WARNING),
    "config_skew": EventName("The peer runs another configuration: bring both files in line.", _WARNING),
    "protocol_changed": EventName("The version that the pair speaks is another, as in a rolling upgrade."),
    "path_up": EventName("Heartbeats arrive by a path in both directions."),
    "path_down": EventName("A path of the heartbeats is down: see to the wire before the last one is.", _WARNING),
    "unauthenticated": EventName("Something reached the peer port that is not the peer; told every 10 s.", _WARNING),
    "handover_by_fitness": EventName("This node hands over to a fitter machine: see its failed tracks.", _WARNING),
    "switchover_aborted": EventName("A planned hand-over was given up; this node goes on.", _WARNING),
    "track_failed": EventName("A check of this machine fails: its fitness is lower.", _WARNING),
    "track_recovered": EventName("A check of this machine is good again."),
    # --- VIPs
    "converged": EventName("Traffic for every VIP has come here since the promotion."),
    "vip_unverified": EventName("No traffic came here for a VIP since the promotion: see to the switches.", _WARNING),
    "vip_conflict": EventName("Somebody else answers for a VIP that is ours: find him by his MAC.", _WARNING),
    "vip_conflict_over": EventName("Nobody else answers for the VIP any more."),
    "vip_still_owned": EventName("The peer is silent, but somebody answers for a VIP: this node waits.", _WARNING),
    "address_claimed": EventName(
        "The kernel of this machine holds an address of the pair's: take it off the interface.", _WARNING
    ),
    # --- the witness
    "witness_lost": EventName("The witness does not answer; `detail` says how.", _WARNING),
    "witness_back": EventName("The witness answers again."),
    "witness_refused": EventName("The witness says that the other node acts alone: this one does not.", _WARNING),
    "solo_without_witness": EventName(
        "This primary acts alone without the witness' word: nobody has confirmed that the peer does not.", _WARNING
    ),
    "muted_without_witness": EventName(
        "Neither peer nor witness is heard, and `prefer = safety`: nothing is forwarded.", _ERROR
    ),
    # --- the sync
    "sync_ready": EventName("This backup holds every flow, compared and counted: it could take over."),
    "sync_compared": EventName("Both tables were compared, and are alike."),
    "sync_repaired": EventName("Both tables were compared and differed: what did was sent anew."),
    "drift": EventName("The tables differ although nothing was lost: they are compared and repaired.", _WARNING),
    "log_overrun": EventName("The peer fell behind further than `sync.log_records`: a sync follows.", _WARNING),
    "stream_refused": EventName("The peer does not take the stream, and says why.", _WARNING),
    "stream_rejected": EventName("The peer's stream broke a rule of proto/sync.md: it is closed.", _WARNING),
    "memory_corrupt": EventName("Memory of the flow table is not what was written there: see to the RAM.", _ERROR),
    "split_healed": EventName("Both nodes were primary and met: this one follows, and offers what only it has."),
    "flows_offered": EventName("After a split: what only this node had was offered to the other."),
    "merge_report": EventName("After a split: what became of the flows that the other node offered."),
    "merge_given_up": EventName("After a split: the offer could not be made, those flows end.", _WARNING),
    "merge_impossible": EventName("After a split: the other program is too old to take the offer.", _WARNING),
    # --- what new flows suffer
    "commit_suspended": EventName("The peer is slow: new flows do not wait for it until it has caught up.", _WARNING),
    "commit_resumed": EventName("The peer has caught up: new flows wait for it again."),
    "fail_open_released": EventName("New flows left unconfirmed: a death now would lose them.", _WARNING),
    "fail_closed_dropped": EventName("New flows were dropped unconfirmed.", _WARNING),
    "drop_table_full": EventName("New flows are dropped: the table is full (`node.capacity`).", _WARNING),
    "drop_nat_exhausted": EventName("New flows are dropped: no public port is left towards somebody.", _WARNING),
    "drop_nat_quota": EventName("New flows are dropped: sources are at `max_flows_per_source`.", _WARNING),
    "nat_other_half": EventName("Alone, and ports of the other node's half are given out.", _WARNING),
    "drop_half_open_limit": EventName("New TCP flows are dropped: too many are half open (a SYN flood?).", _WARNING),
    "drop_no_backend": EventName("New flows are dropped: a service has no backend that is up.", _WARNING),
    "receive_dropped": EventName("Packets came faster than they are forwarded.", _WARNING),
    # --- services, routes, files
    "backend_up": EventName("A backend's checks are good: it is given new flows."),
    "backend_down": EventName("A backend's checks fail: it is given no new flows.", _WARNING),
    "backend_drained": EventName("An operator drains a backend: it keeps its flows and gets no new ones."),
    "backend_undrained": EventName("An operator gives a backend new flows again."),
    "backend_weighed": EventName("An operator has given a backend another weight."),
    "drain_over": EventName("The time to drain a backend is over: the flows that it still has are ended."),
    "backend_flows_ended": EventName("Flows of a backend that is down, or whose drain is over, were ended."),
    "source_changed": EventName("A service's source names other backends than before."),
    "source_failed": EventName("A service's source cannot be read: its backends stay as they are.", _WARNING),
    "members_unknown": EventName(
        "The primary uses backends that this node's file does not list: bring both files in line.", _WARNING
    ),
    "tables_differ": EventName("Both nodes use different backend tables: compare `hasyncd ring`.", _WARNING),
    "table_not_published": EventName("A service keeps its table: the next one did not fit.", _ERROR),
    "backend_suspect": EventName("Clients get no good answers from a backend: its check is made at once.", _WARNING),
    "health_unknown": EventName("A backend cannot be checked from here: it stays what it was.", _WARNING),
    "routes_announced": EventName("The routing daemon has told its neighbours of our addresses."),
    "routes_withdrawn": EventName("This node's routes are withdrawn."),
    "routes_unheard": EventName("No neighbour of the routing daemon is told of an address any more.", _WARNING),
    "routes_failed": EventName("The routing daemon cannot be asked, or the device cannot be made.", _WARNING),
    "mapping_log_failed": EventName("The log of NAT mappings cannot be written.", _WARNING),
    # --- of the journal itself
    "events_lost": EventName("This reader was too slow: `count` events did not wait for it."),
}  # fmt: skip

LOG_LINES: Final = {
    "started": "The daemon is ready.",
    "insecure": "The peer channel is neither authenticated nor encrypted (`peer.insecure`).",
    "key_log": "The stream's secrets are written to a file (`peer.key_log`): for debugging only.",
    "keys_expire": "The pair's certificates end soon: `hasyncd keygen`.",
    "kernel_drop_missing": "What keeps the kernel's stack from the pair's packets could not be put in place again.",
    "no_memory_keeper": "This kernel cannot tell of a killed daemon at once: a kill is noticed milliseconds later.",
    "priority_kept": "`node.nice` could not be applied.",
    "reloaded": "SIGHUP: what of the configuration has changed and is in use now.",
    "reload_refused": "SIGHUP: why the changed configuration is not in use.",
    "addresses_not_kept": "The tc engine's program could not be told of the machine's own addresses.",
    "groups_not_joined": "The multicast groups of IPv6 VIPs could not be joined: a snooping switch may hide them.",
    "no_ipv6_address": "An interface has no IPv6 address, so that none of its neighbours can be found.",
    "control_handler_failed": "An operator's verb failed inside the daemon; the trace follows. Please report it.",
    "metrics_failed": "A scrape failed inside the daemon; the trace follows. Please report it.",
}
"""Lines of the log that are no events: about the process, not the pair."""
