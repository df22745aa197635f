#include "core/flow_table.h"

#include <stdlib.h>

#include "core/ends6.h"
#include "core/limits.h"
#include "core/pages.h"

_Static_assert(HS_CAPACITY_MAX <= 1 << 24, "a handle fits its bytes in a digest");

/* Words of `used` (level 0) and of the levels of `full` above it. */
static uint32_t words_of(uint32_t capacity, int level)
{
    uint32_t count = capacity;

    for (; level >= 0; level--)
        count = (count + 63) / 64;
    return count;
}

static uint32_t grains_of(uint32_t capacity)
{
    return (capacity + HS_GRAIN_SLOTS - 1) / HS_GRAIN_SLOTS;
}

struct hs_flow_table *hs_flow_table_create(uint32_t capacity, struct hs_seed seed)
{
    struct hs_flow_table *t = calloc(1, sizeof *t);
    bool done;

    if (!t)
        return NULL;
    t->capacity = capacity;
    t->words = words_of(capacity, 0);
    t->flows = hs_pages_alloc(capacity * sizeof *t->flows);
    t->used = calloc(t->words, sizeof *t->used);
    t->grains = calloc(grains_of(capacity), sizeof *t->grains);
    done = t->flows && t->used && t->grains && hs_flow_index_init(&t->index, capacity) &&
           hs_flow_wheel_init(&t->wheel, capacity);
    for (int level = 0; level < HS_FULL_LEVELS; level++)
        done &= !!(t->full[level] = calloc(words_of(capacity, level + 1), sizeof *t->full[level]));
    if (!done) {
        hs_flow_table_destroy(t);
        return NULL;
    }
    hs_flow_table_reset(t, seed);
    return t;
}

void hs_flow_table_destroy(struct hs_flow_table *t)
{
    if (!t)
        return;
    hs_pages_free(t->flows, t->capacity * sizeof *t->flows);
    hs_flow_index_free(&t->index);
    hs_flow_wheel_free(&t->wheel, t->capacity);
    free(t->used);
    free(t->grains);
    for (int level = 0; level < HS_FULL_LEVELS; level++)
        free(t->full[level]);
    hs_pages_free(t->ends6, t->capacity * sizeof *t->ends6);
    free(t);
}

void hs_flow_table_reset(struct hs_flow_table *t, struct hs_seed seed)
{
    for (uint32_t word = 0; word < t->words; word++)
        for (uint64_t bits = t->used[word]; bits; bits &= bits - 1)
            t->flows[word * 64 + (uint32_t)__builtin_ctzll(bits)].state = 0;
    memset(t->used, 0, t->words * sizeof *t->used);
    for (int level = 0; level < HS_FULL_LEVELS; level++)
        memset(t->full[level], 0, words_of(t->capacity, level + 1) * sizeof *t->full[level]);
    hs_flow_index_clear(&t->index);
    hs_flow_wheel_clear(&t->wheel);
    memset(t->by_protocol, 0, sizeof t->by_protocol);
    t->seed = seed;
    t->digest = 0;
    memset(t->grains, 0, grains_of(t->capacity) * sizeof *t->grains);
    t->count = t->half_open = 0;
}

/* The lowest free slot, in a few steps whatever the capacity; there is one. */
static uint32_t lowest_free(const struct hs_flow_table *t)
{
    uint32_t at = 0;

    while (!~t->full[HS_FULL_LEVELS - 1][at])
        at++;
    for (int level = HS_FULL_LEVELS - 1; level >= 0; level--)
        at = at * 64 + (uint32_t)__builtin_ctzll(~t->full[level][at]);
    return at * 64 + (uint32_t)__builtin_ctzll(~t->used[at]);
}

static void take_slot(struct hs_flow_table *t, uint32_t slot)
{
    uint64_t word = t->used[slot / 64] |= 1ull << slot % 64;

    for (int level = 0; level < HS_FULL_LEVELS && !~word; level++) {
        slot /= 64;
        word = t->full[level][slot / 64] |= 1ull << slot % 64;
    }
}

static void give_slot(struct hs_flow_table *t, uint32_t slot)
{
    t->used[slot / 64] &= ~(1ull << slot % 64);
    for (int level = 0; level < HS_FULL_LEVELS; level++) {
        slot /= 64;
        t->full[level][slot / 64] &= ~(1ull << slot % 64);
    }
}

void hs_flow_table_prefetch_flow(const struct hs_flow_table *t, uint64_t hash, uint8_t family)
{
    struct hs_index_search search = hs_flow_index_search(&t->index, hash);
    uint32_t node;

    if (!search.same || !hs_flow_index_next(&t->index, &search, &node))
        return; /* it does not look further than the one bucket that was fetched */
    __builtin_prefetch(&t->flows[node >> 1]);
    __builtin_prefetch(&t->flows[node >> 1].sync_round); /* its other line */
    if (family == HS_IPV4 || !t->ends6)
        return;
    __builtin_prefetch(&t->ends6[node >> 1].src);
    __builtin_prefetch(&t->ends6[node >> 1].reply_src.bytes[15]);
}

/* Where memory was corrupted, the index may still lead to the slot of a flow that has gone. */
static bool is_live(const struct hs_flow_table *t, uint32_t slot)
{
    return !t->index.strays || hs_flow_table_holds(t, slot);
}

struct hs_found hs_flow_table_find_hashed(const struct hs_flow_table *t, const struct hs_tuple *tuple,
                                          uint64_t hash)
{
    struct hs_index_search search = hs_flow_index_search(&t->index, hash);
    uint32_t node;

    while (hs_flow_index_next(&t->index, &search, &node)) {
        struct hs_flow *flow = &t->flows[node >> 1];

        if (hs_tuple_equal(&flow->tuple[node & 1], tuple) && is_live(t, node >> 1))
            return (struct hs_found){flow, (enum hs_direction)(node & 1)};
    }
    return (struct hs_found){NULL, HS_ORIGINAL};
}

struct hs_found hs_flow_table_find6_hashed(const struct hs_flow_table *t, const struct hs_tuple *tuple,
                                           const struct hs_ends6 *ends, uint64_t hash)
{
    struct hs_index_search search = hs_flow_index_search(&t->index, hash);
    uint32_t node;

    while (hs_flow_index_next(&t->index, &search, &node)) {
        struct hs_found found = {&t->flows[node >> 1], (enum hs_direction)(node & 1)};
        struct hs_ends6 held;

        if (!hs_tuple_equal(&found.flow->tuple[found.direction], tuple) || !is_live(t, node >> 1))
            continue;
        held = hs_flow_ends6(t, found.flow, found.direction);
        if (memcmp(&held, ends, sizeof held) == 0)
            return found;
    }
    return (struct hs_found){NULL, HS_ORIGINAL};
}

static int protocol_index(const struct hs_flow *flow)
{
    return flow->flags & HS_FLOW_UDP ? 1 : flow->flags & HS_FLOW_ICMP ? 2 : 0;
}

bool hs_flow_is_half_open(uint8_t state, uint8_t flags)
{
    if (flags & (HS_FLOW_UDP | HS_FLOW_ICMP))
        return false;
    return state == HS_TCP_SYN_SENT || state == HS_TCP_SYN_RECV || state == HS_TCP_SYN_SENT2;
}

uint32_t hs_flow_timeout_s(const struct hs_flow *flow)
{
    if (flow->flags & HS_FLOW_UDP)
        return HS_UDP_S;
    if (flow->flags & HS_FLOW_ICMP)
        return HS_ICMP_S;
    return flow->state == HS_TCP_ESTABLISHED ? HS_TCP_ESTABLISHED_S : HS_TCP_TRANSITORY_S;
}

uint64_t hs_flow_digest(const struct hs_flow_table *t, const struct hs_flow *flow)
{
    uint8_t bytes[32];

    if (flow->tuple[HS_ORIGINAL].family == HS_IPV6)
        return hs_flow_digest6(t, flow);
    /* Everything in network order, so that the digest means the same on every machine. */
    memcpy(bytes, &flow->tuple[HS_ORIGINAL], 16);
    memcpy(bytes + 16, &flow->tuple[HS_REPLY], 12);
    hs_flow_digest_tail(t, flow, bytes + 13, bytes + 28);
    return hs_siphash(t->seed, bytes, sizeof bytes);
}

/* The buckets are fetched while the rest of a flow's life begins or ends. */
static void hash_both(const struct hs_flow_table *t, const struct hs_tuple tuple[2], uint64_t hash[2])
{
    for (int direction = 0; direction < 2; direction++) {
        hash[direction] = hs_flow_table_hash(t, &tuple[direction]);
        hs_flow_table_prefetch_bucket(t, hash[direction]);
    }
}

struct hs_flow *hs_flow_table_add_at(struct hs_flow_table *t, uint32_t slot, uint16_t version,
                                     const struct hs_tuple tuple[2], uint8_t state, uint8_t flags,
                                     uint64_t expires_ms)
{
    struct hs_flow *flow = &t->flows[slot];
    uint64_t hash[2];

    hash_both(t, tuple, hash);
    *flow = (struct hs_flow){
        .tuple = {tuple[0], tuple[1]},
        .expires_ms = expires_ms,
        .told_s = (uint16_t)(expires_ms / 1000),
        .sync_round = t->sync_round,
        .version = version,
        .lived = true,
        .state = state,
        .flags = flags,
        .rule = -1,
    };
    t->count++;
    t->by_protocol[protocol_index(flow)]++;
    t->half_open += hs_flow_is_half_open(state, flags);
    hs_flow_shift_digest(t, flow, hs_flow_digest(t, flow));
    take_slot(t, slot);
    hs_flow_wheel_insert(t, flow);
    for (uint32_t direction = 0; direction < 2; direction++)
        hs_flow_index_insert(&t->index, hash[direction], slot << 1 | direction);
    return flow;
}

struct hs_flow *hs_flow_table_add(struct hs_flow_table *t, const struct hs_tuple tuple[2],
                                  uint8_t state, uint8_t flags, uint64_t expires_ms)
{
    uint32_t slot;

    if (t->count == t->capacity)
        return NULL;
    slot = lowest_free(t);
    return hs_flow_table_add_at(t, slot, (uint16_t)(t->flows[slot].version + 1), tuple, state, flags,
                                expires_ms);
}

/* So many strays that the index gets tight: it is made anew of what is there. */
static void reindex(struct hs_flow_table *t)
{
    hs_flow_index_clear(&t->index);
    for (uint32_t word = 0; word < t->words; word++) {
        for (uint64_t bits = t->used[word]; bits; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);

            for (uint32_t direction = 0; direction < 2; direction++)
                hs_flow_index_insert(&t->index, hs_flow_table_hash(t, &t->flows[slot].tuple[direction]),
                                     slot << 1 | direction);
        }
    }
}

/* What is counted by a flow's memory may not be what was, if that was corrupted: no count falls below nothing. */
static void take_one(uint32_t *count)
{
    *count -= *count > 0;
}

void hs_flow_table_remove(struct hs_flow_table *t, struct hs_flow *flow)
{
    uint32_t slot = hs_flow_slot(t, flow);
    uint64_t hash[2];

    hash_both(t, flow->tuple, hash);
    hs_flow_shift_digest(t, flow, -hs_flow_digest(t, flow));
    if (hs_flow_is_half_open(flow->state, flow->flags))
        take_one(&t->half_open);
    take_one(&t->by_protocol[protocol_index(flow)]);
    t->count--;
    give_slot(t, slot);
    hs_flow_wheel_remove(t, flow);
    flow->state = 0;
    for (uint32_t direction = 0; direction < 2; direction++)
        hs_flow_index_remove(&t->index, hash[direction], slot << 1 | direction);
    if (t->index.strays > t->index.count)
        reindex(t);
}

void hs_flow_set_state(struct hs_flow_table *t, struct hs_flow *flow, uint8_t state, uint8_t flags)
{
    hs_flow_shift_digest(t, flow, -hs_flow_digest(t, flow));
    if (hs_flow_is_half_open(flow->state, flow->flags))
        take_one(&t->half_open);
    flow->state = state;
    flow->flags = flags;
    t->half_open += hs_flow_is_half_open(state, flags);
    hs_flow_shift_digest(t, flow, hs_flow_digest(t, flow));
}
