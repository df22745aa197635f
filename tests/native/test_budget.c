/* What one flow costs, all told: at most 128 bytes, whatever the capacity. */
#include "core/gateway.h"

#include "check.h"

static void discard(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet, (void)frame, (void)length;
}

static void check_capacity(uint32_t capacity)
{
    struct hs_gateway *g = hs_gateway_create(
        (struct hs_seed){1, 2}, (struct hs_gateway_limits){capacity, 64, 8, 16384, NULL}, (struct hs_output){discard, NULL});
    uint64_t bytes = (uint64_t)capacity * sizeof *g->table->flows + g->table->index.count * sizeof *g->table->index.buckets +
                     (uint64_t)capacity * sizeof *g->table->wheel.links +
                     g->table->words * sizeof *g->table->used * 65 / 64 +
                     (capacity / HS_GRAIN_SLOTS + 1) * sizeof *g->table->grains + hs_sync_counted_bytes(capacity) +
                     (uint64_t)g->nat.holds.sets * HS_HOLD_WAYS * sizeof *g->nat.holds.entries +
                     g->sources.size * sizeof *g->sources.slots +
                     (uint64_t)g->nat.pool.size * (sizeof *g->nat.pool.blocks + sizeof *g->nat.pool.heads);
    uint64_t fixed = 1 << 15; /* the least number of port blocks */

    CHECK(capacity, bytes <= (uint64_t)capacity * 128 + fixed, true);
    hs_gateway_destroy(g);
}

int main(void)
{
    static const uint32_t capacities[] = {1024, 1025, 65535, 65537, 100000, 262144, 1 << 20, (1 << 20) + 1};

    for (uint32_t i = 0; i < sizeof capacities / sizeof *capacities; i++)
        check_capacity(capacities[i]);
    return hs_check_result();
}
