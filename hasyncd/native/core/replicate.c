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

void hs_gateway_start_snapshot(struct hs_gateway *g, const struct hs_suspects *suspects, bool refresh)
{
    g->snapshot = (struct hs_snapshot){.refresh = refresh};
    if (suspects)
        g->snapshot.suspects = *suspects;
}

/* Where the cursor stands: does it tell of this bucket, and is it told in full? What was suspected is counted anew, once,
 * so that the digest of SYNC_END is that of what was sent. */
static bool enter_bucket(struct hs_gateway *g, bool *suspect, uint64_t now_ns)
{
    struct hs_snapshot *s = &g->snapshot;
    uint32_t grain = s->slot / HS_GRAIN_SLOTS * HS_GRAIN_SLOTS;

    *suspect = hs_suspects_have(&s->suspects, s->slot);
    if (*suspect && s->recounted <= s->slot) {
        s->recounted = grain + HS_GRAIN_SLOTS;
        hs_gateway_recount(g, grain, now_ns);
    }
    return *suspect || s->refresh;
}

/* The next slot that the cursor would look at, if this one's bucket has nothing for it. */
static uint32_t after_grain(uint32_t slot)
{
    return slot / HS_GRAIN_SLOTS * HS_GRAIN_SLOTS + HS_GRAIN_SLOTS;
}

bool hs_gateway_append_snapshot(struct hs_gateway *g, uint32_t records_max, uint64_t now_ns,
                                uint32_t *appended)
{
    struct hs_flow_table *t = g->table;
    struct hs_snapshot *s = &g->snapshot;

    *appended = 0;
    for (uint32_t looks = 0; s->slot < t->capacity; looks++) {
        bool suspect;

        if (looks == HS_SNAPSHOT_BITE)
            return false;
        if (!enter_bucket(g, &suspect, now_ns)) {
            s->slot = after_grain(s->slot);
            continue;
        }
        if (!hs_flow_table_holds(t, s->slot)) {
            s->slot++;
            continue;
        }
        if (*appended == records_max)
            return false;
        struct hs_flow *flow = &t->flows[s->slot++];
        hs_gateway_log_flow(g, flow, suspect ? HS_ADD : HS_UPDATE, flow->flags & HS_FLOW_AT_RISK, now_ns);
        ++*appended;
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
