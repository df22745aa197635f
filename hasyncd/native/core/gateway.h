/* The gateway: what happens to a frame. It joins the table, the rules, the delta log and the next hops.
 *
 *     receive -> parse -> lease -> lookup -> hit:  track, rewrite, send
 *                                         -> miss: rules, both tuples, ADD, commit gate, send
 *
 * No syscalls: `output.send` takes what leaves, `now_ns` (CLOCK_BOOTTIME) is an argument. A frame given to
 * `send` stays where it is until the next call into the gateway; the receiver of a batch may therefore
 * collect frames and flush once. One thread.
 */
#ifndef HS_GATEWAY_H
#define HS_GATEWAY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/counters.h"
#include "core/delta_log.h"
#include "core/ends6.h"
#include "core/flow_table.h"
#include "core/fragments.h"
#include "core/mapping_log.h"
#include "core/merge.h"
#include "core/nat.h"
#include "core/next_hop.h"
#include "core/next_hop6.h"
#include "core/ipv6.h"
#include "core/offload.h"
#include "core/packet.h"
#include "core/packet_queue.h"
#include "core/rules.h"
#include "core/rules6.h"
#include "core/sources.h"
#include "core/sync_state.h"

struct hs_port {
    uint8_t mac[6];
    uint32_t mtu; /* bytes of IP */
};

struct hs_output {
    void (*send)(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame,
                 uint32_t length);
    void *context;
};

/* What somebody else said last of a VIP of ours. */
struct hs_claim {
    uint8_t mac[6];
    uint64_t heard_ns; /* 0: nothing */
};

struct hs_gateway {
    struct hs_flow_table *table;
    struct hs_delta_log log;
    struct hs_packet_queue held[2];    /* waiting for write(2), and for the ACK; after a hand-over by side, for the new
                                        * owner: then there is no other use for them (core/relay.c) */
    struct hs_packet_queue unresolved; /* waiting for a neighbour */
    struct hs_rules rules;
    struct hs_nat nat;
    struct hs_mapping_log mappings;
    struct hs_sources sources;
    struct hs_fragments fragments;
    struct hs_policy policy;
    uint32_t early_drop_slot; /* where the next search for a victim begins */
    uint32_t icmp_tokens; /* errors that may be made now */
    uint64_t icmp_tokens_at_ns;
    struct hs_next_hops hops;
    struct hs_next_hops6 hops6;
    struct hs_port ports[HS_SIDES];
    struct hs_output output;
    struct hs_counters counters;
    struct hs_claim claims[HS_VIPS_MAX], claims6[HS_VIPS_MAX]; /* as the VIPs in `rules` */
    uint64_t seen_ns[HS_SIDES][2]; /* when a packet of IPv4, of IPv6, came that this node was to forward or answer */
    uint64_t lease_until_ns;
    uint64_t relay_until_ns;   /* 0: nothing is relayed */
    uint8_t relay_mac[HS_SIDES][6];
    bool relay_known[HS_SIDES];
    uint64_t grace_until_ms;
    bool active;               /* this node writes the table: it is, or is about to be, primary */
    enum hs_commit commit;
    bool fail_open;
    uint64_t commit_timeout_ns;
    uint64_t emitted;          /* write(2) took everything up to this sequence */
    uint64_t failed_open[2];   /* what was released unconfirmed: later packets of those flows do not wait again */
    bool suspended[2];         /* the peer does not keep up: new flows wait for nothing */
    uint32_t at_risk;
    uint64_t installed_s;      /* when records were installed last */
    struct hs_snapshot snapshot;
    struct hs_sync sync;
    struct hs_scrub scrub;
    struct hs_solo solo;
    struct hs_offload offload;
    struct hs_closed closed[HS_CLOSED_SETS * HS_CLOSED_WAYS];
    uint64_t closed_until_s; /* of the last of them */
    uint64_t rejections[HS_REJECTIONS];
};

struct hs_gateway_limits {
    uint32_t capacity, log_records, held_packets, held_bytes;
    void *log_memory; /* hs_delta_log_bytes(log_records) bytes for the delta log; NULL: its own */
};

struct hs_gateway *hs_gateway_create(struct hs_seed seed, struct hs_gateway_limits limits,
                                     struct hs_output output);
void hs_gateway_destroy(struct hs_gateway *g);

static inline bool hs_gateway_armed(const struct hs_gateway *g, uint64_t now_ns)
{
    return now_ns < g->lease_until_ns;
}

/* --- gateway.c: packets ------------------------------------------------------------------ */

struct hs_received {
    struct hs_vnet *vnet;
    uint8_t *frame; /* its own memory: it may be changed in place and be given to `output.send` */
    uint32_t length;
};

/* Judges frames, in their order. Many at once are no different from one by one, but that the memory which one of
 * them waits for is fetched while the others are looked at. */
void hs_gateway_receive_batch(struct hs_gateway *g, int side, const struct hs_received *received, uint32_t count,
                              uint64_t now_ns);
static inline void hs_gateway_receive(struct hs_gateway *g, int side, struct hs_vnet *vnet, uint8_t *frame,
                                      uint32_t length, uint64_t now_ns)
{
    struct hs_received one = {vnet, frame, length};

    hs_gateway_receive_batch(g, side, &one, 1, now_ns);
}
/* Empties the table and takes a new seed (proto/sync.md §7). */
void hs_gateway_reset(struct hs_gateway *g, struct hs_seed seed);
/* The NAT rules changed: the ports of their public addresses are watched. False: no memory. */
bool hs_gateway_nat_changed(struct hs_gateway *g);
/* Parses a frame of either family. */
static inline enum hs_packet_kind hs_gateway_parse(const struct hs_gateway *g, struct hs_packet *p,
                                                   struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    if (length >= sizeof(struct hs_ethernet) &&
        ((const struct hs_ethernet *)frame)->type == htons(HS_ETHERTYPE_IPV6))
        return hs_packet6_parse(p, g->table->seed, vnet, frame, length);
    return hs_packet_parse(p, vnet, frame, length);
}

/* The flow of a packet, or of the packet that an error quotes. */
static inline struct hs_found hs_gateway_find(const struct hs_gateway *g, const struct hs_packet *p, uint64_t hash)
{
    struct hs_ends6 ends;

    if (p->ip)
        return hs_flow_table_find_hashed(g->table, &p->tuple, hash);
    ends = hs_packet6_ends(p);
    return hs_flow_table_find6_hashed(g->table, &p->tuple, &ends, hash);
}

/* A packet used the flow at `used_ns`: its expiry moves. The peer hears of that now and then, of a change at once. */
void hs_gateway_refresh(struct hs_gateway *g, struct hs_flow *flow, bool changed, uint64_t used_ns, uint64_t now_ns);
/* A packet whose tuple is known, and its hash: its flow, or a new one. */
void hs_gateway_receive_flow(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t hash, uint64_t now_ns);
/* Housekeeping of every 10 ms: commit timeouts, waiting packets, a bite of ageing. Flows aged out. */
uint32_t hs_gateway_tick(struct hs_gateway *g, uint64_t now_ns);
/* A bite of ageing: a bounded number of flows. Who lets packets pass between two bites may take some (HS_AGE_BITES), so
 * that no packet waits for more than one. Flows aged out. */
uint32_t hs_gateway_age(struct hs_gateway *g, uint64_t now_ns);
/* There is more to age now. */
static inline bool hs_gateway_is_behind(const struct hs_gateway *g, uint64_t now_ns)
{
    return g->active && hs_flow_wheel_is_behind(&g->table->wheel, now_ns / 1000000);
}
void hs_gateway_arm(struct hs_gateway *g, uint64_t now_ns);
/* Drops what waits. */
void hs_gateway_disarm(struct hs_gateway *g);
/* Disarms as well, in one step with the beginning of the relay: what waits goes to the new owner, as it came. */
void hs_gateway_hand_over(struct hs_gateway *g, uint64_t relay_until_ns);

/* --- new_flow.c, new_flow6.c -------------------------------------------------------------- */

/* A flow that the rules allow. */
struct hs_opening {
    struct hs_tuple tuple[2];
    const struct hs_ends6 *ends6; /* of the original direction; NULL: IPv4 */
    struct hs_address6 reply_src6;
    int service, rule; /* -1: none */
    uint16_t backend;
    enum hs_commit commit; /* its rule's */
    bool inbound;   /* by a service or a way in */
    bool picked_up; /* its first packet did not come by here */
};

/* Puts the flow into the table and every count, appends its ADD. NULL: the table is full; it is counted. */
struct hs_flow *hs_gateway_open(struct hs_gateway *g, const struct hs_opening *opening, uint64_t now_ns);
/* A flood of SYNs fills neither the table nor what one sender may have of it. False is counted. */
bool hs_gateway_may_open(struct hs_gateway *g, uint32_t source);
/* Answers to the source must leave where its packet came in; else it is forged, or lost anyway (RFC 3704). False: it is
 * counted. `route_side` is that of the route to the source, or HS_NO_SIDE. */
bool hs_gateway_has_way_back(struct hs_gateway *g, int side, int route_side);

/* Makes the flow of a first packet, appends its ADD. NULL: dropped, and counted; `p` may be an error's now. */
struct hs_flow *hs_gateway_new_flow(struct hs_gateway *g, int side, struct hs_packet *p,
                                    uint64_t now_ns);
struct hs_flow *hs_gateway_new_flow6(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns);
/* What a packet must be to be looked up at all; false: it was answered or dropped. */
bool hs_gateway_enter(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns);
bool hs_gateway_enter6(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns);

/* --- fragments.c --------------------------------------------------------------------------- */

/* Where a fragment belongs in its packet, in bytes. */
uint32_t hs_gateway_fragment_offset(const struct hs_packet *p);
/* Reads the tuple of a first fragment; false: it does not hold its headers whole. */
bool hs_gateway_parse_first_fragment(const struct hs_gateway *g, struct hs_packet *p);
void hs_gateway_receive_fragment(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns);
/* Drops those that have waited too long for their first. */
void hs_gateway_expire_fragments(struct hs_gateway *g, uint64_t now_ns);

/* --- accounts.c --------------------------------------------------------------------------- */

/* Seconds that a flow lives from now without another packet. */
uint32_t hs_gateway_timeout_s(const struct hs_gateway *g, const struct hs_flow *flow);
/* Its state changed: it may no longer be half-open. */
void hs_gateway_settle_half_open(struct hs_gateway *g, struct hs_flow *flow);
/* Finds what the rules say about an imported flow: its service and backend, or its NAT rule. */
void hs_gateway_attribute(struct hs_gateway *g, struct hs_flow *flow);
/* The backend of a service's flow, or NULL. (What becomes of flows with their backends: core/backend_flows.h.) */
struct hs_backend *hs_gateway_backend_of(const struct hs_gateway *g, const struct hs_flow *flow);
/* Keeps count of what a flow uses: its public port. Once for each flow that was added to the table. */
void hs_gateway_account(struct hs_gateway *g, struct hs_flow *flow);
/* A flow's mapping was made or ended: into the log, where its rule says so. */
void hs_gateway_log_mapping(struct hs_gateway *g, const char *event, const struct hs_flow *flow, uint64_t now_ns);
/* Remembers that the flow's public port comes free (RFC 6888 REQ-8). */
void hs_gateway_hold_down(struct hs_gateway *g, const struct hs_flow *flow, uint8_t reason, uint64_t now_s);
/* Takes a flow out of the table and every count. */
void hs_gateway_forget(struct hs_gateway *g, struct hs_flow *flow);
/* The same, told to the peer. */
void hs_gateway_delete(struct hs_gateway *g, struct hs_flow *flow, enum hs_del_reason reason,
                       uint64_t now_ns);

/* --- egress.c, egress6.c --------------------------------------------------------------------- */

/* Whether a packet, or what a GSO packet will be cut into, fits a link. */
bool hs_gateway_fits(const struct hs_packet *p, uint32_t mtu);
const struct hs_route6 *hs_gateway_route6(struct hs_gateway *g, int side, const struct hs_address6 *destination);
/* Where an IPv6 packet leaves, its hop limit decremented; false: nowhere, and it is counted. */
bool hs_gateway_direct6(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_queued *packet,
                        uint64_t now_ns);

/* Whether a packet that came in by `side` may leave by a route on `route_side` (HS_NO_SIDE: there is none): to the other
 * side, or back where it is a hairpin. False: it is counted. */
bool hs_gateway_may_leave(struct hs_gateway *g, int side, int route_side, bool hairpin);
/* Sends a rewritten packet to its next hop; `flow` tells what it waits for (NULL: nothing). */
void hs_gateway_forward(struct hs_gateway *g, int side, struct hs_packet *p,
                        const struct hs_flow *flow, uint64_t now_ns);
/* Sends now, or lets the packet wait for its neighbour. */
void hs_gateway_send_or_wait(struct hs_gateway *g, const struct hs_queued *packet, uint64_t now_ns);
/* Sends what waits for neighbours that are known now, drops what has waited too long. */
void hs_gateway_retry_unresolved(struct hs_gateway *g, uint64_t now_ns);

/* --- commit.c --------------------------------------------------------------------------------- */

/* `commit` holds for rules without a mode of their own; NONE: nobody's packets are held. */
void hs_gateway_set_commit(struct hs_gateway *g, enum hs_commit commit, uint64_t timeout_ns, bool fail_open,
                           uint64_t now_ns);
/* A flow was made by a rule of this mode: its packets wait from now on, if any do. */
void hs_gateway_begin_commit(struct hs_gateway *g, struct hs_flow *flow, enum hs_commit chosen);
bool hs_gateway_is_uncommitted(const struct hs_gateway *g, const struct hs_flow *flow);
/* Lets a packet of such a flow wait; without room the policy decides. */
void hs_gateway_hold(struct hs_gateway *g, const struct hs_flow *flow, struct hs_queued *packet, uint64_t now_ns);
/* The log was acknowledged or emitted further: what waited for it leaves. Packets released. */
uint32_t hs_gateway_release(struct hs_gateway *g, uint64_t now_ns);
/* What has waited too long is released or dropped, by policy. */
void hs_gateway_expire_held(struct hs_gateway *g, uint64_t now_ns);
/* Packets dropped. */
uint32_t hs_gateway_drop_held(struct hs_gateway *g);

/* --- arp.c, ndp.c ----------------------------------------------------------------------------- */

void hs_gateway_receive_arp(struct hs_gateway *g, int side, uint8_t *frame, uint32_t length);
/* Gratuitous ARP (RFC 5227 §3), request and reply form, for every IPv4 VIP, and an unsolicited advertisement to all
 * nodes (RFC 4861 §7.2.6, RFC 9131) for every IPv6 VIP. `scratch` has HS_ANNOUNCE_ROOM bytes. Frames sent. */
enum {
    HS_ARP_FRAME = 42,
    HS_ADVERTISEMENT_FRAME = 86,
    HS_SOLICITATION_FRAME = 78,
    HS_ADVERTISED = 14 + 40 + 8, /* where an advertisement names its target, without extension headers */
    HS_ANNOUNCE_ROOM = (2 * HS_ARP_FRAME + HS_ADVERTISEMENT_FRAME) * HS_VIPS_MAX,
};
uint32_t hs_gateway_announce(struct hs_gateway *g, uint8_t *scratch);
uint32_t hs_gateway_announce6(struct hs_gateway *g, uint8_t *scratch);
/* Asks who has the VIPs, so that no cache changes: ARP probes (RFC 5227 §2.1.1), and solicitations as for duplicate
 * address detection (RFC 4862 §5.4.2). `scratch` as above. Frames sent. */
uint32_t hs_gateway_probe(struct hs_gateway *g, uint8_t *scratch);
uint32_t hs_gateway_probe6(struct hs_gateway *g, uint8_t *scratch);
/* Answers a solicitation for a VIP (RFC 4861 §7.2.4). */
void hs_gateway_receive_ndp(struct hs_gateway *g, int side, struct hs_packet *p);
/* Whether somebody else advertises one of our VIPs, and his MAC. */
bool hs_gateway_is_owners_advertisement(const struct hs_gateway *g, int side, const struct hs_packet *p,
                                        uint8_t mac[6]);

/* --- claims.c --------------------------------------------------------------------------------- */

/* Looks at a frame before it is judged: does it come from somebody else who has a VIP of ours? */
void hs_gateway_note_claim(struct hs_gateway *g, int side, const struct hs_received *r, uint64_t now_ns);

/* --- icmp.c, icmp6.c ---------------------------------------------------------------------------- */

/* Sends the packet's frame back to where it came from, the way it came. */
void hs_gateway_return_frame(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t length);
/* Whether an error may be made now: HS_ICMP_ERRORS_PER_S of both families. */
bool hs_gateway_may_make_error(struct hs_gateway *g, uint64_t now_ns);
bool hs_gateway_answer_echo(struct hs_gateway *g, int side, struct hs_packet *p);
void hs_gateway_translate_error(struct hs_gateway *g, int side, struct hs_packet *p,
                                uint64_t now_ns);
/* Turns an untranslated packet's own buffer into an error back to its sender (RFC 1812 4.3.2), at a bounded rate.
 * False: none was made. */
bool hs_gateway_send_error(struct hs_gateway *g, int side, struct hs_packet *p, uint8_t type, uint8_t code,
                           uint64_t now_ns);
/* Turns the packet's own buffer into "fragmentation needed" (RFC 1191) back to its sender. */
void hs_gateway_send_too_big(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t mtu);

/* The same for ICMPv6 (RFC 4443); "packet too big" is rate-limited too. */
bool hs_gateway_answer_echo6(struct hs_gateway *g, int side, struct hs_packet *p);
void hs_gateway_translate_error6(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns);
bool hs_gateway_send_error6(struct hs_gateway *g, int side, struct hs_packet *p, uint8_t type, uint8_t code,
                            uint64_t now_ns);
void hs_gateway_send_too_big6(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t mtu, uint64_t now_ns);

/* --- relay.c -------------------------------------------------------------------------------------- */

/* After a hand-over, until `until_ns`: frames for the pair go to whoever announces the VIPs, those first that wait for
 * their commit, their neighbour or their first fragment. */
void hs_gateway_begin_relay(struct hs_gateway *g, uint64_t until_ns);
void hs_gateway_end_relay(struct hs_gateway *g);
/* Ends it because this node goes on: what has waited is judged here, where the lease holds, as if it had come now. */
void hs_gateway_take_back(struct hs_gateway *g, uint64_t now_ns);
/* True: the frame was relayed, kept for it, or an ARP packet; false: it is none of the pair's. */
bool hs_gateway_relay(struct hs_gateway *g, int side, struct hs_vnet *vnet, uint8_t *frame,
                      uint32_t length);

/* --- replicate.c -------------------------------------------------------------------------------- */

void hs_gateway_log_flow(struct hs_gateway *g, struct hs_flow *flow, enum hs_record_kind kind,
                         bool at_risk, uint64_t now_ns);
void hs_gateway_acknowledge(struct hs_gateway *g, uint64_t sequence);
/* The cursor goes to the first slot. NULL, here and below: every bucket is suspect. */
void hs_gateway_start_snapshot(struct hs_gateway *g, const struct hs_suspects *suspects, bool refresh);
/* Appends ADDs of the flows in suspect buckets, UPDATEs of others, `records_max` at most, and passes over a bounded
 * number of slots; true when the last slot is passed. */
bool hs_gateway_append_snapshot(struct hs_gateway *g, uint32_t records_max, uint64_t now_ns,
                                uint32_t *appended);
uint64_t hs_gateway_oldest_risk_ns(const struct hs_gateway *g, uint64_t now_ns);

/* --- install.c ---------------------------------------------------------------------------------- */

/* Applies packed records; stops at the first rejection. Returns how many were installed. */
uint32_t hs_gateway_install(struct hs_gateway *g, const uint8_t *records, uint32_t length,
                            uint64_t now_ns, enum hs_rejection *rejection);
/* `suspects` speaks of the primary's capacity. From here on, flows of suspect buckets count for nothing until they are
 * installed anew. */
void hs_gateway_begin_sync(struct hs_gateway *g, const struct hs_suspects *suspects);
/* Removes those that were not; how many. */
uint32_t hs_gateway_end_sync(struct hs_gateway *g);

/* --- scrub.c ------------------------------------------------------------------------------------ */

/* Counts the digest of the slot's grain anew, and what was wrong. Where this node writes the table, flows there that
 * cannot be told to a peer as they are end. */
void hs_gateway_recount(struct hs_gateway *g, uint32_t slot, uint64_t now_ns);
/* A bite of the scrub: as many grains as have fallen due, a bounded number. */
void hs_gateway_scrub(struct hs_gateway *g, uint64_t now_ns);
/* The whole table at once, some 40 ms a million flows: for a backup that is asked what it holds. What the scrub would
 * find only after it had answered would make the comparison, and the sync that follows from it, worthless. */
void hs_gateway_recount_all(struct hs_gateway *g, uint64_t now_ns);

#endif
