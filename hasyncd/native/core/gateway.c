#include "core/gateway.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "core/backend_flows.h"
#include "core/tcp_sequence.h"

struct hs_gateway *hs_gateway_create(struct hs_seed seed, struct hs_gateway_limits limits,
                                     struct hs_output output)
{
    struct hs_gateway *g = calloc(1, sizeof *g);

    if (!g)
        return NULL;
    g->output = output;
    g->hops6.seed = seed;
    g->fail_open = true;
    g->table = hs_flow_table_create(limits.capacity, seed);
    g->sync.counted = calloc(1, hs_sync_counted_bytes(limits.capacity));
    g->solo.told = calloc((limits.capacity + 63) / 64, sizeof *g->solo.told);
    if (!g->table || !g->sync.counted || !g->solo.told || !hs_nat_init(&g->nat, limits.capacity, seed) ||
        !hs_sources_init(&g->sources, limits.capacity) || !hs_fragments_init(&g->fragments) ||
        !hs_delta_log_init(&g->log, limits.log_records, limits.log_memory) ||
        !hs_packet_queue_init(&g->held[0], limits.held_packets, limits.held_bytes) ||
        !hs_packet_queue_init(&g->unresolved, HS_UNRESOLVED_PACKETS, 1 << 20) ||
        !hs_packet_queue_init(&g->held[1], limits.held_packets, limits.held_bytes)) {
        hs_gateway_destroy(g);
        return NULL;
    }
    return g;
}

void hs_gateway_destroy(struct hs_gateway *g)
{
    if (!g)
        return;
    hs_offload_stop(g);
    hs_flow_table_destroy(g->table);
    free(g->sync.counted);
    free(g->solo.told);
    hs_delta_log_free(&g->log);
    hs_packet_queue_free(&g->held[0]);
    hs_packet_queue_free(&g->held[1]);
    hs_packet_queue_free(&g->unresolved);
    hs_rules_free(&g->rules);
    hs_nat_free(&g->nat);
    hs_sources_free(&g->sources);
    hs_mapping_log_free(&g->mappings);
    hs_fragments_free(&g->fragments);
    free(g);
}

void hs_gateway_reset(struct hs_gateway *g, struct hs_seed seed)
{
    hs_flow_table_reset(g->table, seed);
    hs_nat_reset(&g->nat, seed);
    hs_offload_forget_all(g);
    hs_sources_clear(&g->sources);
    hs_fragments_clear(&g->fragments);
    g->at_risk = 0;
    g->closed_until_s = 0;
    memset(g->closed, 0, sizeof g->closed);
    for (uint32_t i = 0; i < g->rules.service_count; i++)
        hs_service_forget_flows(&g->rules.services[i]);
    hs_delta_log_tell(&g->log, 0, 0);
}

bool hs_gateway_nat_changed(struct hs_gateway *g)
{
    return hs_nat_configure(&g->nat, &g->rules);
}

void hs_gateway_arm(struct hs_gateway *g, uint64_t now_ns)
{
    if (!g->active)
        g->grace_until_ms = now_ns / 1000000 + HS_TAKEOVER_GRACE_S * 1000;
    g->active = true;
    g->log.head->active = 1;
    hs_gateway_take_back(g, now_ns);
}

static void disarm(struct hs_gateway *g)
{
    g->lease_until_ns = 0;
    g->active = false;
    g->log.head->active = 0;
    g->suspended[0] = g->suspended[1] = false;
}

void hs_gateway_disarm(struct hs_gateway *g)
{
    disarm(g);
    g->relay_until_ns = 0;
    g->counters.drop_hold_lost += hs_gateway_drop_held(g) + g->unresolved.count + g->fragments.waiting.count;
    hs_packet_queue_clear(&g->unresolved);
    hs_fragments_clear(&g->fragments);
}

void hs_gateway_hand_over(struct hs_gateway *g, uint64_t relay_until_ns)
{
    disarm(g);
    hs_gateway_begin_relay(g, relay_until_ns);
    hs_fragments_clear(&g->fragments);
}

/* The state after a packet of the flow; false: it must not pass. */
static bool track(struct hs_gateway *g, struct hs_flow *flow, enum hs_direction direction,
                  const struct hs_packet *p, uint8_t *state, bool *ignore)
{
    enum hs_tcp_class class;
    enum hs_tcp_state next;

    *ignore = false;
    if (p->tuple.proto == HS_ICMP && (p->icmp_type == HS_ECHO_REQUEST) != (direction == HS_ORIGINAL)) {
        g->counters.drop_no_flow++;
        return false;
    }
    if (p->tuple.proto != HS_TCP) {
        *state = direction == HS_REPLY ? HS_REPLIED : flow->state;
        return true;
    }
    class = hs_tcp_classify(p->tcp_flags);
    next = flow->flags & HS_FLOW_LIBERAL ? hs_tcp_next_liberal(direction, class, flow->state)
                                         : hs_tcp_next(direction, class, flow->state);
    if (next == HS_TCP_INVALID) {
        g->counters.drop_tcp_invalid++;
        return false;
    }
    if (class == HS_CLASS_RST && !hs_tcp_reset_is_plausible(flow, direction, p)) {
        g->counters.tcp_resets_ignored++;
        next = HS_TCP_IGNORE;
    }
    *ignore = next == HS_TCP_IGNORE;
    *state = *ignore ? flow->state : (uint8_t)next;
    return true;
}

void hs_gateway_refresh(struct hs_gateway *g, struct hs_flow *flow, bool changed, uint64_t used_ns, uint64_t now_ns)
{
    uint32_t timeout_s = hs_gateway_timeout_s(g, flow);
    uint32_t step_s = timeout_s / 4 < HS_REFRESH_S_MAX ? timeout_s / 4 : HS_REFRESH_S_MAX;
    uint64_t expires_ms = used_ns / 1000000 + (uint64_t)timeout_s * 1000;

    hs_flow_set_expiry(g->table, flow, expires_ms);
    if (!changed && (uint16_t)(expires_ms / 1000 - flow->told_s) < step_s)
        return;
    hs_gateway_log_flow(g, flow, HS_UPDATE, changed, now_ns);
    if (!changed)
        hs_gateway_log_flow(g, flow, HS_COUNTERS, false, now_ns);
}

/* The packet of a flow, on its way in one direction, becomes what the other end knows. */
static void rewrite(struct hs_gateway *g, struct hs_packet *p, const struct hs_flow *flow,
                    enum hs_direction direction)
{
    struct hs_tuple to = hs_tuple_invert(&flow->tuple[!direction]);
    struct hs_ends6 ends;

    p->hairpin = hs_flow_is_hairpin(flow);
    p->direction = direction;
    if (p->ip) {
        hs_packet_rewrite(p, &to);
        return;
    }
    ends = hs_flow_ends6(g->table, flow, !direction);
    ends = hs_ends6_invert(&ends);
    hs_packet6_rewrite(p, &to, &ends);
}

/* The side's neighbours have learned our MAC: somebody sent to it what is the pair's. */
static void note_seen(struct hs_gateway *g, int side, const struct hs_packet *p, uint64_t now_ns)
{
    g->seen_ns[side][!p->ip] = now_ns;
}

static void receive_hit(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_found found,
                        uint64_t now_ns)
{
    struct hs_flow *flow = found.flow;
    uint8_t state, flags;
    bool ignore, changed;

    hs_offload_refresh(g, flow, now_ns);
    if (hs_gateway_is_given_up(g, flow) || !track(g, flow, found.direction, p, &state, &ignore))
        return;
    hs_backend_note_packet(g, flow, found.direction, p, ignore);
    flags = flow->flags;
    flags &= (uint8_t)~(found.direction == HS_REPLY ? HS_FLOW_LIBERAL_REPLY : HS_FLOW_LIBERAL_ORIGINAL);
    if (found.direction == HS_REPLY && !ignore)
        flags |= HS_FLOW_BOTH_SEEN;
    changed = state != flow->state || (flags ^ flow->flags) & HS_FLOW_ON_WIRE;
    if (changed) {
        hs_flow_set_state(g->table, flow, state, flags);
        hs_gateway_settle_half_open(g, flow);
    }
    flow->flags = flags;
    if (p->tuple.proto == HS_TCP)
        hs_tcp_note_sequence(flow, found.direction, p);
    flow->packets[found.direction]++;
    flow->bytes[found.direction] += hs_packet_ip_length(p);
    if (!ignore)
        hs_gateway_refresh(g, flow, changed, now_ns, now_ns);
    hs_offload_consider(g, flow);
    note_seen(g, side, p, now_ns);
    rewrite(g, p, flow, found.direction);
    hs_gateway_forward(g, side, p, flow, now_ns);
}

bool hs_gateway_enter(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    if (p->tuple.proto == HS_ICMP && !(p->ip->fragment & htons(0x3fff)) && hs_gateway_answer_echo(g, side, p))
        return false;
    /* RFC 1812 5.3.7, and 5.3.4 for frames that went to more than one. */
    if (!hs_ipv4_is_host(p->ip->src_addr) || !hs_ipv4_is_host(p->ip->dst_addr) || p->frame[0] & 1) {
        g->counters.drop_scope++;
        return false;
    }
    if (p->ip->ttl > 1)
        return true;
    g->counters.drop_ttl++;
    g->counters.time_exceeded_sent += hs_gateway_send_error(g, side, p, HS_TIME_EXCEEDED, 0, now_ns);
    return false;
}

void hs_gateway_receive_flow(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t hash, uint64_t now_ns)
{
    uint64_t echoes = g->counters.echo_answered;
    struct hs_found found;

    if (!(p->ip ? hs_gateway_enter(g, side, p, now_ns) : hs_gateway_enter6(g, side, p, now_ns))) {
        if (g->counters.echo_answered != echoes)
            note_seen(g, side, p, now_ns);
        return;
    }
    found = hs_gateway_find(g, p, hash);
    if (found.flow && hs_gateway_begins_anew(g, side, &found, p)) {
        hs_gateway_make_way(g, found.flow, now_ns);
        found.flow = NULL;
    }
    if (found.flow) {
        receive_hit(g, side, p, found, now_ns);
        return;
    }
    if (hs_gateway_reset_closed(g, side, p, now_ns))
        return;
    found.flow = p->ip ? hs_gateway_new_flow(g, side, p, now_ns) : hs_gateway_new_flow6(g, side, p, now_ns);
    if (!found.flow)
        return;
    if (p->tuple.proto == HS_TCP)
        hs_tcp_note_sequence(found.flow, HS_ORIGINAL, p);
    hs_backend_note_first(g, found.flow, p);
    found.flow->packets[HS_ORIGINAL] = 1;
    found.flow->bytes[HS_ORIGINAL] = hs_packet_ip_length(p);
    note_seen(g, side, p, now_ns);
    rewrite(g, p, found.flow, HS_ORIGINAL);
    hs_gateway_forward(g, side, p, found.flow, now_ns);
}

static bool is_arp(const struct hs_received *r)
{
    return r->length >= sizeof(struct hs_ethernet) &&
           ((const struct hs_ethernet *)r->frame)->type == htons(HS_ETHERTYPE_ARP);
}

/* What a frame says, before anything is decided about it. */
struct look {
    struct hs_packet packet;
    enum hs_packet_kind kind;
    uint64_t hash; /* HS_PACKET_FLOW */
};

static void look_at(const struct hs_gateway *g, const struct hs_received *r, struct look *look)
{
    look->kind = hs_gateway_parse(g, &look->packet, r->vnet, r->frame, r->length);
    if (look->kind != HS_PACKET_FLOW)
        return;
    look->hash = hs_flow_table_hash(g->table, &look->packet.tuple);
    hs_flow_table_prefetch_bucket(g->table, look->hash);
}

static void judge(struct hs_gateway *g, int side, struct look *look, uint64_t now_ns)
{
    switch (look->kind) {
    case HS_PACKET_FLOW:
        hs_gateway_receive_flow(g, side, &look->packet, look->hash, now_ns);
        break;
    case HS_PACKET_ICMP_ERROR:
        if (look->packet.ip)
            hs_gateway_translate_error(g, side, &look->packet, now_ns);
        else
            hs_gateway_translate_error6(g, side, &look->packet, now_ns);
        break;
    case HS_PACKET_FRAGMENT:
        hs_gateway_receive_fragment(g, side, &look->packet, now_ns);
        break;
    case HS_PACKET_MALFORMED:
        g->counters.drop_malformed++;
        break;
    case HS_PACKET_OTHER:
        g->counters.drop_protocol++;
        break;
    case HS_PACKET_NEIGHBOUR:
        hs_gateway_receive_ndp(g, side, &look->packet);
        break;
    case HS_PACKET_EXTENSION:
        g->counters.drop_extension_header++;
        break;
    }
}

static void receive_unarmed(struct hs_gateway *g, int side, const struct hs_received *r, uint64_t now_ns)
{
    hs_gateway_note_claim(g, side, r, now_ns);
    if (now_ns >= g->relay_until_ns || !hs_gateway_relay(g, side, r->vnet, r->frame, r->length))
        g->counters.drop_no_lease++;
}

/* Buckets are fetched while later frames are parsed, flows while later buckets are looked into. Looking changes
 * nothing, and what an earlier packet does to the table is found by the later one's own search. */
static void receive_some(struct hs_gateway *g, int side, const struct hs_received *received, uint32_t count,
                         uint64_t now_ns)
{
    struct look looks[HS_LOOK_AHEAD];

    for (uint32_t i = 0; i < count; i++)
        look_at(g, &received[i], &looks[i]);
    for (uint32_t i = 0; i < count && count > 1; i++)
        if (looks[i].kind == HS_PACKET_FLOW)
            hs_flow_table_prefetch_flow(g->table, looks[i].hash, looks[i].packet.tuple.family);
    for (uint32_t i = 0; i < count; i++) {
        if (is_arp(&received[i]) || looks[i].kind == HS_PACKET_NEIGHBOUR)
            hs_gateway_note_claim(g, side, &received[i], now_ns);
        if (is_arp(&received[i]))
            hs_gateway_receive_arp(g, side, received[i].frame, received[i].length);
        else
            judge(g, side, &looks[i], now_ns);
    }
}

void hs_gateway_receive_batch(struct hs_gateway *g, int side, const struct hs_received *received, uint32_t count,
                              uint64_t now_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        g->counters.received_packets++;
        g->counters.received_bytes += received[i].length;
    }
    if (!hs_gateway_armed(g, now_ns)) {
        for (uint32_t i = 0; i < count; i++)
            receive_unarmed(g, side, &received[i], now_ns);
        return;
    }
    for (uint32_t done = 0; done < count; done += HS_LOOK_AHEAD)
        receive_some(g, side, received + done, count - done < HS_LOOK_AHEAD ? count - done : HS_LOOK_AHEAD, now_ns);
}

uint32_t hs_gateway_tick(struct hs_gateway *g, uint64_t now_ns)
{
    if (now_ns >= g->relay_until_ns)
        hs_gateway_end_relay(g);
    if (!g->relay_until_ns) /* else the queues hold stragglers */
        hs_gateway_expire_held(g, now_ns);
    hs_gateway_expire_fragments(g, now_ns);
    hs_gateway_retry_unresolved(g, now_ns);
    hs_gateway_scrub(g, now_ns);
    hs_offload_tick(g, now_ns);
    return hs_gateway_age(g, now_ns);
}

uint32_t hs_gateway_age(struct hs_gateway *g, uint64_t now_ns)
{
    uint32_t budget = HS_AGE_BITE, aged_out = 0;
    uint64_t now_ms = now_ns / 1000000;
    struct hs_flow *flow;

    if (!g->active)
        return 0; /* the primary owns ageing */
    while ((flow = hs_flow_table_next_expired(g->table, now_ms, &budget))) {
        if (hs_offload_refresh(g, flow, now_ns) && flow->expires_ms > now_ms)
            continue;
        if (now_ms < g->grace_until_ms) {
            hs_flow_set_expiry(g->table, flow, g->grace_until_ms);
            continue;
        }
        hs_backend_note_end(g, flow);
        hs_gateway_delete(g, flow, HS_DEL_TIMED_OUT, now_ns);
        g->counters.flows_aged_out++;
        aged_out++;
        budget -= budget < HS_AGE_END - 1 ? budget : HS_AGE_END - 1;
    }
    return aged_out;
}
