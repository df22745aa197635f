#include "core/flow_index.h"

#include <string.h>

#include "core/limits.h"
#include "core/pages.h"

_Static_assert(HS_CAPACITY_MAX * 2u <= 1u << HS_NODE_BITS, "a node fits its bits");

static size_t size_of(const struct hs_flow_index *index)
{
    return index->count * sizeof *index->buckets;
}

bool hs_flow_index_init(struct hs_flow_index *index, uint32_t flows)
{
    index->count = (uint32_t)(((uint64_t)flows * 7 + 31) / 32);
    index->buckets = hs_pages_alloc(size_of(index));
    return index->buckets;
}

void hs_flow_index_free(struct hs_flow_index *index)
{
    hs_pages_free(index->buckets, size_of(index));
}

void hs_flow_index_clear(struct hs_flow_index *index)
{
    memset(index->buckets, 0, size_of(index));
    index->strays = 0;
}

void hs_flow_index_insert(struct hs_flow_index *index, uint64_t hash, uint32_t node)
{
    uint32_t at = hs_flow_index_home(index, hash), empty;

    while (!(empty = hs_bucket_match(&index->buckets[at], 0))) {
        index->buckets[at].passed++;
        at = hs_flow_index_after(index, at);
    }
    index->buckets[at].entries[__builtin_ctz(empty)] = hs_flow_index_tag(hash) << HS_NODE_BITS | node;
}

bool hs_flow_index_remove(struct hs_flow_index *index, uint64_t hash, uint32_t node)
{
    uint32_t entry = hs_flow_index_tag(hash) << HS_NODE_BITS | node, home = hs_flow_index_home(index, hash), at = home;

    for (uint32_t left = index->count; left; left--, at = hs_flow_index_after(index, at)) {
        struct hs_bucket *bucket = &index->buckets[at];

        for (uint32_t same = hs_bucket_match(bucket, entry >> HS_NODE_BITS); same; same &= same - 1) {
            if (bucket->entries[__builtin_ctz(same)] != entry)
                continue;
            bucket->entries[__builtin_ctz(same)] = 0;
            for (; home != at; home = hs_flow_index_after(index, home))
                index->buckets[home].passed--;
            return true;
        }
        if (!bucket->passed)
            break;
    }
    index->strays++;
    return false;
}
