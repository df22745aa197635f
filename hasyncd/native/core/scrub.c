/* The scrub: memory that is no longer what was written to it (a flipped bit, a stray store) is found by its digest.
 *
 * What the memory says then becomes the digest, so that the peers' digests differ and the sync repairs the flow. The
 * primary's copy is what is copied: all it can do for a flow that no record can describe is to end it.
 */
#include "core/gateway.h"
#include "core/limits.h"

void hs_gateway_recount(struct hs_gateway *g, uint32_t slot, uint64_t now_ns)
{
    struct hs_flow_table *t = g->table;
    uint32_t first = hs_grain_of(slot);

    if (hs_bucket_recount(t, first))
        return;
    g->counters.scrub_mismatches++;
    if (!g->active)
        return; /* the primary tells what belongs here */
    for (uint32_t used = hs_grain_used(t, first); used; used &= used - 1) {
        struct hs_flow *flow = &t->flows[first + (uint32_t)__builtin_ctz(used)];

        if (hs_record_can_describe(t, flow))
            continue;
        hs_gateway_delete(g, flow, HS_DEL_CLOSED, now_ns);
        g->counters.corrupt_flows_ended++;
    }
}

/* Grains that have fallen due since the last tick. */
static uint32_t due(struct hs_gateway *g, uint64_t now_ns)
{
    uint64_t grains = (g->table->capacity + HS_GRAIN_SLOTS - 1) / HS_GRAIN_SLOTS;
    uint64_t most = grains < HS_SCRUB_BITE ? grains : HS_SCRUB_BITE;
    uint64_t grain_ns = g->scrub.seconds * 1000000000ull / grains + 1, count = (now_ns - g->scrub.paid_ns) / grain_ns;

    if (count > most) { /* what was missed is not made up for */
        g->scrub.paid_ns = now_ns;
        return (uint32_t)most;
    }
    g->scrub.paid_ns += count * grain_ns;
    return (uint32_t)count;
}

void hs_gateway_scrub(struct hs_gateway *g, uint64_t now_ns)
{
    if (!g->scrub.seconds)
        return;
    for (uint32_t left = due(g, now_ns); left; left--) {
        hs_gateway_recount(g, g->scrub.slot, now_ns);
        g->scrub.slot += HS_GRAIN_SLOTS;
        if (g->scrub.slot < g->table->capacity)
            continue;
        g->scrub.slot = 0;
        g->counters.scrub_passes++;
    }
}

void hs_gateway_recount_all(struct hs_gateway *g, uint64_t now_ns)
{
    for (uint32_t slot = 0; slot < g->table->capacity; slot += HS_GRAIN_SLOTS)
        hs_gateway_recount(g, slot, now_ns);
}
