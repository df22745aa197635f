/* The index: full buckets and their neighbours, searches that end, removals that leave nothing behind. */
#include "core/flow_index.h"

#include "check.h"

enum { FLOWS = 64, BUCKETS = FLOWS * 7 / 32 };

/* A hash whose home is the bucket, with this tag. */
static uint64_t hash_for(const struct hs_flow_index *index, uint32_t bucket, uint32_t tag)
{
    uint64_t hash = ((uint64_t)bucket << 32) / index->count + 1;

    CHECK(bucket, hs_flow_index_home(index, hash << 32), bucket);
    return hash << 32 | tag;
}

static bool holds(const struct hs_flow_index *index, uint64_t hash, uint32_t node)
{
    struct hs_index_search search = hs_flow_index_search(index, hash);
    uint32_t found;

    while (hs_flow_index_next(index, &search, &found))
        if (found == node)
            return true;
    return false;
}

static bool is_empty(const struct hs_flow_index *index)
{
    static const struct hs_bucket none;

    for (uint32_t i = 0; i < index->count; i++)
        if (memcmp(&index->buckets[i], &none, sizeof none))
            return false;
    return true;
}

/* 40 entries of one home, the last bucket: two and a half buckets, across the end of the array. */
static void check_one_home(void)
{
    struct hs_flow_index index;
    uint64_t hash;

    CHECK(1, hs_flow_index_init(&index, FLOWS), true);
    CHECK(2, index.count, BUCKETS);
    hash = hash_for(&index, BUCKETS - 1, 7);
    for (uint32_t node = 0; node < 40; node++)
        hs_flow_index_insert(&index, hash, node);
    CHECK(3, index.buckets[BUCKETS - 1].passed, 25);
    CHECK(4, index.buckets[0].passed, 10);
    CHECK(5, index.buckets[1].passed, 0);
    for (uint32_t node = 0; node < 41; node++)
        CHECK(node, holds(&index, hash, node), node < 40);
    for (uint32_t node = 0; node < 40; node += 2)
        hs_flow_index_remove(&index, hash, node);
    for (uint32_t node = 0; node < 40; node++)
        CHECK(node, holds(&index, hash, node), node % 2);
    hs_flow_index_insert(&index, hash, 100); /* the hole that is nearest to home */
    CHECK(6, index.buckets[BUCKETS - 1].entries[0], 7 << HS_NODE_BITS | 100);
    hs_flow_index_remove(&index, hash, 100);
    for (uint32_t node = 1; node < 40; node += 2)
        hs_flow_index_remove(&index, hash, node);
    CHECK(7, is_empty(&index), true);
    hs_flow_index_free(&index);
}

/* Each bucket was full once, and passed; then only the one that passed it is left: a search goes round once. */
static void check_all_passed(void)
{
    struct hs_flow_index index;

    CHECK(1, hs_flow_index_init(&index, FLOWS), true);
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++) {
        uint64_t hash = hash_for(&index, bucket, 9);
        uint32_t filled = 0;

        while (!index.buckets[bucket].passed)
            hs_flow_index_insert(&index, hash, 1000 * (bucket + 1) + filled++);
        for (uint32_t i = 0; i + 1 < filled; i++)
            hs_flow_index_remove(&index, hash, 1000 * (bucket + 1) + i);
    }
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++)
        CHECK(bucket, index.buckets[bucket].passed > 0, true);
    CHECK(2, holds(&index, hash_for(&index, 3, 9), 7), false);
    CHECK(3, holds(&index, hash_for(&index, 3, 11), 7), false);
    hs_flow_index_clear(&index);
    CHECK(4, is_empty(&index), true);
    hs_flow_index_free(&index);
}

static void check_tags(void)
{
    struct hs_flow_index index;

    CHECK(1, hs_flow_index_init(&index, 1), true);
    CHECK(2, index.count, 1);
    for (uint32_t tag = 0; tag < 256; tag++) {
        CHECK(tag, hs_flow_index_tag(0xffffff00u | tag), tag ? tag : 1); /* 0 marks an empty entry */
        hs_flow_index_insert(&index, tag, HS_NODE_MASK);
        for (uint32_t other = 1; other < 256; other++)
            CHECK(other, holds(&index, other, HS_NODE_MASK), other == (tag ? tag : 1));
        hs_flow_index_remove(&index, tag, HS_NODE_MASK);
    }
    for (uint32_t i = 0; i < HS_BUCKET_ENTRIES; i++) {
        CHECK(i, hs_bucket_match(&index.buckets[0], 0), 0x7fff & 0x7fffu << i); /* `passed` is no entry */
        hs_flow_index_insert(&index, 200 + i, i);
        CHECK(i, hs_bucket_match(&index.buckets[0], 200 + i), 1u << i);
    }
    hs_flow_index_free(&index);
}

int main(void)
{
    check_one_home();
    check_all_passed();
    check_tags();
    return hs_check_result();
}
