/* Memory that changes beneath the table: nothing crashes, nothing is found that is not there, every flow can still end,
 * and the scrub finds what the digest covers. Under the sanitizers, so that a step out of an array is an error. */
#include "core/record.h"

#include "gateway_fixture.h"

static const struct hs_gateway_limits limits = {
    .capacity = 256, .log_records = 4096, .held_packets = 8, .held_bytes = 16384};
static uint64_t dice = 88172645463325252;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)((dice >> 32) * sides >> 32);
}

static void discard(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet, (void)frame, (void)length;
}

/* SYNs to the service, from inside out, and UDP out, by turns. */
static uint32_t make_frame(uint8_t frame[60], uint32_t n)
{
    static const char *const shapes[] = {
        "aaaaaaaaaaaa 020000000001 0800 4500002800004000400600 00 cb007164 cb007105 0000 0050 00000001 00000000 5002 ffff 0000 0000",
        "aaaaaaaaaaaa 020000000001 0800 4500002800004000400600 00 0a000102 08080808 0000 01bb 00000001 00000000 5002 ffff 0000 0000",
        "aaaaaaaaaaaa 020000000001 0800 4500001c00004000401100 00 0a000103 08080808 0000 0035 0008 0000",
    };
    uint32_t length = hs_hex(shapes[n % 3], frame, 60);

    frame[34] = (uint8_t)(n >> 8 | 0x20);
    frame[35] = (uint8_t)n;
    hs_sum_header(frame, length);
    return length;
}

static void inject(struct hs_gateway *g, uint32_t n, uint64_t now)
{
    uint8_t *frame = malloc(60 + 64);
    uint32_t length = make_frame(frame, n);
    struct hs_vnet vnet = {0};

    hs_gateway_receive(g, n % 3 ? HS_INSIDE : HS_OUTSIDE, &vnet, frame, length, now);
    free(frame);
}

static struct hs_gateway *make_gateway(uint64_t now)
{
    struct hs_gateway *g = hs_fixture_create(limits, (struct hs_output){discard, NULL});

    g->policy.early_drop = true;
    g->rules.nat[0].max_flows_per_source = 0;
    g->rules.nat[0].port_last = 40999;
    hs_fixture_arm(g, now);
    return g;
}

static uint64_t recompute(const struct hs_flow_table *t)
{
    uint64_t digest = 0;

    for (uint32_t slot = 0; slot < t->capacity; slot++)
        if (hs_flow_table_holds(t, slot))
            digest += hs_flow_digest(t, &t->flows[slot]);
    return digest;
}

static uint32_t count_used(const struct hs_flow_table *t)
{
    uint32_t used = 0;

    for (uint32_t slot = 0; slot < t->capacity; slot++)
        used += hs_flow_table_holds(t, slot);
    return used;
}

/* Anything may be written into the flows; the gateway goes on, its peer's records too, and in the end all flows end. */
static void check_anything_goes(uint32_t rounds)
{
    uint64_t now = 1000 * second;
    struct hs_gateway *g = make_gateway(now);
    uint32_t left;

    for (uint32_t round = 0; round < rounds; round++) {
        uint8_t *byte = (uint8_t *)&g->table->flows[roll(limits.capacity)] + roll(sizeof(struct hs_flow));
        uint32_t appended;

        if (roll(3) == 0)
            *byte = (uint8_t)(roll(2) ? roll(256) : *byte ^ 1u << roll(8));
        inject(g, roll(3 * 200), now);
        if (roll(20) == 0)
            hs_gateway_tick(g, now += second * roll(40));
        if (roll(50) == 0)
            hs_gateway_acknowledge(g, g->log.next - 1);
        if (roll(100) == 0)
            hs_gateway_recount(g, roll(limits.capacity), now);
        if (roll(500) == 0) {
            hs_gateway_start_snapshot(g, NULL, false);
            hs_gateway_append_snapshot(g, UINT32_MAX, now, &appended);
        }
        CHECK(round, count_used(g->table), g->table->count);
    }
    for (uint32_t slot = 0; slot < limits.capacity; slot++)
        if (hs_flow_table_holds(g->table, slot))
            hs_gateway_delete(g, &g->table->flows[slot], HS_DEL_CLOSED, now);
    left = g->table->count;
    CHECK(1, left, 0);
    for (uint32_t second_of = 0; second_of < HS_WHEEL_SECONDS; second_of++)
        left += g->table->wheel.seconds[second_of] != HS_NOTHING;
    CHECK(2, left, 0);
    for (uint32_t n = 0; n < 600; n++) { /* nobody is found who is not there */
        struct hs_tuple original = {hs_ip("10.0.1.3"), hs_ip("8.8.8.8"), htons((uint16_t)(0x2000 + n)), htons(53),
                                    HS_UDP, HS_IPV4, {0}};

        CHECK(n, hs_flow_table_find(g->table, &original).flow == NULL, true);
    }
    for (uint32_t slot = 0; slot < limits.capacity; slot += HS_GRAIN_SLOTS)
        hs_gateway_recount(g, slot, now);
    CHECK(3, g->table->digest, 0);
    hs_gateway_destroy(g);
}

/* A flow whose tuples changed leaves strays in the index; it comes again, goes, and is not found through them. */
static void check_strays(void)
{
    struct hs_flow_table *t = hs_flow_table_create(64, (struct hs_seed){1, 2});
    struct hs_tuple both[2] = {{1, 2, 3, 4, HS_UDP, HS_IPV4, {0}}};

    both[1] = hs_tuple_invert(&both[0]);
    for (uint32_t round = 0; round < 10000; round++) {
        struct hs_flow *flow = hs_flow_table_add_at(t, 7, 1, both, HS_UNREPLIED, HS_FLOW_UDP, 1000);

        CHECK(round, hs_flow_table_find(t, &both[1]).flow == flow, true);
        if (round % 2 == 0)
            flow->tuple[0].dst_addr = flow->tuple[1].dst_port = 0x55;
        hs_flow_table_remove(t, flow);
        CHECK(round, hs_flow_table_find(t, &both[0]).flow == NULL, true);
        CHECK(round, t->index.strays <= t->index.count, true);
    }
    hs_flow_table_destroy(t);
}

/* Every bit of what the digest covers: the scrub finds each, once, and says what memory says. */
static void check_every_bit(void)
{
    static const struct {
        uint32_t first, last; /* bytes of struct hs_flow */
    } covered[] = {
        {0, 31},
        {offsetof(struct hs_flow, state), offsetof(struct hs_flow, state)},
        {offsetof(struct hs_flow, version), offsetof(struct hs_flow, version) + 1},
    };
    uint64_t now = 1000 * second;
    struct hs_gateway *g = make_gateway(now);
    uint64_t wanted = 0;

    for (uint32_t n = 0; n < 60; n++)
        inject(g, n, now);
    g->active = false; /* a backup: nothing ends because of it */
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t at = covered[i].first; at <= covered[i].last; at++)
            for (uint32_t bit = 0; bit < 8; bit++) {
                uint8_t *byte = (uint8_t *)&g->table->flows[roll(40)] + at;

                for (int twice = 0; twice < 2; twice++) {
                    *byte ^= (uint8_t)(1u << bit);
                    for (uint32_t slot = 0; slot < limits.capacity; slot += HS_GRAIN_SLOTS)
                        hs_gateway_recount(g, slot, now);
                    CHECK(at * 8 + bit, g->counters.scrub_mismatches, ++wanted);
                    CHECK(at * 8 + bit, g->table->digest, recompute(g->table));
                }
            }
    CHECK(1, g->counters.corrupt_flows_ended, 0);
    hs_gateway_destroy(g);
}

/* The primary ends what no record can describe, and keeps what one can. */
static void check_untellable(void)
{
    uint64_t now = 1000 * second;
    struct hs_gateway *g = make_gateway(now);
    struct hs_flow *flows = g->table->flows;

    for (uint32_t n = 0; n < 48; n++)
        inject(g, n, now);
    CHECK(1, g->table->count, 48);
    flows[3].state = 77;
    flows[4].tuple[HS_REPLY].src_port ^= 1; /* forward and back do not fit together any more */
    flows[21].state = HS_TCP_ESTABLISHED;    /* wrong, but a flow */
    flows[22].version++;
    for (uint32_t slot = 0; slot < 48; slot += HS_GRAIN_SLOTS)
        hs_gateway_recount(g, slot, now);
    CHECK(2, g->counters.scrub_mismatches, 2);
    CHECK(3, g->counters.corrupt_flows_ended, 2);
    CHECK(4, g->table->count, 46);
    CHECK(5, hs_flow_table_holds(g->table, 3) || hs_flow_table_holds(g->table, 4), false);
    CHECK(6, hs_delta_log_entry(&g->log, g->log.next - 1)->record[0], HS_DEL);
    CHECK(7, g->table->digest, recompute(g->table));
    hs_gateway_destroy(g);
}

/* Once in `seconds` whatever the tick's rhythm, and never more than a bite at once. */
static void check_pace(uint32_t capacity, uint32_t seconds, uint64_t tick_ns)
{
    struct hs_gateway_limits large = {.capacity = capacity, .log_records = 64, .held_packets = 8, .held_bytes = 16384};
    struct hs_gateway *g = hs_fixture_create(large, (struct hs_output){discard, NULL});
    uint64_t began = 1000 * second, now = began, last = 0, grains = (capacity + HS_GRAIN_SLOTS - 1) / HS_GRAIN_SLOTS;

    hs_gateway_scrub(g, now); /* off */
    CHECK(1, g->scrub.slot, 0);
    g->scrub.seconds = seconds;
    hs_gateway_scrub(g, now);
    for (; now < began + 10 * seconds * second; now += tick_ns) {
        uint64_t before = last;

        hs_gateway_scrub(g, now);
        last = g->counters.scrub_passes * grains + g->scrub.slot / HS_GRAIN_SLOTS;
        CHECK(2, last - before <= HS_SCRUB_BITE, true);
    }
    CHECK(3, g->counters.scrub_passes >= 9 && g->counters.scrub_passes <= 11, true);
    hs_gateway_destroy(g);
}

int main(void)
{
    check_anything_goes(30000);
    check_strays();
    check_every_bit();
    check_untellable();
    check_pace(1024, 30, 10000000);
    check_pace(100003, 5, 10000000);
    check_pace(1, 1, 7777777);
    return hs_check_result();
}
