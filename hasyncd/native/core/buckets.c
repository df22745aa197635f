#include "core/buckets.h"

uint32_t hs_bucket_slots(uint32_t capacity)
{
    uint32_t slots = HS_GRAIN_SLOTS;

    while ((capacity - 1) / slots >= HS_BUCKETS_MAX)
        slots *= 2;
    return slots;
}

uint32_t hs_bucket_count(uint32_t capacity)
{
    return (capacity - 1) / hs_bucket_slots(capacity) + 1;
}

uint64_t hs_bucket_digest(const struct hs_flow_table *t, uint32_t first, uint32_t slots)
{
    uint64_t digest = 0;

    for (uint32_t slot = first; slot - first < slots && slot < t->capacity; slot += HS_GRAIN_SLOTS)
        digest += t->grains[slot / HS_GRAIN_SLOTS];
    return digest;
}

bool hs_bucket_recount(struct hs_flow_table *t, uint32_t first)
{
    uint64_t *kept = &t->grains[first / HS_GRAIN_SLOTS], digest = 0;

    for (uint32_t used = hs_grain_used(t, first); used; used &= used - 1)
        digest += hs_flow_digest(t, &t->flows[first + (uint32_t)__builtin_ctz(used)]);
    if (digest == *kept)
        return true;
    t->digest += digest - *kept;
    *kept = digest;
    return false;
}

bool hs_suspects_load(struct hs_suspects *s, uint32_t capacity, const uint8_t *bits, size_t length)
{
    uint32_t count = hs_bucket_count(capacity);

    if (length && (length != (count + 7) / 8 || (count % 8 && bits[length - 1] >> count % 8)))
        return false;
    s->partial = length;
    s->capacity = capacity;
    s->slots = hs_bucket_slots(capacity);
    memcpy(s->bits, bits, length);
    return true;
}
