/* What the gateway counts. */
#ifndef HS_COUNTERS_H
#define HS_COUNTERS_H

#include <stdint.h>

/* Counters: name in C, name outside. A drop has exactly one reason. */
#define HS_COUNTERS_LIST(X)                                                                        \
    X(received_packets)                                                                            \
    X(received_bytes)                                                                              \
    X(sent_packets)                                                                                \
    X(sent_bytes)                                                                                  \
    X(send_errors)                                                                                 \
    X(arp_answered)                                                                                \
    X(arp_announced)                                                                               \
    X(ndp_answered)                                                                                \
    X(ndp_announced)                                                                               \
    X(vip_probes_sent)                                                                             \
    X(echo_answered)                                                                               \
    X(icmp_errors_translated)                                                                      \
    X(fragmentation_needed_sent)                                                                   \
    X(packet_too_big_sent)                                                                         \
    X(unreachable_sent)                                                                            \
    X(time_exceeded_sent)                                                                          \
    X(icmp_rate_limited)                                                                           \
    X(fragments_forwarded)                                                                         \
    X(fragments_held)                                                                              \
    X(flows_created)                                                                               \
    X(flows_closed)                                                                                \
    X(flows_reselected)                                                                            \
    X(backend_flows_ended)                                                                         \
    X(backend_resets_sent)                                                                         \
    X(no_backend_refused)                                                                          \
    X(flows_aged_out)                                                                              \
    X(nat_port_probes)                                                                             \
    X(relayed_packets)                                                                             \
    X(nat_hairpin_flows)                                                                           \
    X(nat_exempt_flows)                                                                            \
    X(pass_flows)                                                                                  \
    X(nat_evicted_closing)                                                                         \
    X(flows_early_dropped)                                                                         \
    X(flows_picked_up)                                                                             \
    X(tcp_resets_ignored)                                                                          \
    X(sources_untracked)                                                                           \
    X(held_packets)                                                                                \
    X(fail_open_released)                                                                          \
    X(fail_closed_dropped)                                                                         \
    X(commit_suspensions)                                                                          \
    X(records_installed)                                                                           \
    X(flows_displaced)                                                                             \
    X(flows_merged)                                                                                \
    X(flows_collided)                                                                              \
    X(closed_resets_sent)                                                                          \
    X(sync_flows_sent)                                                                             \
    X(sync_flows_refreshed)                                                                        \
    X(scrub_passes)                                                                                \
    X(scrub_mismatches)                                                                            \
    X(corrupt_flows_ended)                                                                         \
    X(drop_no_lease)                                                                               \
    X(drop_malformed)                                                                              \
    X(drop_fragment)                                                                               \
    X(drop_protocol)                                                                               \
    X(drop_extension_header)                                                                       \
    X(drop_scope)                                                                                  \
    X(drop_ttl)                                                                                    \
    X(drop_no_rule)                                                                                \
    X(drop_not_allowed)                                                                            \
    X(drop_no_flow)                                                                                \
    X(drop_no_backend)                                                                             \
    X(drop_backend_removed)                                                                        \
    X(drop_flow_ended)                                                                             \
    X(drop_tcp_invalid)                                                                            \
    X(drop_icmp_unrelated)                                                                         \
    X(drop_nat_exhausted)                                                                          \
    X(drop_nat_quota)                                                                              \
    X(drop_table_full)                                                                             \
    X(drop_half_open_source)                                                                       \
    X(drop_half_open_limit)                                                                        \
    X(drop_no_route)                                                                               \
    X(drop_same_side)                                                                              \
    X(drop_too_big)                                                                                \
    X(drop_unresolved)                                                                             \
    X(drop_hold_lost)

struct hs_counters {
#define HS_COUNTER_FIELD(name) uint64_t name;
    HS_COUNTERS_LIST(HS_COUNTER_FIELD)
#undef HS_COUNTER_FIELD
};

#endif
