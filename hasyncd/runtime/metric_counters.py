"""What the packet engine counts (`Engine.counters`), as metrics: its names, the metrics' and what they mean."""

from __future__ import annotations

from typing import Final

from hasyncd.runtime.metric_names import Family


def _counter(name: str, meaning: str) -> Family:
    return Family(f"hasyncd_{name}_total", "counter", meaning)


def _gauge(name: str, meaning: str) -> Family:
    return Family(f"hasyncd_{name}", "gauge", meaning)


COUNTERS: Final = {
    "received_packets": _counter("received_packets", "Packets received, both sides."),
    "received_bytes": _counter("received_bytes", "Bytes received, Ethernet headers included."),
    "sent_packets": _counter("sent_packets", "Packets sent, both sides."),
    "sent_bytes": _counter("sent_bytes", "Bytes sent, Ethernet headers included."),
    "send_errors": _counter("send_errors", "Packets that the kernel did not take."),
    "receive_dropped": _counter(
        "receive_dropped_packets", "Packets that the kernel dropped: they came faster than they are forwarded."
    ),
    "poll_calls": _counter("packet_batches", "Batches of packets that were received."),
    "relayed_packets": _counter("relayed_packets", "Stragglers sent on to the new owner after a hand-over."),
    # --- the kernel's cache of established flows (`engine = "tc"`); without it all of these are 0
    "cache_hits": _counter("cache_hits", "Packets that the kernel forwarded; received and sent ones include them."),
    "cache_hit_bytes": _counter("cache_hit_bytes", "Bytes of these packets."),
    "cache_no_lease": _counter("cache_no_lease_packets", "Packets that came while the cache was mute: no lease."),
    "cache_kept": _counter("cache_kept_packets", "Misses that the engine forwards: hidden from the kernel's stack."),
    "cache_flows": _gauge("cache_flows", "Flows in the kernel's cache."),
    "cache_put": _counter("cache_flows_put", "Flows put into the cache, or put there anew."),
    "cache_taken_out": _counter("cache_flows_taken_out", "Flows taken out of the cache."),
    "cache_refused": _counter("cache_flows_refused", "Flows that the kernel did not take: the engine forwards them."),
    # --- what the gateway says itself
    "arp_answered": _counter("arp_answered", "ARP requests for a VIP that were answered."),
    "arp_announced": _counter("arp_announced", "Gratuitous ARP sent."),
    "ndp_answered": _counter("ndp_answered", "Neighbour solicitations for a VIP that were answered."),
    "ndp_announced": _counter("ndp_announced", "Unsolicited neighbour advertisements sent."),
    "vip_probes_sent": _counter("vip_probes_sent", "Questions to the LANs, who has a VIP."),
    "echo_answered": _counter("echo_answered", "ICMP echo requests to a VIP that were answered."),
    "icmp_errors_translated": _counter("icmp_errors_translated", "ICMP errors passed on to a flow's end."),
    "fragmentation_needed_sent": _counter("fragmentation_needed_sent", "ICMP `fragmentation needed` sent."),
    "packet_too_big_sent": _counter("packet_too_big_sent", "ICMPv6 `packet too big` sent."),
    "unreachable_sent": _counter("unreachable_sent", "ICMP `destination unreachable` sent."),
    "time_exceeded_sent": _counter("time_exceeded_sent", "ICMP `time exceeded` sent."),
    "icmp_rate_limited": _counter("icmp_rate_limited", "ICMP errors that were not sent: too many a second."),
    "fragments_forwarded": _counter("fragments_forwarded", "Fragments that found their flow."),
    "fragments_held": _counter("fragments_held", "Fragments that waited for their first one."),
    # --- flows
    "flows_created": _counter("flows_created", "New flows; their rate is the connections per second."),
    "flows_closed": _counter("flows_closed", "Flows that ended by what their ends said."),
    "flows_aged_out": _counter("flows_aged_out", "Flows that ended because nothing came any more."),
    "flows_picked_up": _counter("flows_picked_up", "Flows made of a connection under way (`flows.loose`)."),
    "flows_early_dropped": _counter("flows_early_dropped", "Flows ended for new ones in a full table."),
    "flows_displaced": _counter("flows_displaced", "Flows that gave way to the primary's in this copy."),
    "flows_merged": _counter("flows_merged", "Flows taken from the other node after a split."),
    "flows_collided": _counter("flows_collided", "Flows of the other node that collided with ours after a split."),
    "closed_resets_sent": _counter("closed_resets_sent", "Resets to the ends of TCP connections that lost a merge."),
    "half_open_flows": _gauge("half_open_flows", "TCP flows whose handshake is not over."),
    "tcp_resets_ignored": _counter("tcp_resets_ignored", "Resets outside the window, which ended nothing."),
    "sources_untracked": _counter(
        "sources_untracked", "Flows of sources that could not be counted: limits for a source do not hold them."
    ),
    "flows_reselected": _counter("flows_reselected", "Flows begun anew because their backend was not up."),
    "backend_flows_ended": _counter("backend_flows_ended", "Flows ended with their backend."),
    "backend_resets_sent": _counter("backend_resets_sent", "Resets to the ends of such flows."),
    "no_backend_refused": _counter("no_backend_refused", "Senders told that a service has no backend that is up."),
    "pass_flows": _counter("pass_flows", "New flows by a [[pass]] rule."),
    # --- NAT
    "nat_port_probes": _counter(
        "nat_port_probes", "Public ports looked at for new flows; over the new flows it is the cost of the search."
    ),
    "nat_hairpin_flows": _counter("nat_hairpin_flows", "New flows between two inside hosts by a public address."),
    "nat_exempt_flows": _counter("nat_exempt_flows", "New flows that keep their source (`nat.exempt`)."),
    "nat_evicted_closing": _counter("nat_evicted_closing", "Closing flows that ended early for their port."),
    "nat_other_half": _counter("nat_other_half", "Ports given out of the other node's half, alone in a split."),
    "nat_held_down": _gauge("nat_held_down_ports", "Freed ports that serve nobody else yet (`nat.hold_down_s`)."),
    "hold_down_forgotten": _counter("nat_hold_down_forgotten", "Held ports that were freed early for want of room."),
    "nat_blocks": _gauge("nat_port_blocks", "Blocks of 512 ports that are kept as a bitmap."),
    "nat_blocks_built": _counter("nat_port_blocks_built", "Bitmaps of ports made."),
    "mapping_lines_lost": _counter("mapping_lines_lost", "Lines of the mapping log that did not fit."),
    # --- commit and sync
    "held_packets": _counter("held_packets", "First packets that waited for the peer."),
    "held_packets_now": _gauge("waiting_packets", "First packets that wait for the peer now."),
    "fail_open_released": _counter(
        "fail_open_released", "New flows that left unconfirmed when `commit_timeout_ms` was over."
    ),
    "fail_closed_dropped": _counter(
        "fail_closed_dropped", "First packets dropped unconfirmed when `commit_timeout_ms` was over."
    ),
    "commit_now": _gauge("commit_mode", "What new flows wait for: 0 nothing, 1 emit, 2 ack."),
    "commit_suspensions": _counter("commit_suspensions", "Times that a slow peer was not waited for any more."),
    "commit_suspended_now": _gauge("commit_suspended", "1 while new flows do not wait because the peer is slow."),
    "records_installed": _counter("records_installed", "Records of the peer's log that were installed."),
    "sync_flows_sent": _counter("sync_flows_sent", "Flows that syncs have sent."),
    "sync_flows_refreshed": _counter("sync_flows_refreshed", "Flows that syncs have only refreshed."),
    "scrub_passes": _counter("scrub_passes", "Times that the whole table was compared with its digests."),
    "scrub_mismatches": _counter("scrub_mismatches", "Parts of the table that were not what was written there."),
    "corrupt_flows_ended": _counter("corrupt_flows_ended", "Flows ended because their memory was corrupt."),
}  # fmt: skip
"""All but `drop_…`, `cache_miss_…` and `rejected_…`, each of which is one metric with a reason."""

CACHE_MISSES: Final = {
    "flow": "TCP or UDP of no flow that is in the cache",
    "flags": "TCP with SYN, FIN or RST, or without ACK: the engine keeps the states",
    "other": "another protocol, a fragment, IP options, TTL 1, a header that is not whole",
    "too_big": "too large for the next link: the engine answers or fragments",
    "epoch": "its entry is of routes, rules or a reign that is over",
    "backend": "its backend is down or removed",
}

DROP_REASONS: Final = {
    "no_lease": "the node may not forward: it is no primary, or its lease is over",
    "malformed": "no packet that can be read",
    "fragment": "a fragment whose first one never came",
    "protocol": "neither TCP, UDP nor ICMP",
    "extension_header": "IPv6 extension headers that are not passed",
    "scope": "an address that nobody is reached at from elsewhere (loopback, link-local, multicast)",
    "ttl": "its time to live is over",
    "no_rule": "nothing in the configuration forwards it",
    "not_allowed": "the client is not in the rule's or service's `allow`",
    "no_flow": "no flow, and nothing that begins one",
    "no_backend": "the service has no backend that is up",
    "backend_removed": "its flow's backend was removed",
    "flow_ended": "it waited for a flow that ended meanwhile",
    "tcp_invalid": "TCP flags or sequence numbers that fit no state",
    "icmp_unrelated": "an ICMP error about no flow",
    "nat_exhausted": "port allocation failure: every public port towards the destination is taken",
    "nat_quota": "the source has as many flows as `nat.max_flows_per_source` allows",
    "table_full": "the flow table is full",
    "half_open_source": "the source has too many half-open flows (`flows.half_open_per_source`)",
    "half_open_limit": "too many half-open flows in all",
    "no_route": "the kernel has no route to there",
    "same_side": "it would leave where it came in",
    "too_big": "larger than the MTU, and may not be fragmented",
    "unresolved": "the next hop does not answer",
    "hold_lost": "it waited (for peer, next hop, fragments) when the node ceased to be primary, or had no room",
}
