/* Bucket digests: what two nodes compare to find the few flows in which their tables differ (proto/sync.md §8).
 *
 * The table keeps the digest of every HS_GRAIN_SLOTS consecutive slots. A bucket is one such grain, or as many of them
 * as it takes for a large table to have no more than HS_BUCKETS_MAX; what is said of those is summed up when asked for.
 * (The buckets of core/flow_index.h are others.)
 */
#ifndef HS_BUCKETS_H
#define HS_BUCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/flow_table.h"

enum { HS_BUCKETS_MAX = 65536 };

/* The first slot of a slot's grain. */
static inline uint32_t hs_grain_of(uint32_t slot)
{
    return slot / HS_GRAIN_SLOTS * HS_GRAIN_SLOTS;
}

/* Which slots of the grain that begins with `first` hold flows: a bit each. */
static inline uint32_t hs_grain_used(const struct hs_flow_table *table, uint32_t first)
{
    return (uint32_t)(table->used[first / 64] >> first % 64) & ((1u << HS_GRAIN_SLOTS) - 1);
}

/* Slots of a bucket of a table of `capacity` slots, and how many buckets there are; the last may be a part of one. */
uint32_t hs_bucket_slots(uint32_t capacity);
uint32_t hs_bucket_count(uint32_t capacity);

/* The digest of the `slots` slots from `first` on: whole grains, but that the table may end sooner. */
uint64_t hs_bucket_digest(const struct hs_flow_table *table, uint32_t first, uint32_t slots);

/* The same, summed up anew from the flows' memory, of one grain. False: it was not what the table held; it is now. */
bool hs_bucket_recount(struct hs_flow_table *table, uint32_t first);

/* Which buckets of a table of `capacity` slots a sync is about. All zero: every slot. */
struct hs_suspects {
    bool partial; /* only those of `bits`, and the slots from `capacity` on */
    uint32_t capacity;
    uint32_t slots; /* of a bucket */
    uint8_t bits[HS_BUCKETS_MAX / 8];
};

/* Reads what the wire says; no bytes: every bucket. False: the wrong length, or bits beyond the last bucket. */
bool hs_suspects_load(struct hs_suspects *suspects, uint32_t capacity, const uint8_t *bits, size_t length);

static inline bool hs_suspects_have(const struct hs_suspects *suspects, uint32_t slot)
{
    uint32_t bucket;

    if (!suspects->partial || slot >= suspects->capacity)
        return true;
    bucket = slot / suspects->slots;
    return suspects->bits[bucket / 8] >> bucket % 8 & 1;
}

#endif
