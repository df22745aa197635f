#include "core/gateway.h"

#include <arpa/inet.h>

void hs_gateway_log_flow(struct hs_gateway *g, struct hs_flow *flow, enum hs_record_kind kind,
                         bool at_risk, uint64_t now_ns)
{
    uint64_t sequence = g->log.next;
    struct hs_log_entry *entry = hs_delta_log_append(&g->log, now_ns);

    hs_record_pack_flow(entry->record, kind, g->table, flow, now_ns / 1000000);
    entry->at_risk = at_risk;
    if (at_risk) {
        g->at_risk += !(flow->flags & HS_FLOW_AT_RISK);
        flow->flags |= HS_FLOW_AT_RISK;
        flow->risk_sequence = (uint32_t)sequence;
    }
    hs_delta_log_tell(&g->log, g->at_risk, g->table->count);
}

/* The flow that a record of our own log speaks of, if that life of it still lasts. */
static struct hs_flow *flow_of(const struct hs_gateway *g, const uint8_t *record)
{
    uint32_t handle;
    uint16_t version;

    memcpy(&handle, record + 4, 4);
    memcpy(&version, record + 8, 2);
    struct hs_flow *flow = &g->table->flows[ntohl(handle)];

    return flow->state && flow->version == ntohs(version) ? flow : NULL;
}

void hs_gateway_acknowledge(struct hs_gateway *g, uint64_t sequence)
{
    uint64_t oldest = hs_delta_log_oldest(&g->log);
    uint64_t from = g->log.acknowledged + 1;

    if (sequence >= g->log.send_next)
        sequence = g->log.send_next - 1; /* nobody can have what was never sent */
    for (uint64_t s = from < oldest ? oldest : from; s <= sequence; s++) {
        const uint8_t *record = hs_delta_log_entry(&g->log, s)->record;
        struct hs_flow *flow = record[0] == HS_DEL ? NULL : flow_of(g, record);

        if (!flow)
            continue;
        if (record[0] == HS_ADD || record[0] == HS_ADD_BOTH || record[0] == HS_ADD6)
            flow->flags &= (uint8_t)~HS_FLOW_UNCOMMITTED;
        if (flow->flags & HS_FLOW_AT_RISK &&
            g->log.next - ((uint32_t)g->log.next - flow->risk_sequence) <= sequence) {
            flow->flags &= (uint8_t)~HS_FLOW_AT_RISK;
            g->at_risk--;
        }
    }
    if (sequence > g->log.acknowledged)
        g->log.acknowledged = sequence;
    hs_delta_log_tell(&g->log, g->at_risk, g->table->count);
}

bool hs_gateway_append_snapshot(struct hs_gateway *g, uint32_t records_max, uint64_t now_ns,
                                uint32_t *appended)
{
    struct hs_flow_table *t = g->table;

    *appended = 0;
    while (g->snapshot_slot < t->capacity) {
        uint64_t bits = t->used[g->snapshot_slot / 64] >> g->snapshot_slot % 64;

        if (!bits) {
            g->snapshot_slot = (g->snapshot_slot / 64 + 1) * 64;
            continue;
        }
        if (*appended == records_max)
            return false;
        g->snapshot_slot += (uint32_t)__builtin_ctzll(bits);
        struct hs_flow *flow = &t->flows[g->snapshot_slot++];
        hs_gateway_log_flow(g, flow, HS_ADD, flow->flags & HS_FLOW_AT_RISK, now_ns);
        ++*appended;
    }
    return true;
}

void hs_gateway_begin_sync(struct hs_gateway *g)
{
    g->table->sync_round++;
    g->syncing = true;
}

uint32_t hs_gateway_end_sync(struct hs_gateway *g)
{
    struct hs_flow_table *t = g->table;
    uint32_t swept = 0;

    g->syncing = false;
    for (uint32_t word = 0; word < t->words; word++) {
        for (uint64_t bits = t->used[word]; bits; bits &= bits - 1) {
            struct hs_flow *flow = &t->flows[word * 64 + (uint32_t)__builtin_ctzll(bits)];

            if (flow->sync_round == t->sync_round)
                continue;
            /* The peer ended it while nobody told us: its port came free no sooner than we lost sight of it. */
            hs_gateway_hold_down(g, flow, HS_DEL_TIMED_OUT, g->installed_s);
            hs_gateway_forget(g, flow);
            swept++;
        }
    }
    return swept;
}

static void warm_next_hops6(struct hs_gateway *g, const struct hs_flow *flow)
{
    for (int direction = 0; direction < 2; direction++) {
        struct hs_ends6 ends = hs_flow_ends6(g->table, flow, (enum hs_direction)direction);
        const struct hs_route6 *route = hs_next_hops6_route(&g->hops6, &ends.src);

        if (route)
            hs_next_hops6_resolve(&g->hops6, route->side,
                                  hs_address6_is_zero(&route->gateway) ? &ends.src : &route->gateway);
    }
}

/* The next hops of both ends, so that they are known before the first packet needs them. */
static void warm_next_hops(struct hs_gateway *g, const struct hs_flow *flow)
{
    if (flow->tuple[HS_ORIGINAL].family == HS_IPV6) {
        warm_next_hops6(g, flow);
        return;
    }
    for (int direction = 0; direction < 2; direction++) {
        uint32_t destination = flow->tuple[direction].src_addr; /* where the other direction goes */
        const struct hs_route *route = hs_next_hops_route(&g->hops, destination);

        if (route)
            hs_next_hops_resolve(&g->hops, route->side, route->gateway ? route->gateway : destination);
    }
}

static void displace(struct hs_gateway *g, struct hs_found found)
{
    if (!found.flow)
        return;
    hs_gateway_forget(g, found.flow);
    g->counters.flows_displaced++;
}

/* A peer may not keep a flow alive for longer than we would. */
static uint64_t expiry_of(const struct hs_record *r, uint64_t now_ms)
{
    uint32_t timeout_s = r->timeout_s < HS_TCP_ESTABLISHED_S ? r->timeout_s : HS_TCP_ESTABLISHED_S;

    return now_ms + timeout_s * 1000ull;
}

/* The record's flow in its slot, which is empty; who has one of its tuples gives way. */
static void put(struct hs_gateway *g, const struct hs_record *r, uint64_t now_ms)
{
    displace(g, hs_flow_table_find(g->table, &r->tuple[HS_ORIGINAL]));
    displace(g, hs_flow_table_find(g->table, &r->tuple[HS_REPLY]));
    hs_flow_table_add_at(g->table, r->handle, r->version, r->tuple, r->state, (uint8_t)(r->flags | HS_FLOW_LIBERAL),
                         expiry_of(r, now_ms));
}

static void put6(struct hs_gateway *g, const struct hs_record *r, uint64_t now_ms)
{
    struct hs_ends6 reply = {r->reply_src6, r->ends6.src};
    struct hs_tuple tuple[2] = {
        hs_tuple6(g->table->seed, &r->ends6, r->tuple[0].src_port, r->tuple[0].dst_port, r->tuple[0].proto),
        hs_tuple6(g->table->seed, &reply, r->tuple[1].src_port, r->tuple[1].dst_port, r->tuple[1].proto),
    };

    displace(g, hs_flow_table_find6(g->table, &tuple[HS_ORIGINAL], &r->ends6));
    displace(g, hs_flow_table_find6(g->table, &tuple[HS_REPLY], &reply));
    hs_flow_set_ends6(g->table,
                      hs_flow_table_add_at(g->table, r->handle, r->version, tuple, r->state,
                                           (uint8_t)(r->flags | HS_FLOW_LIBERAL), expiry_of(r, now_ms)),
                      &r->ends6, &r->reply_src6);
}

static enum hs_rejection install_add(struct hs_gateway *g, const struct hs_record *r,
                                     uint64_t now_ms)
{
    struct hs_flow_table *t = g->table;
    struct hs_flow *flow = &t->flows[r->handle];
    int16_t newer = (int16_t)(r->version - flow->version); /* serial arithmetic, RFC 1982 */
    bool settled = flow->sync_round == t->sync_round;      /* written since this sync began */

    if (settled && flow->lived && (newer < 0 || (newer == 0 && !flow->state)))
        return HS_STALE_VERSION;
    if (r->tuple[HS_ORIGINAL].family == HS_IPV6 && !hs_ends6_reserve(t))
        return HS_NO_MEMORY;
    if (flow->state) {
        if (!hs_tuple_equal(&flow->tuple[HS_REPLY], &r->tuple[HS_REPLY])) /* ended unheard, as in hs_gateway_end_sync */
            hs_gateway_hold_down(g, flow, HS_DEL_TIMED_OUT, now_ms / 1000);
        hs_gateway_forget(g, flow);
    }
    if (r->tuple[HS_ORIGINAL].family == HS_IPV6)
        put6(g, r, now_ms);
    else
        put(g, r, now_ms);
    hs_gateway_attribute(g, flow);
    hs_gateway_account(g, flow);
    warm_next_hops(g, flow);
    return HS_ACCEPTED;
}

static enum hs_rejection install_change(struct hs_gateway *g, const struct hs_record *r,
                                        uint64_t now_ms)
{
    struct hs_flow *flow = &g->table->flows[r->handle];
    uint8_t protocol = HS_FLOW_UDP | HS_FLOW_ICMP | HS_FLOW_DNAT;

    if (g->syncing && flow->sync_round != g->table->sync_round)
        return HS_ACCEPTED; /* the cursor has not been here: its ADD, if there is one, says it all */
    if (!flow->state || flow->version != r->version)
        return HS_UNKNOWN_HANDLE;
    flow->sync_round = g->table->sync_round;
    switch (r->kind) {
    case HS_UPDATE:
        if ((flow->flags ^ r->flags) & protocol)
            return HS_BAD_STATE;
        hs_flow_set_state(g->table, flow, r->state,
                          (uint8_t)((flow->flags & ~HS_FLOW_ON_WIRE) | r->flags));
        hs_gateway_settle_half_open(g, flow);
        hs_flow_set_expiry(g->table, flow, expiry_of(r, now_ms));
        break;
    case HS_COUNTERS:
        for (int direction = 0; direction < 2; direction++) {
            flow->packets[direction] = r->packets[direction];
            flow->bytes[direction] = r->bytes[direction];
        }
        break;
    case HS_DEL:
        hs_gateway_hold_down(g, flow, r->state, now_ms / 1000);
        hs_gateway_forget(g, flow);
        break;
    case HS_ADD:
    case HS_ADD_BOTH:
    case HS_ADD6:
        hs_gateway_forget(g, flow);
        break;
    }
    return HS_ACCEPTED;
}

uint32_t hs_gateway_install(struct hs_gateway *g, const uint8_t *records, uint32_t length,
                            uint64_t now_ns, enum hs_rejection *rejection)
{
    uint32_t installed = 0, size = 0;

    *rejection = HS_ACCEPTED;
    g->installed_s = now_ns / 1000000000;
    for (uint32_t at = 0; at < length; at += size) {
        struct hs_record record;

        *rejection = hs_record_unpack(&record, records + at, length - at, &size);
        if (!*rejection && record.handle >= g->table->capacity)
            *rejection = HS_HANDLE_OUT_OF_RANGE;
        if (!*rejection)
            *rejection = record.kind == HS_ADD ? install_add(g, &record, now_ns / 1000000)
                                               : install_change(g, &record, now_ns / 1000000);
        g->rejections[*rejection]++;
        if (*rejection)
            return installed;
        installed++;
        g->counters.records_installed++;
    }
    return installed;
}

uint64_t hs_gateway_oldest_risk_ns(const struct hs_gateway *g, uint64_t now_ns)
{
    uint64_t oldest = hs_delta_log_oldest(&g->log), next = g->log.acknowledged + 1;

    if (!g->at_risk)
        return 0;
    if (next < oldest)
        next = oldest;
    if (next >= g->log.next)
        return 0;
    uint64_t at_ns = hs_delta_log_entry(&g->log, next)->at_ns;
    return now_ns > at_ns ? now_ns - at_ns : 0;
}
