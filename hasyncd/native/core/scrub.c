#include "core/gateway.h"

void hs_gateway_recount(struct hs_gateway *g, uint32_t first, uint64_t now_ns)
{
    (void)now_ns;
    g->counters.scrub_mismatches += !hs_bucket_recount(g->table, first);
}
