#include "core/merge.h"

#include "core/gateway.h"
#include "core/limits.h"

void hs_gateway_set_solo(struct hs_gateway *g, bool solo, enum hs_port_half half)
{
    if (solo && !g->solo.on)
        memset(g->solo.told, 0, g->table->words * sizeof *g->solo.told);
    g->solo.on = solo;
    g->nat.half = solo ? half : HS_WHOLE_RANGE;
}

/* --- the loser ---------------------------------------------------------------------------- */

void hs_gateway_start_offer(struct hs_gateway *g)
{
    g->solo.slot = 0;
}

/* What a peer confirmed and nobody used here since is the peer's to know of, or to have ended. */
static bool is_offered(const struct hs_gateway *g, uint32_t slot)
{
    const struct hs_flow *flow = &g->table->flows[slot];

    return (g->solo.told[slot / 64] >> slot % 64 & 1 || flow->flags & HS_FLOW_AT_RISK) &&
           hs_record_can_describe(g->table, flow);
}

uint32_t hs_gateway_offer(struct hs_gateway *g, uint8_t *out, uint32_t room, uint64_t now_ns, uint32_t *count,
                          bool *finished)
{
    const struct hs_flow_table *t = g->table;
    uint32_t used = 0, words = 0;

    *count = 0;
    for (; g->solo.slot < t->capacity && words < HS_OFFER_BITE; words++) {
        uint32_t word = g->solo.slot / 64;
        uint64_t slots = t->used[word] >> g->solo.slot % 64 << g->solo.slot % 64;

        for (; slots; slots &= slots - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(slots);

            g->solo.slot = slot;
            if (room - used < HS_RECORD_MAX)
                break;
            if (!is_offered(g, slot))
                continue;
            used += hs_record_pack_flow(out + used, HS_ADD, t, &t->flows[slot], now_ns / 1000000);
            ++*count;
        }
        if (slots)
            break; /* there is no room for the next */
        g->solo.slot = (word + 1) * 64;
    }
    *finished = g->solo.slot >= t->capacity;
    return used;
}

void hs_gateway_end_offer(struct hs_gateway *g)
{
    const struct hs_flow_table *t = g->table;

    memset(g->solo.told, 0, t->words * sizeof *g->solo.told);
    for (uint32_t word = 0; word < t->words && g->at_risk; word++)
        for (uint64_t slots = t->used[word]; slots; slots &= slots - 1)
            t->flows[word * 64 + (uint32_t)__builtin_ctzll(slots)].flags &= (uint8_t)~HS_FLOW_AT_RISK;
    g->at_risk = 0;
    hs_delta_log_tell(&g->log, 0, t->count);
}

/* --- the winner --------------------------------------------------------------------------- */

/* An offered flow, in the terms of our own table. */
struct offered {
    const struct hs_record *record;
    struct hs_tuple tuple[2];
    struct hs_found held[2]; /* who has its tuples */
};

static void look_up(const struct hs_gateway *g, const struct hs_record *r, struct offered *o)
{
    struct hs_ends6 reply = {r->reply_src6, r->ends6.src};

    *o = (struct offered){.record = r, .tuple = {r->tuple[0], r->tuple[1]}};
    if (r->tuple[HS_ORIGINAL].family == HS_IPV4) {
        for (int direction = 0; direction < 2; direction++)
            o->held[direction] = hs_flow_table_find(g->table, &o->tuple[direction]);
        return;
    }
    hs_record_tuples6(r, g->table->seed, o->tuple);
    o->held[HS_ORIGINAL] = hs_flow_table_find6(g->table, &o->tuple[HS_ORIGINAL], &r->ends6);
    o->held[HS_REPLY] = hs_flow_table_find6(g->table, &o->tuple[HS_REPLY], &reply);
}

static uint64_t expiry_of(const struct hs_record *r, uint64_t now_ms)
{
    uint32_t timeout_s = r->timeout_s < HS_TCP_ESTABLISHED_S ? r->timeout_s : HS_TCP_ESTABLISHED_S;

    return now_ms + timeout_s * 1000ull;
}

/* We have it too, but its packets went by the other node: how far its ends have come we do not know. */
static void catch_up(struct hs_gateway *g, struct hs_flow *flow, uint64_t expires_ms)
{
    flow->flags |= HS_FLOW_LIBERAL;
    flow->local &= (uint8_t)~(HS_LOCAL_SEQUENCE | HS_LOCAL_SEQUENCE_REPLY);
    if (expires_ms > flow->expires_ms)
        hs_flow_set_expiry(g->table, flow, expires_ms);
}

static bool add(struct hs_gateway *g, const struct offered *o, uint64_t now_ns)
{
    const struct hs_record *r = o->record;
    bool is6 = r->tuple[HS_ORIGINAL].family == HS_IPV6;
    struct hs_flow *flow;

    if (is6 && !hs_ends6_reserve(g->table))
        return false;
    flow = hs_flow_table_add(g->table, o->tuple, r->state, (uint8_t)(r->flags | HS_FLOW_LIBERAL),
                             expiry_of(r, now_ns / 1000000));
    if (!flow)
        return false;
    if (is6)
        hs_flow_set_ends6(g->table, flow, &r->ends6, &r->reply_src6);
    hs_gateway_attribute(g, flow);
    hs_gateway_account(g, flow);
    hs_gateway_log_flow(g, flow, HS_ADD, true, now_ns);
    hs_gateway_log_mapping(g, "made", flow, now_ns);
    g->counters.flows_merged++;
    return true;
}

/* TCP ends are told so by their next packet, unless that finds another flow here; others find out by themselves. */
static void close_both(struct hs_gateway *g, const struct offered *o, uint64_t now_ns, uint32_t *closed)
{
    uint64_t until_s = now_ns / 1000000000 + o->record->timeout_s + 1;

    if (o->tuple[HS_ORIGINAL].proto != HS_TCP)
        return;
    for (int direction = 0; direction < 2; direction++)
        if (!o->held[direction].flow)
            hs_gateway_close_end(g, &o->tuple[direction], until_s);
    ++*closed;
}

static void merge_one(struct hs_gateway *g, const struct hs_record *r, uint64_t now_ns,
                      struct hs_merge_findings *findings)
{
    struct offered o;
    struct hs_flow *original, *reply;

    look_up(g, r, &o);
    original = o.held[HS_ORIGINAL].flow;
    reply = o.held[HS_REPLY].flow;
    if (original && original == reply && o.held[HS_ORIGINAL].direction == HS_ORIGINAL) {
        catch_up(g, original, expiry_of(r, now_ns / 1000000));
        findings->known++;
    } else if (original || reply) {
        close_both(g, &o, now_ns, &findings->closed);
        findings->collided++;
        g->counters.flows_collided++;
    } else if (add(g, &o, now_ns)) {
        findings->merged++;
    } else {
        close_both(g, &o, now_ns, &findings->closed);
        findings->refused++;
        g->counters.drop_table_full++;
    }
}

uint32_t hs_gateway_merge(struct hs_gateway *g, const uint8_t *records, uint32_t length, uint64_t now_ns,
                          struct hs_merge_findings *findings, enum hs_rejection *rejection)
{
    uint32_t merged = 0, size = 0;

    *rejection = HS_ACCEPTED;
    for (uint32_t at = 0; at < length; at += size) {
        struct hs_record record;

        *rejection = hs_record_unpack(&record, records + at, length - at, &size);
        if (!*rejection && record.kind != HS_ADD)
            *rejection = HS_UNKNOWN_KIND;
        if (*rejection) {
            g->rejections[*rejection]++;
            return merged;
        }
        merge_one(g, &record, now_ns, findings);
        merged++;
    }
    return merged;
}
