#include "core/backend_table.h"

#include <stdlib.h>
#include <string.h>

#include "core/siphash.h"

static const struct hs_seed digest_seed = {0x686173796e636421u, 0x7461626c65737631u};

static int compare(const void *a, const void *b)
{
    const struct hs_ring_server *left = a, *right = b;

    return (left->server_id > right->server_id) - (left->server_id < right->server_id);
}

/* Canonical: by id, each once, none of weight 0. -1: no memory, or one id has two weights. */
static int take_members(struct hs_backend_table *table, const struct hs_ring_server *members, uint32_t count)
{
    table->members = calloc(count + 1, sizeof *table->members);
    if (!table->members)
        return -1;
    if (count)
        memcpy(table->members, members, count * sizeof *members);
    qsort(table->members, count, sizeof *members, compare);
    for (uint32_t i = 0; i < count; i++) {
        struct hs_ring_server member = table->members[i];

        if (i + 1 < count && table->members[i + 1].server_id == member.server_id) {
            if (table->members[i + 1].weight != member.weight)
                return -1;
            continue;
        }
        if (member.weight)
            table->members[table->member_count++] = member;
    }
    return table->member_count <= HS_BACKENDS_MAX ? 0 : -1;
}

static int fill(struct hs_backend_table *table, uint32_t vnodes)
{
    switch (table->algorithm) {
    case HS_CONSISTENT_HASH:
        table->ring = !vnodes ? NULL : hs_ring_build(table->members, table->member_count, table->generation, vnodes);
        return table->ring ? 0 : -1;
    case HS_MAGLEV:
    case HS_ECMP:
        table->slot_count = table->algorithm == HS_MAGLEV ? HS_MAGLEV_SLOTS : HS_ECMP_BUCKETS;
        table->slots = calloc(table->slot_count, sizeof *table->slots);
        if (!table->slots || !table->member_count)
            return table->slots ? 0 : -1;
        return (table->algorithm == HS_MAGLEV ? hs_maglev_fill : hs_rendezvous_fill)(table->slots, table->members,
                                                                                    table->member_count);
    default:
        return 0; /* in turn: the members are all there is */
    }
}

static uint64_t fold(uint64_t digest, uint64_t a, uint64_t b)
{
    uint64_t words[3] = {digest, a, b};
    uint8_t bytes[sizeof words];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(words[i / 8] >> i % 8 * 8);
    return hs_siphash(digest_seed, bytes, sizeof bytes);
}

/* Over what a lookup can find, not over what it was made from: two builders that differ would show. */
static uint64_t digest_of(const struct hs_backend_table *table)
{
    uint64_t digest = fold(HS_TABLE_VERSION, table->algorithm, table->member_count);

    for (uint32_t i = 0; i < table->member_count; i++)
        digest = fold(digest, table->members[i].server_id, table->members[i].weight);
    for (uint32_t i = 0; table->ring && i < table->ring->count; i++)
        digest = fold(digest, table->ring->vnodes[i].point, table->ring->vnodes[i].server_id);
    for (uint32_t i = 0; i < table->slot_count && table->member_count; i += 8) {
        uint64_t words[2] = {0, 0};

        for (uint32_t k = 0; k < 8 && i + k < table->slot_count; k++)
            words[k / 4] |= (uint64_t)table->slots[i + k] << k % 4 * 16;
        digest = fold(digest, words[0], words[1]);
    }
    return digest;
}

struct hs_backend_table *hs_backend_table_build(enum hs_algorithm algorithm, const struct hs_ring_server *members,
                                                uint32_t count, uint32_t generation, uint32_t vnodes)
{
    struct hs_backend_table *table = calloc(1, sizeof *table);

    if (!table)
        return NULL;
    *table = (struct hs_backend_table){.algorithm = algorithm, .generation = generation, .references = 1};
    if (take_members(table, members, count) || fill(table, vnodes)) {
        hs_backend_table_free(table);
        return NULL;
    }
    table->digest = digest_of(table);
    return table;
}

void hs_backend_table_free(struct hs_backend_table *table)
{
    if (!table)
        return;
    free(table->members);
    free(table->ring);
    free(table->slots);
    free(table);
}

int hs_backend_table_position(const struct hs_backend_table *table, uint32_t server_id)
{
    struct hs_ring_server key = {.server_id = server_id};
    const struct hs_ring_server *found =
        bsearch(&key, table->members, table->member_count, sizeof key, compare);

    return found ? (int)(found - table->members) : -1;
}

int hs_backend_table_find(const struct hs_backend_table *table, uint32_t hash)
{
    if (!table->member_count)
        return -1;
    if (table->ring)
        return hs_backend_table_position(table, hs_ring_find(table->ring, hash)->server_id);
    /* The upper half of the product: no division, and every slot gets its share (Lemire 2019). */
    return table->slots ? table->slots[(uint64_t)hash * table->slot_count >> 32] : -1;
}

/* The first hash after `hash` that may belong to another member than `hash` does; up to 2**32. */
static uint64_t next_border(const struct hs_backend_table *table, uint64_t hash)
{
    const struct hs_vnode *vnode;

    if (table->slots)
        return hs_backend_table_first_hash((uint32_t)(hash * table->slot_count >> 32) + 1, table->slot_count);
    vnode = hs_ring_find(table->ring, (uint32_t)hash);
    /* A vnode owns the hashes up to its point; beyond the last one they are the first one's. */
    return vnode->point < hash ? (uint64_t)1 << 32 : (uint64_t)vnode->point + 1;
}

void hs_backend_table_shares(const struct hs_backend_table *table, uint64_t *keys)
{
    memset(keys, 0, table->member_count * sizeof *keys);
    if (!table->member_count || (!table->ring && !table->slots))
        return;
    for (uint64_t hash = 0, next; hash < (uint64_t)1 << 32; hash = next) {
        next = next_border(table, hash);
        keys[hs_backend_table_find(table, (uint32_t)hash)] += next - hash;
    }
}

static uint32_t owner(const struct hs_backend_table *table, uint64_t hash)
{
    return table->members[hs_backend_table_find(table, (uint32_t)hash)].server_id;
}

uint64_t hs_backend_table_moved(const struct hs_backend_table *before, const struct hs_backend_table *after)
{
    uint64_t moved = 0;

    if (!before->member_count || !after->member_count)
        return before->member_count || after->member_count ? (uint64_t)1 << 32 : 0;
    if ((!before->ring && !before->slots) || (!after->ring && !after->slots))
        return 0;
    for (uint64_t hash = 0, next; hash < (uint64_t)1 << 32; hash = next) {
        uint64_t here = next_border(before, hash), there = next_border(after, hash);

        next = here < there ? here : there;
        if (owner(before, hash) != owner(after, hash))
            moved += next - hash;
    }
    return moved;
}
