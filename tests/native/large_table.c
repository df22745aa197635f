/* The flow table at its largest, and a million ends in one second.
 *
 *     large_table CAPACITY        8,388,608 take some 10 s and 1.1 GB
 *
 * Compiled without sanitizers (test_large_table.py); what each function does is in test_flow_table.c.
 */
#include "core/gateway.h"
#include "core/limits.h"

#include "check.h"

static const struct hs_seed seed = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
static const uint64_t start_ms = 50000000;

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

/* How many of the numbers from `first` on, `step` apart, are found by both of their tuples. */
static uint32_t count_found(const struct hs_flow_table *t, uint32_t first, uint32_t step, uint32_t end)
{
    uint32_t found = 0;

    for (uint32_t n = first; n < end; n += step) {
        struct hs_tuple both[2];
        struct hs_found at[2];

        make_tuples(both, n);
        at[0] = hs_flow_table_find(t, &both[0]);
        at[1] = hs_flow_table_find(t, &both[1]);
        found += at[0].flow && at[0].flow == at[1].flow && at[0].direction == HS_ORIGINAL &&
                 at[1].direction == HS_REPLY;
    }
    return found;
}

static void check_full(struct hs_flow_table *t, uint32_t capacity)
{
    uint32_t wrong = 0;

    for (uint32_t n = 0; n < capacity; n++)
        wrong += add(t, n, start_ms) != &t->flows[n];
    CHECK(1, wrong, 0);
    CHECK(2, add(t, capacity, start_ms) == NULL, true);
    CHECK(3, t->count, capacity);
    CHECK(4, count_found(t, 0, 1, capacity), capacity);
    CHECK(5, count_found(t, capacity, 1, capacity + 100000), 0);
    for (uint32_t n = 1; n < capacity; n += 2)
        hs_flow_table_remove(t, &t->flows[n]);
    CHECK(6, count_found(t, 0, 2, capacity), (capacity + 1) / 2);
    CHECK(7, count_found(t, 1, 2, capacity), 0);
    for (uint32_t n = 1; n < capacity; n += 2) /* every lowest free slot again */
        wrong += add(t, n, start_ms) != &t->flows[n];
    CHECK(8, wrong, 0);
    CHECK(9, count_found(t, 0, 1, capacity), capacity);
}

/* Flows due in every second of an established connection's two hours; each goes in its own, and leaves nothing. */
static void check_aged(struct hs_flow_table *t, uint32_t capacity)
{
    static const struct hs_bucket empty;
    uint64_t now_ms = start_ms;
    uint32_t aged = 0, early = 0, late = 0, left = 0;

    for (uint32_t slot = 0; slot < capacity; slot++)
        hs_flow_set_expiry(t, &t->flows[slot], start_ms + 1000ull * (slot % 7440));
    for (uint32_t second = 0; second <= 7440; second++, now_ms += 1000) {
        uint32_t budget = UINT32_MAX;
        struct hs_flow *flow;

        while ((flow = hs_flow_table_next_expired(t, now_ms, &budget))) {
            early += flow->expires_ms > now_ms;
            late += flow->expires_ms + 2000 <= now_ms;
            hs_flow_table_remove(t, flow);
            aged++;
        }
    }
    CHECK(1, aged, capacity);
    CHECK(2, early + late, 0);
    CHECK(3, t->count, 0);
    CHECK(4, t->digest, 0);
    for (uint32_t i = 0; i < t->index.count; i++)
        left += memcmp(&t->index.buckets[i], &empty, sizeof empty) != 0;
    CHECK(5, left, 0);
}

static void discard(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet, (void)frame, (void)length;
}

/* A million flows fall due in one second: each bite ends its share of them and no more, until all have gone. */
static void check_million_at_once(void)
{
    const uint32_t flows = 1 << 20, share = HS_AGE_BITE / HS_AGE_END;
    struct hs_gateway *g = hs_gateway_create(
        seed, (struct hs_gateway_limits){.capacity = flows, .log_records = 1024, .held_packets = 8, .held_bytes = 16384},
        (struct hs_output){discard, NULL});
    uint64_t now_ns = (start_ms + 2000) * 1000000;
    uint32_t bites = 0, ended = 0, worst = 0;

    for (uint32_t n = 0; n < flows; n++)
        add(g->table, n, start_ms);
    hs_gateway_arm(g, 0);
    g->grace_until_ms = 0;
    CHECK(1, hs_gateway_is_behind(g, now_ns), true);
    for (; hs_gateway_is_behind(g, now_ns) && bites < flows; bites++) {
        uint32_t now_ended = hs_gateway_age(g, now_ns);

        ended += now_ended;
        worst = now_ended > worst ? now_ended : worst;
    }
    CHECK(2, ended, flows);
    CHECK(3, worst, share);
    CHECK(4, bites <= flows / share + 1, true);
    CHECK(5, g->table->count, 0);
    /* And none of them is due any more: a bite looks at its share and ends nothing. */
    for (uint32_t n = 0; n < flows; n++)
        hs_flow_set_expiry(g->table, add(g->table, n, start_ms + 10000), start_ms + 900000);
    now_ns = (start_ms + 12000) * 1000000;
    for (bites = 0; hs_gateway_is_behind(g, now_ns) && bites < flows; bites++)
        CHECK(bites, hs_gateway_age(g, now_ns), 0);
    CHECK(6, bites >= flows / HS_AGE_BITE && bites <= flows / HS_AGE_BITE + 1, true);
    CHECK(7, g->table->count, flows);
    hs_gateway_destroy(g);
}

int main(int argc, char **argv)
{
    uint32_t capacity = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : HS_CAPACITY_MAX;
    struct hs_flow_table *t = hs_flow_table_create(capacity, seed);

    if (!t)
        return 1;
    check_full(t, capacity);
    check_aged(t, capacity);
    hs_flow_table_destroy(t);
    check_million_at_once();
    return hs_check_result();
}
