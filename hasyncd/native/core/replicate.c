#include "core/gateway.h"

#include <arpa/inet.h>

#include "core/limits.h"

void hs_gateway_log_flow(struct hs_gateway *g, struct hs_flow *flow, enum hs_record_kind kind,
                         bool at_risk, uint64_t now_ns)
{
    uint64_t sequence = g->log.next;
    struct hs_log_entry *entry = hs_delta_log_append(&g->log, now_ns);

    hs_record_pack_flow(entry->record, kind, g->table, flow, now_ns / 1000000);
    entry->at_risk = at_risk;
    if (g->solo.on) {
        uint32_t slot = hs_flow_slot(g->table, flow);

        g->solo.told[slot / 64] |= 1ull << slot % 64;
    }
    if (kind != HS_COUNTERS)
        flow->told_s = (uint16_t)(flow->expires_ms / 1000);
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

    return hs_flow_table_holds(g->table, ntohl(handle)) && flow->version == ntohs(version) ? flow : NULL;
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
            g->at_risk -= g->at_risk > 0;
        }
    }
    if (sequence > g->log.acknowledged)
        g->log.acknowledged = sequence;
    hs_delta_log_tell(&g->log, g->at_risk, g->table->count);
}

void hs_gateway_start_snapshot(struct hs_gateway *g, const struct hs_suspects *suspects, bool refresh)
{
    g->snapshot = (struct hs_snapshot){.refresh = refresh};
    if (suspects)
        g->snapshot.suspects = *suspects;
}

bool hs_gateway_append_snapshot(struct hs_gateway *g, uint32_t records_max, uint64_t now_ns,
                                uint32_t *appended)
{
    struct hs_flow_table *t = g->table;
    struct hs_snapshot *s = &g->snapshot;

    *appended = 0;
    for (uint32_t looks = 0; s->slot < t->capacity; looks++) {
        uint32_t first = hs_grain_of(s->slot), used;
        bool suspect = hs_suspects_have(&s->suspects, s->slot);

        if (looks == HS_SNAPSHOT_BITE)
            return false;
        if (suspect && s->slot == first) /* so that SYNC_END's digest is that of what was sent */
            hs_gateway_recount(g, first, now_ns);
        used = suspect || s->refresh ? hs_grain_used(t, first) >> s->slot % HS_GRAIN_SLOTS : 0;
        for (; used; used &= used - 1) {
            struct hs_flow *flow = &t->flows[s->slot + (uint32_t)__builtin_ctz(used)];

            if (*appended == records_max)
                break;
            hs_gateway_log_flow(g, flow, suspect ? HS_ADD : HS_UPDATE, flow->flags & HS_FLOW_AT_RISK, now_ns);
            ++*(suspect ? &g->counters.sync_flows_sent : &g->counters.sync_flows_refreshed);
            ++*appended;
        }
        if (used) {
            s->slot += (uint32_t)__builtin_ctz(used);
            return false;
        }
        s->slot = first + HS_GRAIN_SLOTS;
    }
    return true;
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
