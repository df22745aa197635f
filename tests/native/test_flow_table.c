/* The flow table: both tuples found, slots and versions, the digest, ageing over laps and long rests. */
#include "core/flow_table.h"

#include "core/limits.h"

#include "check.h"

static const struct hs_seed seed = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

static void make_tuples(struct hs_tuple both[2], uint32_t n)
{
    both[0] = (struct hs_tuple){.src_addr = htonl(0x0a000000 + n), .dst_addr = htonl(0x08080808),
                                .src_port = htons((uint16_t)n), .dst_port = htons(53), .proto = HS_UDP};
    both[1] = hs_tuple_invert(&both[0]);
    both[1].dst_addr = htonl(0xcb007105);
    both[1].src_addr = htonl(0x08080808 + (n >> 16));
}

static struct hs_flow *add(struct hs_flow_table *t, uint32_t n, uint64_t expires_ms)
{
    struct hs_tuple both[2];

    make_tuples(both, n);
    return hs_flow_table_add(t, both, HS_UNREPLIED, HS_FLOW_UDP, expires_ms);
}

static struct hs_found find(struct hs_flow_table *t, uint32_t n, int direction)
{
    struct hs_tuple both[2];

    make_tuples(both, n);
    return hs_flow_table_find(t, &both[direction]);
}

static void check_add_find_remove(uint32_t capacity)
{
    struct hs_flow_table *t = hs_flow_table_create(capacity, seed);
    uint64_t empty = t->digest;

    for (uint32_t n = 0; n < capacity; n++)
        CHECK(n, add(t, n, 1000) == &t->flows[n], true);
    CHECK(1, add(t, capacity, 1000) == NULL, true); /* full */
    CHECK(2, t->count, capacity);
    CHECK(3, t->by_protocol[1], capacity);
    for (uint32_t n = 0; n < capacity; n++)
        for (int d = 0; d < 2; d++) {
            CHECK(n, find(t, n, d).flow == &t->flows[n], true);
            CHECK(n, find(t, n, d).direction, d);
        }
    for (uint32_t n = 0; n < capacity; n += 2)
        hs_flow_table_remove(t, find(t, n, 1).flow);
    for (uint32_t n = 0; n < capacity; n++)
        CHECK(n, find(t, n, 0).flow == (n % 2 ? &t->flows[n] : NULL), true);
    for (uint32_t n = 0; n < capacity; n += 2) { /* lowest slot first, the next version */
        struct hs_flow *flow = add(t, n, 1000);

        CHECK(n, flow == &t->flows[n] && flow->version == 2, true);
    }
    CHECK(4, add(t, capacity, 1000) == NULL, true);
    for (uint32_t n = 0; n < capacity; n++)
        hs_flow_table_remove(t, find(t, n, 0).flow);
    CHECK(5, t->count, 0);
    CHECK(6, t->digest, empty);
    CHECK(7, t->by_protocol[1], 0);
    hs_flow_table_destroy(t);
}

static void check_versions(void)
{
    struct hs_flow_table *t = hs_flow_table_create(4, seed);
    struct hs_flow *flow = NULL;

    for (uint32_t life = 1; life <= 70000; life++) {
        flow = add(t, 1, 1000);
        CHECK(life, flow->version, (uint16_t)life);
        hs_flow_table_remove(t, flow);
    }
    hs_flow_table_reset(t, (struct hs_seed){9, 9});
    CHECK(1, add(t, 1, 1000)->version, (uint16_t)70001); /* an empty slot remembers */
    hs_flow_table_reset(t, seed);
    CHECK(2, t->count + t->half_open + t->by_protocol[1], 0);
    CHECK(3, t->digest, 0);
    CHECK(4, find(t, 1, 0).flow == NULL, true);
    CHECK(5, add(t, 1, 1000) == &t->flows[0], true);
    hs_flow_table_destroy(t);
}

/* Independent of order; covers state, flags on the wire and version; not expiry, counters or our own flags. */
static void check_digest(void)
{
    struct hs_flow_table *a = hs_flow_table_create(300, seed), *b = hs_flow_table_create(300, seed);
    struct hs_flow *flow;
    uint64_t before;

    for (uint32_t n = 0; n < 200; n++) {
        struct hs_tuple both[2];
        uint32_t slot = 199 - n;

        make_tuples(both, n);
        add(a, n, 1000);
        make_tuples(both, slot);
        hs_flow_table_add_at(b, slot, 1, both, HS_UNREPLIED, HS_FLOW_UDP | HS_FLOW_LIBERAL, 9999);
    }
    CHECK(1, a->digest, b->digest);
    CHECK(2, a->digest != 0, true);
    flow = &a->flows[5];
    before = a->digest;
    hs_flow_set_expiry(a, flow, 77);
    flow->packets[0]++;
    hs_flow_set_state(a, flow, HS_UNREPLIED, HS_FLOW_UDP | HS_FLOW_AT_RISK);
    CHECK(3, a->digest, before);
    hs_flow_set_state(a, flow, HS_REPLIED, HS_FLOW_UDP);
    CHECK(4, a->digest != before, true);
    hs_flow_set_state(a, flow, HS_UNREPLIED, HS_FLOW_UDP | HS_FLOW_BOTH_SEEN);
    CHECK(5, a->digest != before, true);
    hs_flow_set_state(a, flow, HS_UNREPLIED, HS_FLOW_UDP);
    CHECK(6, a->digest, before);
    hs_flow_table_remove(a, flow);
    add(a, 5, 1000);
    CHECK(7, a->digest != before, true); /* the same flow in another life */
    hs_flow_table_destroy(a);
    hs_flow_table_destroy(b);
}

static void check_half_open(void)
{
    struct hs_flow_table *t = hs_flow_table_create(4, seed);
    struct hs_tuple both[2];
    struct hs_flow *flow;

    make_tuples(both, 1);
    both[0].proto = both[1].proto = HS_TCP;
    flow = hs_flow_table_add(t, both, HS_TCP_SYN_SENT, 0, 1000);
    CHECK(1, t->half_open, 1);
    CHECK(2, hs_flow_timeout_s(flow), HS_TCP_TRANSITORY_S);
    hs_flow_set_state(t, flow, HS_TCP_SYN_RECV, 0);
    CHECK(3, t->half_open, 1);
    hs_flow_set_state(t, flow, HS_TCP_ESTABLISHED, 0);
    CHECK(4, t->half_open, 0);
    CHECK(5, hs_flow_timeout_s(flow), HS_TCP_ESTABLISHED_S);
    hs_flow_set_state(t, flow, HS_TCP_SYN_SENT2, 0);
    hs_flow_table_remove(t, flow);
    CHECK(6, t->half_open, 0);
    add(t, 2, 1000);
    CHECK(7, t->half_open, 0); /* UDP is never half-open */
    hs_flow_table_destroy(t);
}

static uint32_t expire(struct hs_flow_table *t, uint64_t now_ms)
{
    uint32_t budget = 1u << 20, count = 0;
    struct hs_flow *flow;

    while ((flow = hs_flow_table_next_expired(t, now_ms, &budget))) {
        CHECK(count, flow->expires_ms <= now_ms, true);
        hs_flow_table_remove(t, flow);
        count++;
    }
    return count;
}

static void check_ageing(void)
{
    struct hs_flow_table *t = hs_flow_table_create(16, seed);
    const uint64_t s = 1000, start = 50000 * s;
    struct hs_flow *flow;
    uint32_t budget = 1;

    CHECK(1, expire(t, start), 0);
    add(t, 1, start + 60 * s);
    add(t, 2, start + 61 * s);
    flow = add(t, 3, start + 60 * s);
    hs_flow_set_expiry(t, flow, start + 100 * s); /* used again: later, and the wheel is not touched */
    CHECK(2, expire(t, start + 60 * s), 0);       /* only seconds that have wholly passed */
    CHECK(3, expire(t, start + 61 * s), 1);
    CHECK(4, expire(t, start + 61 * s), 0);
    CHECK(5, expire(t, start + 62 * s), 1);
    CHECK(6, expire(t, start + 100 * s), 0);
    CHECK(7, expire(t, start + 101 * s), 1);
    flow = add(t, 4, start + 7000 * s);
    hs_flow_set_expiry(t, flow, start + 200 * s); /* sooner: it moves */
    CHECK(8, expire(t, start + 201 * s), 1);
    for (uint32_t n = 0; n < 10; n++)
        add(t, n, start + 300 * s);
    CHECK(9, hs_flow_table_next_expired(t, start + 302 * s, &budget) != NULL, true);
    CHECK(10, budget, 0);
    CHECK(11, hs_flow_table_next_expired(t, start + 302 * s, &budget) == NULL, true); /* looked at enough */
    hs_flow_table_remove(t, find(t, 4, 0).flow); /* out of the middle of the list being looked at */
    CHECK(12, expire(t, start + 302 * s), 9);
    CHECK(13, t->count, 0);
    hs_flow_table_destroy(t);
}

/* Expiries beyond the wheel's lap, and a table that did not age for a long time. */
static void check_laps(void)
{
    struct hs_flow_table *t = hs_flow_table_create(64, seed);
    const uint64_t s = 1000, lap = HS_WHEEL_SECONDS * s, start = 12345 * s;
    struct hs_flow *flow;

    CHECK(1, expire(t, start), 0);
    add(t, 1, start + 3 * lap + 5 * s);
    for (uint64_t at = start; at <= start + 3 * lap + 5 * s; at += 500 * s)
        CHECK(at / s, expire(t, at), 0);
    CHECK(2, expire(t, start + 3 * lap + 6 * s), 1);
    /* A backup rests for days, while flows come and are refreshed; then it is promoted. */
    for (uint32_t n = 0; n < 50; n++)
        add(t, n, start + (100 + n * 400) * s);
    flow = find(t, 7, 0).flow;
    hs_flow_set_expiry(t, flow, start + 100 * lap + 40 * s);
    CHECK(3, expire(t, start + 100 * lap), 49);
    CHECK(4, t->count, 1);
    CHECK(5, expire(t, start + 100 * lap + 40 * s), 0);
    CHECK(6, expire(t, start + 100 * lap + 41 * s), 1);
    /* The grace of a promotion: what is due is given more time, within the loop itself. */
    for (uint32_t n = 0; n < 50; n++)
        add(t, n, start + 101 * lap);
    uint32_t budget = 1000, graced = 0;
    while ((flow = hs_flow_table_next_expired(t, start + 102 * lap, &budget)) && graced < 1000) {
        hs_flow_set_expiry(t, flow, start + 102 * lap + 120 * s);
        graced++;
    }
    CHECK(7, graced, 50);
    CHECK(8, expire(t, start + 102 * lap + 120 * s), 0);
    CHECK(9, expire(t, start + 102 * lap + 121 * s), 50);
    hs_flow_table_destroy(t);
}

int main(void)
{
    check_add_find_remove(1);
    check_add_find_remove(63);
    check_add_find_remove(64);
    check_add_find_remove(1000);
    check_versions();
    check_digest();
    check_half_open();
    check_ageing();
    check_laps();
    return hs_check_result();
}
