#include "core/flow_table.h"

#include <stdlib.h>

#include "core/ends6.h"
#include "core/limits.h"

struct hs_flow_table *hs_flow_table_create(uint32_t capacity, struct hs_seed seed)
{
    struct hs_flow_table *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->capacity = capacity;
    t->buckets = capacity * 2;
    t->words = (capacity + 63) / 64;
    /* calloc: untouched pages cost nothing, so that a large capacity is free until it is used. */
    t->flows = calloc(capacity, sizeof *t->flows);
    t->heads = malloc(t->buckets * sizeof *t->heads);
    t->used = calloc(t->words, sizeof *t->used);
    t->wheel = malloc(HS_WHEEL_SECONDS * sizeof *t->wheel);
    if (!t->flows || !t->heads || !t->used || !t->wheel) {
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
    free(t->flows);
    free(t->heads);
    free(t->used);
    free(t->wheel);
    free(t->ends6);
    free(t);
}

void hs_flow_table_reset(struct hs_flow_table *t, struct hs_seed seed)
{
    for (uint32_t word = 0; word < t->words; word++)
        for (uint64_t bits = t->used[word]; bits; bits &= bits - 1)
            t->flows[word * 64 + (uint32_t)__builtin_ctzll(bits)].state = 0;
    memset(t->used, 0, t->words * sizeof *t->used);
    memset(t->heads, 0xff, t->buckets * sizeof *t->heads);
    memset(t->wheel, 0xff, HS_WHEEL_SECONDS * sizeof *t->wheel);
    memset(t->by_protocol, 0, sizeof t->by_protocol);
    t->seed = seed;
    t->digest = 0;
    t->first_free_word = 0;
    t->count = t->half_open = 0;
    t->due = HS_NOTHING;
}

static uint32_t bucket_of(const struct hs_flow_table *t, const struct hs_tuple *tuple)
{
    return (uint32_t)((hs_siphash(t->seed, tuple, sizeof *tuple) >> 32) * t->buckets >> 32);
}

struct hs_found hs_flow_table_find(const struct hs_flow_table *t, const struct hs_tuple *tuple)
{
    for (uint32_t node = t->heads[bucket_of(t, tuple)]; node != HS_NOTHING;) {
        struct hs_flow *flow = &t->flows[node >> 1];

        if (hs_tuple_equal(&flow->tuple[node & 1], tuple))
            return (struct hs_found){flow, (enum hs_direction)(node & 1)};
        node = flow->next[node & 1];
    }
    return (struct hs_found){NULL, HS_ORIGINAL};
}

struct hs_found hs_flow_table_find6(const struct hs_flow_table *t, const struct hs_tuple *tuple,
                                    const struct hs_ends6 *ends)
{
    for (uint32_t node = t->heads[bucket_of(t, tuple)]; node != HS_NOTHING;) {
        struct hs_flow *flow = &t->flows[node >> 1];
        struct hs_found found = {flow, (enum hs_direction)(node & 1)};

        if (hs_tuple_equal(&flow->tuple[node & 1], tuple)) {
            struct hs_ends6 held = hs_flow_ends6(t, flow, found.direction);

            if (memcmp(&held, ends, sizeof held) == 0)
                return found;
        }
        node = flow->next[node & 1];
    }
    return (struct hs_found){NULL, HS_ORIGINAL};
}

static void link_tuple(struct hs_flow_table *t, struct hs_flow *flow, int direction)
{
    uint32_t *head = &t->heads[bucket_of(t, &flow->tuple[direction])];

    flow->next[direction] = *head;
    *head = hs_flow_slot(t, flow) << 1 | (uint32_t)direction;
}

static void unlink_tuple(struct hs_flow_table *t, struct hs_flow *flow, int direction)
{
    uint32_t node = hs_flow_slot(t, flow) << 1 | (uint32_t)direction;
    uint32_t *at = &t->heads[bucket_of(t, &flow->tuple[direction])];

    while (*at != node)
        at = &t->flows[*at >> 1].next[*at & 1];
    *at = flow->next[direction];
}

static void wheel_insert(struct hs_flow_table *t, struct hs_flow *flow)
{
    uint32_t slot = hs_flow_slot(t, flow);
    uint32_t *head;

    flow->wheel_slot = (uint16_t)(flow->expires_ms / 1000 & (HS_WHEEL_SECONDS - 1));
    head = &t->wheel[flow->wheel_slot];
    flow->wheel_next = *head;
    flow->wheel_previous = HS_NOTHING;
    if (*head != HS_NOTHING)
        t->flows[*head].wheel_previous = slot;
    *head = slot;
}

static void wheel_remove(struct hs_flow_table *t, struct hs_flow *flow)
{
    uint32_t slot = hs_flow_slot(t, flow);

    if (flow->wheel_next != HS_NOTHING)
        t->flows[flow->wheel_next].wheel_previous = flow->wheel_previous;
    if (flow->wheel_previous != HS_NOTHING) {
        t->flows[flow->wheel_previous].wheel_next = flow->wheel_next;
        return;
    }
    /* It leads a list: the one that is being looked at, or a second's. */
    if (t->due == slot)
        t->due = flow->wheel_next;
    else
        t->wheel[flow->wheel_slot] = flow->wheel_next;
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
    bytes[28] = flow->state;
    bytes[29] = flow->flags & HS_FLOW_ON_WIRE;
    bytes[30] = (uint8_t)(flow->version >> 8);
    bytes[31] = (uint8_t)flow->version;
    return hs_siphash(t->seed, bytes, sizeof bytes);
}

struct hs_flow *hs_flow_table_add_at(struct hs_flow_table *t, uint32_t slot, uint16_t version,
                                     const struct hs_tuple tuple[2], uint8_t state, uint8_t flags,
                                     uint64_t expires_ms)
{
    struct hs_flow *flow = &t->flows[slot];

    *flow = (struct hs_flow){
        .tuple = {tuple[0], tuple[1]},
        .expires_ms = expires_ms,
        .told_s = (uint32_t)(expires_ms / 1000),
        .sync_round = t->sync_round,
        .version = version,
        .lived = true,
        .state = state,
        .flags = flags,
        .rule = -1,
    };
    t->used[slot / 64] |= 1ull << slot % 64;
    link_tuple(t, flow, HS_ORIGINAL);
    link_tuple(t, flow, HS_REPLY);
    wheel_insert(t, flow);
    t->count++;
    t->by_protocol[protocol_index(flow)]++;
    t->half_open += hs_flow_is_half_open(state, flags);
    t->digest += hs_flow_digest(t, flow);
    return flow;
}

struct hs_flow *hs_flow_table_add(struct hs_flow_table *t, const struct hs_tuple tuple[2],
                                  uint8_t state, uint8_t flags, uint64_t expires_ms)
{
    for (; t->first_free_word < t->words; t->first_free_word++) {
        uint64_t free_bits = ~t->used[t->first_free_word];
        uint32_t slot;

        if (!free_bits)
            continue;
        slot = t->first_free_word * 64 + (uint32_t)__builtin_ctzll(free_bits);
        if (slot >= t->capacity)
            return NULL;
        return hs_flow_table_add_at(t, slot, (uint16_t)(t->flows[slot].version + 1), tuple, state,
                                    flags, expires_ms);
    }
    return NULL;
}

void hs_flow_table_remove(struct hs_flow_table *t, struct hs_flow *flow)
{
    uint32_t slot = hs_flow_slot(t, flow);

    t->digest -= hs_flow_digest(t, flow);
    t->half_open -= hs_flow_is_half_open(flow->state, flow->flags);
    t->by_protocol[protocol_index(flow)]--;
    t->count--;
    unlink_tuple(t, flow, HS_ORIGINAL);
    unlink_tuple(t, flow, HS_REPLY);
    wheel_remove(t, flow);
    flow->state = 0;
    t->used[slot / 64] &= ~(1ull << slot % 64);
    if (slot / 64 < t->first_free_word)
        t->first_free_word = slot / 64;
}

void hs_flow_set_state(struct hs_flow_table *t, struct hs_flow *flow, uint8_t state, uint8_t flags)
{
    t->digest -= hs_flow_digest(t, flow);
    t->half_open -= hs_flow_is_half_open(flow->state, flow->flags);
    flow->state = state;
    flow->flags = flags;
    t->half_open += hs_flow_is_half_open(state, flags);
    t->digest += hs_flow_digest(t, flow);
}

void hs_flow_set_expiry(struct hs_flow_table *t, struct hs_flow *flow, uint64_t expires_ms)
{
    if (expires_ms >= flow->expires_ms) {
        flow->expires_ms = expires_ms;
        return;
    }
    wheel_remove(t, flow);
    flow->expires_ms = expires_ms;
    wheel_insert(t, flow);
}

/* Takes the list of the next second that has wholly passed. False: none is left. */
static bool take_due_second(struct hs_flow_table *t, uint64_t now_second)
{
    uint32_t *head;

    /* After a long rest (a backup does not age) every list is looked at once, no more. */
    if (t->wheel_second + HS_WHEEL_SECONDS < now_second)
        t->wheel_second = now_second - HS_WHEEL_SECONDS;
    if (t->wheel_second >= now_second)
        return false;
    head = &t->wheel[t->wheel_second++ & (HS_WHEEL_SECONDS - 1)];
    t->due = *head;
    *head = HS_NOTHING;
    return true;
}

struct hs_flow *hs_flow_table_next_expired(struct hs_flow_table *t, uint64_t now_ms,
                                           uint32_t *budget)
{
    while (*budget) {
        struct hs_flow *flow;

        if (t->due == HS_NOTHING) {
            if (!take_due_second(t, now_ms / 1000))
                return NULL;
            continue;
        }
        --*budget;
        flow = &t->flows[t->due];
        if (flow->expires_ms <= now_ms)
            return flow;
        wheel_remove(t, flow); /* it was used since it was put there */
        wheel_insert(t, flow);
    }
    return NULL;
}
