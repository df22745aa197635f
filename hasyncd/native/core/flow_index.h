/* The flow table's index: from the hash of a tuple to the few flows that may have it.
 *
 * Buckets of one cache line: 15 entries of a tag (8 bits of the hash) and a node (slot * 2 + direction, 24 bits), all
 * tags compared at once, so that a search reads one line here and, but for one time in some 30, no flow but its own.
 * An entry that finds its bucket full lies in the next one that is not, and each bucket counts those that went past
 * it: a search ends at the first bucket that nobody passed, and a removal leaves nothing behind.
 *
 * It knows no flows: whoever searches compares the tuples.
 */
#ifndef HS_FLOW_INDEX_H
#define HS_FLOW_INDEX_H

#include <stdbool.h>
#include <stdint.h>

enum { HS_BUCKET_ENTRIES = 15, HS_NODE_BITS = 24, HS_NODE_MASK = (1 << HS_NODE_BITS) - 1 };

struct hs_bucket {
    uint32_t entries[HS_BUCKET_ENTRIES]; /* tag << 24 | node; tag 0: empty */
    uint32_t passed;                     /* entries that would lie here, or passed on their way, and lie further on */
};

_Static_assert(sizeof(struct hs_bucket) == 64, "one cache line");

struct hs_flow_index {
    struct hs_bucket *buckets;
    uint32_t count;
    uint32_t strays; /* entries that could not be found again when their flow went */
};

/* For `flows` flows of two tuples each: 14 bytes a flow, 61 % full when the table is: one entry in 180 is not at home. */
bool hs_flow_index_init(struct hs_flow_index *index, uint32_t flows);
void hs_flow_index_free(struct hs_flow_index *index);
void hs_flow_index_clear(struct hs_flow_index *index);

void hs_flow_index_insert(struct hs_flow_index *index, uint64_t hash, uint32_t node);
/* False: the node is not there under this hash, so it was inserted under another. Its entry stays behind as a stray. */
bool hs_flow_index_remove(struct hs_flow_index *index, uint64_t hash, uint32_t node);

static inline uint32_t hs_flow_index_home(const struct hs_flow_index *index, uint64_t hash)
{
    return (uint32_t)((hash >> 32) * index->count >> 32);
}

static inline uint32_t hs_flow_index_after(const struct hs_flow_index *index, uint32_t bucket)
{
    return bucket + 1 == index->count ? 0 : bucket + 1;
}

static inline uint32_t hs_flow_index_tag(uint64_t hash)
{
    uint32_t tag = (uint32_t)hash & 0xff;

    return tag ? tag : 1;
}

/* Which of a bucket's entries have the tag: a bit each. */
static inline uint32_t hs_bucket_match(const struct hs_bucket *bucket, uint32_t tag)
{
    typedef uint32_t lanes __attribute__((vector_size(16), may_alias));
    const lanes *at = (const lanes *)bucket;
    const lanes first = {1, 2, 4, 8};
    lanes found = {0};

#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        found |= (lanes)(at[i] >> HS_NODE_BITS == tag) & first << 4 * i;
    return (found[0] | found[1] | found[2] | found[3]) & ((1u << HS_BUCKET_ENTRIES) - 1);
}

/* A search: the nodes whose tuples may have this hash, one after the other. */
struct hs_index_search {
    uint32_t tag, at, same, left;
};

static inline struct hs_index_search hs_flow_index_search(const struct hs_flow_index *index, uint64_t hash)
{
    struct hs_index_search s = {hs_flow_index_tag(hash), hs_flow_index_home(index, hash), 0, index->count};

    s.same = hs_bucket_match(&index->buckets[s.at], s.tag);
    return s;
}

/* False: there is none left. */
static inline bool hs_flow_index_next(const struct hs_flow_index *index, struct hs_index_search *s, uint32_t *node)
{
    while (!s->same) {
        if (!index->buckets[s->at].passed || !--s->left)
            return false;
        s->at = hs_flow_index_after(index, s->at);
        s->same = hs_bucket_match(&index->buckets[s->at], s->tag);
    }
    *node = index->buckets[s->at].entries[__builtin_ctz(s->same)] & HS_NODE_MASK;
    s->same &= s->same - 1;
    return true;
}

#endif
