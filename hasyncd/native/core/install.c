#include "core/gateway.h"

/* Whether what the slot holds, or that it is empty, is the word of the sync that is under way, or of all that came before
 * where none is. A flow of a bucket that is alike on both nodes is; an empty slot says nothing, for what it remembers
 * may be of a flow that the primary never knew (proto/sync.md §3.2). */
static bool is_settled(const struct hs_gateway *g, uint32_t slot)
{
    const struct hs_flow_table *t = g->table;

    if (t->flows[slot].sync_round == t->sync_round)
        return true;
    return hs_flow_table_holds(t, slot) && !(g->sync.running && hs_suspects_have(&g->sync.suspects, slot));
}

void hs_gateway_begin_sync(struct hs_gateway *g, const struct hs_suspects *suspects)
{
    uint64_t *counted = g->sync.counted;

    g->table->sync_round++;
    g->sync = (struct hs_sync){.running = true, .counted = counted};
    if (suspects)
        g->sync.suspects = *suspects;
    memset(counted, 0, hs_sync_counted_bytes(g->table->capacity));
}

/* Before anything in a suspect grain changes, its digest is counted anew: what replaces corrupted memory takes out of
 * the digest what that memory says, which must be what was put in. */
static void count_grain(struct hs_gateway *g, uint32_t slot)
{
    uint32_t grain = slot / HS_GRAIN_SLOTS;
    uint64_t *word = &g->sync.counted[grain / 64], bit = 1ull << grain % 64;

    if (!g->sync.running || *word & bit || !hs_suspects_have(&g->sync.suspects, slot))
        return;
    *word |= bit;
    hs_gateway_recount(g, slot, g->installed_s * 1000000000);
}

uint32_t hs_gateway_end_sync(struct hs_gateway *g)
{
    struct hs_flow_table *t = g->table;
    uint32_t swept = 0;

    for (uint32_t first = 0; first < t->capacity; first += HS_GRAIN_SLOTS) {
        uint32_t last = first + HS_GRAIN_SLOTS - 1; /* suspect where any of them is: see hs_suspects_have */

        if (!hs_suspects_have(&g->sync.suspects, last))
            continue;
        count_grain(g, last);
        for (uint32_t used = hs_grain_used(t, first); used; used &= used - 1) {
            uint32_t slot = first + (uint32_t)__builtin_ctz(used);

            if (is_settled(g, slot))
                continue;
            /* The peer ended it while nobody told us: its port came free no sooner than we lost sight of it. */
            hs_gateway_hold_down(g, &t->flows[slot], HS_DEL_TIMED_OUT, g->installed_s);
            hs_gateway_forget(g, &t->flows[slot]);
            swept++;
        }
    }
    g->sync.running = false;
    g->sync.removed += swept;
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
    count_grain(g, hs_flow_slot(g->table, found.flow));
    g->sync.removed += !is_settled(g, hs_flow_slot(g->table, found.flow));
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
    struct hs_tuple tuple[2];

    hs_record_tuples6(r, g->table->seed, tuple);
    displace(g, hs_flow_table_find6(g->table, &tuple[HS_ORIGINAL], &r->ends6));
    displace(g, hs_flow_table_find6(g->table, &tuple[HS_REPLY], &reply));
    hs_flow_set_ends6(g->table,
                      hs_flow_table_add_at(g->table, r->handle, r->version, tuple, r->state,
                                           (uint8_t)(r->flags | HS_FLOW_LIBERAL), expiry_of(r, now_ms)),
                      &r->ends6, &r->reply_src6);
}

/* The first word of this sync about a slot of a suspect bucket. */
static void note_finding(struct hs_gateway *g, const struct hs_flow *flow, const struct hs_record *r)
{
    uint32_t slot = r->handle;

    if (!g->sync.running || !hs_suspects_have(&g->sync.suspects, slot) || flow->sync_round == g->table->sync_round)
        return;
    if (!hs_flow_table_holds(g->table, slot))
        g->sync.added++;
    else if (hs_record_describes(r, g->table, flow))
        g->sync.unchanged++;
    else
        g->sync.replaced++;
}

static enum hs_rejection install_add(struct hs_gateway *g, const struct hs_record *r,
                                     uint64_t now_ms)
{
    struct hs_flow_table *t = g->table;
    struct hs_flow *flow = &t->flows[r->handle];
    int16_t newer = (int16_t)(r->version - flow->version); /* serial arithmetic, RFC 1982 */
    bool held = hs_flow_table_holds(t, r->handle);

    if (is_settled(g, r->handle) && flow->lived && (newer < 0 || (newer == 0 && !held)))
        return HS_STALE_VERSION;
    if (r->tuple[HS_ORIGINAL].family == HS_IPV6 && !hs_ends6_reserve(t))
        return HS_NO_MEMORY;
    count_grain(g, r->handle);
    note_finding(g, flow, r);
    if (held) {
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
    hs_offload_consider(g, flow);
    warm_next_hops(g, flow);
    return HS_ACCEPTED;
}

static enum hs_rejection install_change(struct hs_gateway *g, const struct hs_record *r,
                                        uint64_t now_ms)
{
    struct hs_flow *flow = &g->table->flows[r->handle];
    uint8_t protocol = HS_FLOW_UDP | HS_FLOW_ICMP | HS_FLOW_DNAT;

    if (g->sync.running && !is_settled(g, r->handle))
        return HS_ACCEPTED; /* the cursor has not been here: its ADD, if there is one, says it all */
    if (!hs_flow_table_holds(g->table, r->handle) || flow->version != r->version)
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
        hs_offload_consider(g, flow);
        flow->told_s = (uint16_t)(flow->expires_ms / 1000); /* whoever mirrors us next was told no more than this */
        warm_next_hops(g, flow); /* a kernel with many neighbours forgets those that it does not send to */
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

static enum hs_rejection install(struct hs_gateway *g, const struct hs_record *r, uint64_t now_ns)
{
    enum hs_rejection rejection;

    if (r->handle >= g->table->capacity)
        return HS_HANDLE_OUT_OF_RANGE;
    rejection = r->kind == HS_ADD ? install_add(g, r, now_ns / 1000000) : install_change(g, r, now_ns / 1000000);
    if (rejection) /* our memory may be to blame: then what we say of this bucket from now on shows it */
        hs_gateway_recount(g, r->handle, now_ns);
    return rejection;
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
        if (!*rejection)
            *rejection = install(g, &record, now_ns);
        g->rejections[*rejection]++;
        if (*rejection)
            return installed;
        installed++;
        g->counters.records_installed++;
    }
    return installed;
}
