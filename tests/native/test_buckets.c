/* Bucket digests: how many there are, that they are always what a recomputation gives, and that they differ where the
 * tables do and nowhere else. */
#include "core/buckets.h"
#include "core/ends6.h"

#include "check.h"

static const struct hs_seed seed = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
static uint64_t dice = 88172645463325252;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)((dice >> 32) * sides >> 32);
}

/* proto/sync.md §8 */
static void check_sizes(void)
{
    static const struct {
        uint32_t capacity, slots, count;
    } rows[] = {
        {1, 16, 1},           {16, 16, 1},         {17, 16, 2},           {1000, 16, 63},
        {1 << 20, 16, 65536}, {(1 << 20) + 1, 32, 32769}, {(2 << 20) + 1, 64, 32769}, {8 << 20, 128, 65536},
    };

    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(i, hs_bucket_slots(rows[i].capacity), rows[i].slots);
        CHECK(i, hs_bucket_count(rows[i].capacity), rows[i].count);
    }
}

static void check_suspects(void)
{
    static struct hs_suspects s;
    uint8_t bits[9] = {1, 0x80, 0, 0, 0, 0, 0, 0x7f, 0};

    CHECK(1, hs_suspects_have(&s, 0) && hs_suspects_have(&s, UINT32_MAX), true); /* all zero: every slot */
    CHECK(2, hs_suspects_load(&s, 1000, bits, 0), true);
    CHECK(3, hs_suspects_have(&s, 999), true);
    CHECK(4, hs_suspects_load(&s, 1000, bits, 7), false);
    CHECK(5, hs_suspects_load(&s, 1000, bits, 9), false);
    bits[7] = 0xff; /* of the 64th bucket there is none */
    CHECK(6, hs_suspects_load(&s, 1000, bits, 8), false);
    bits[7] = 0x40;
    CHECK(7, hs_suspects_load(&s, 1000, bits, 8), true);
    for (uint32_t slot = 0; slot < 1100; slot++)
        CHECK(slot, hs_suspects_have(&s, slot), slot < 16 || slot / 16 == 15 || slot >= 992);
    bits[7] = 0;
    CHECK(8, hs_suspects_load(&s, 1000, bits, 8), true);
    for (uint32_t slot = 980; slot < 1100; slot++) /* what the primary cannot hold is suspect whatever it says */
        CHECK(slot, hs_suspects_have(&s, slot), slot >= 1000);
    CHECK(9, hs_suspects_load(&s, 1024, bits, 8), true); /* a whole last byte */
}

static void make_tuples(struct hs_tuple both[2], uint32_t n)
{
    both[0] = (struct hs_tuple){.src_addr = htonl(0x0a000000 + n), .dst_addr = htonl(0x08080808),
                                .src_port = htons((uint16_t)n), .dst_port = htons(53), .proto = HS_UDP};
    both[1] = hs_tuple_invert(&both[0]);
}

static void add_at(struct hs_flow_table *t, uint32_t slot, uint32_t n)
{
    struct hs_tuple both[2];

    make_tuples(both, n);
    hs_flow_table_add_at(t, slot, (uint16_t)(t->flows[slot].version + 1), both, HS_UNREPLIED, HS_FLOW_UDP, 1000);
}

static void add6_at(struct hs_flow_table *t, uint32_t slot, uint32_t n)
{
    struct hs_ends6 ends = {{{0x20, 1, [12] = (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}}, {{0x20, 2}}};
    struct hs_tuple both[2] = {hs_tuple6(seed, &ends, htons(1), htons(2), HS_UDP)};
    struct hs_flow *flow;

    both[1] = hs_tuple_invert(&both[0]);
    flow = hs_flow_table_add_at(t, slot, (uint16_t)(t->flows[slot].version + 1), both, HS_UNREPLIED, HS_FLOW_UDP, 1000);
    hs_flow_set_ends6(t, flow, &ends, &ends.dst);
}

/* What the digest of some slots is, by the definition. */
static uint64_t sum(const struct hs_flow_table *t, uint32_t first, uint32_t slots)
{
    uint64_t digest = 0;

    for (uint32_t slot = first; slot < first + slots && slot < t->capacity; slot++)
        if (t->flows[slot].state)
            digest += hs_flow_digest(t, &t->flows[slot]);
    return digest;
}

static void check_sums(struct hs_flow_table *t, int number)
{
    CHECK(number, t->digest, sum(t, 0, t->capacity));
    for (uint32_t slots = HS_GRAIN_SLOTS; slots <= 128; slots *= 2)
        for (uint32_t first = 0; first < t->capacity; first += slots)
            CHECK(first, hs_bucket_digest(t, first, slots), sum(t, first, slots));
    for (uint32_t first = 0; first < t->capacity; first += HS_GRAIN_SLOTS)
        CHECK(first, hs_bucket_recount(t, first), true);
}

static void check_random_operations(uint32_t capacity)
{
    struct hs_flow_table *t = hs_flow_table_create(capacity, seed);

    hs_ends6_reserve(t);
    for (uint32_t n = 0; n < 20000; n++) {
        uint32_t slot = roll(capacity);
        struct hs_flow *flow = &t->flows[slot];

        if (!flow->state && roll(2))
            add_at(t, slot, n);
        else if (!flow->state)
            add6_at(t, slot, n);
        else if (roll(2))
            hs_flow_table_remove(t, flow);
        else
            hs_flow_set_state(t, flow, HS_REPLIED, flow->flags ^ HS_FLOW_BOTH_SEEN);
        if (n == 12345)
            hs_flow_table_reset(t, (struct hs_seed){3, 4});
        if (n % 1000 == 0)
            check_sums(t, (int)n);
    }
    check_sums(t, 1);
    hs_flow_table_reset(t, seed);
    check_sums(t, 2);
    CHECK(3, t->digest, 0);
    hs_flow_table_destroy(t);
}

/* Two tables alike but in some slots: the buckets of those differ, whatever the capacity makes a bucket. */
static void check_exactness(uint32_t capacity)
{
    struct hs_flow_table *a = hs_flow_table_create(capacity, seed), *b = hs_flow_table_create(capacity, seed);
    uint32_t slots = hs_bucket_slots(capacity), count = hs_bucket_count(capacity);
    uint8_t *differs = calloc(count, 1);

    for (uint32_t n = 0; n < 4000; n++) {
        uint32_t slot = roll(capacity);

        if (a->flows[slot].state)
            continue;
        add_at(a, slot, n);
        add_at(b, slot, n);
        if (roll(50))
            continue;
        differs[slot / slots] = 1;
        if (roll(2))
            hs_flow_table_remove(b, &b->flows[slot]);
        else
            hs_flow_set_state(b, &b->flows[slot], HS_REPLIED, HS_FLOW_UDP);
    }
    for (uint32_t i = 0; i < count; i++)
        CHECK(i, hs_bucket_digest(a, i * slots, slots) != hs_bucket_digest(b, i * slots, slots), differs[i]);
    free(differs);
    hs_flow_table_destroy(a);
    hs_flow_table_destroy(b);
}

/* Each in the other's slot, both in one bucket: a DEL would end the wrong one. */
static void check_swapped(void)
{
    struct hs_flow_table *a = hs_flow_table_create(16, seed), *b = hs_flow_table_create(16, seed);

    add_at(a, 3, 1);
    add_at(a, 4, 2);
    add_at(b, 3, 2);
    add_at(b, 4, 1);
    CHECK(1, hs_bucket_digest(a, 0, 16) != hs_bucket_digest(b, 0, 16), true);
    hs_flow_table_destroy(a);
    hs_flow_table_destroy(b);
}

/* proto/sync.md §8, written out. */
static void check_bytes(void)
{
    struct hs_flow_table *t = hs_flow_table_create(70000, seed);
    struct hs_tuple both[2] = {{hs_ip("10.0.1.7"), hs_ip("8.8.8.8"), htons(5000), htons(53), HS_UDP, HS_IPV4, {0}}};
    uint8_t bytes[32];

    both[1] = hs_tuple_invert(&both[0]);
    both[1].dst_addr = hs_ip("203.0.113.5");
    hs_flow_table_add_at(t, 65539, 0x102, both, HS_REPLIED, HS_FLOW_UDP | HS_FLOW_BOTH_SEEN | HS_FLOW_AT_RISK, 1000);
    CHECK(1, hs_hex("0a000107 08080808 1388 0035 11 010003 08080808 cb007105 0035 1388 02 06 0102", bytes, 32), 32);
    CHECK(2, t->digest, hs_siphash(seed, bytes, 32));
    hs_flow_table_destroy(t);
}

int main(void)
{
    check_sizes();
    check_suspects();
    check_random_operations(1000);
    check_random_operations(37);
    check_exactness(1000);
    check_exactness(5 << 20);
    check_swapped();
    check_bytes();
    return hs_check_result();
}
