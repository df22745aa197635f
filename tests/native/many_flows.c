/* Makes and ends many flows of every kind on one gateway, a second one mirroring it, and looks for what they left behind.
 *
 *     many_flows FLOWS        10,000,000 take half a minute
 *
 * Compiled without sanitizers (test_many_flows.py): it is about counts, and about memory that grows.
 */
#include <stdio.h>
#include <unistd.h>

#include "gateway_fixture.h"

enum {
    CAPACITY = 1 << 16,
    FLOWS_PER_S = 160, /* 300 s of these fill three quarters of the table */
    PORTS = 10000,
    PUBLICS = 2,
    FRAME = 14 + 40,
    RECORDS = 1 << 16,
};

static struct {
    uint8_t frame[FRAME];
    uint32_t count;
} left;

static void keep(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet;
    memcpy(left.frame, frame, length < FRAME ? length : FRAME);
    left.count++;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* A frame without layer-4 checksum: nobody here looks at it. ICMP: `sport` is the identifier. */
static void make(uint8_t *frame, uint8_t proto, uint32_t src, uint32_t sport, uint32_t dst, uint32_t dport)
{
    uint32_t length = proto == HS_TCP ? 40 : 28;

    memset(frame, 0, FRAME);
    frame[12] = 8;
    frame[14] = 0x45;
    put16(frame + 16, length);
    frame[22] = 64;
    frame[23] = proto;
    memcpy(frame + 26, &src, 4);
    memcpy(frame + 30, &dst, 4);
    if (proto == HS_ICMP) {
        frame[34] = HS_ECHO_REQUEST;
        put16(frame + 38, sport);
        return;
    }
    put16(frame + 34, sport);
    put16(frame + 36, dport);
    if (proto == HS_UDP)
        put16(frame + 38, 8);
    else
        frame[46] = 0x50;
}

/* The answer to what left last. */
static void answer(uint8_t *frame, uint8_t tcp_flags)
{
    memcpy(frame, left.frame, FRAME);
    memcpy(frame + 26, left.frame + 30, 4);
    memcpy(frame + 30, left.frame + 26, 4);
    if (frame[23] == HS_ICMP) {
        frame[34] = HS_ECHO_REPLY;
        return;
    }
    memcpy(frame + 34, left.frame + 36, 2);
    memcpy(frame + 36, left.frame + 34, 2);
    if (frame[23] == HS_TCP)
        frame[47] = tcp_flags;
}

static bool pass(struct hs_gateway *g, int side, const uint8_t *frame, uint64_t now)
{
    uint8_t copy[FRAME + 64];
    uint32_t before = left.count;

    memcpy(copy, frame, FRAME);
    hs_sum_header(copy, FRAME);
    hs_gateway_receive(g, side, NULL, copy, frame[23] == HS_TCP ? FRAME : FRAME - 12, now);
    return left.count == before + 1;
}

static bool say(struct hs_gateway *g, int side, uint8_t *frame, uint8_t flags, uint64_t now)
{
    frame[47] = flags;
    return pass(g, side, frame, now);
}

/* A connection as far as `end` says: handshake, data, and an end by both, by the server's RST, or none. */
static uint32_t converse(struct hs_gateway *g, int side, uint8_t *frame, uint32_t end, uint64_t now)
{
    uint8_t back[FRAME];
    uint32_t lost = 0;

    lost += !say(g, side, frame, HS_SYN, now);
    if (end == 0)
        return lost;
    answer(back, HS_SYN | HS_ACK);
    lost += !pass(g, !side, back, now);
    lost += !say(g, side, frame, HS_ACK, now);
    lost += end == 1 && !say(g, !side, back, HS_RST, now);
    if (end < 2)
        return lost;
    lost += !say(g, side, frame, HS_FIN | HS_ACK, now);
    lost += !say(g, !side, back, HS_FIN | HS_ACK, now);
    return lost + !say(g, side, frame, HS_ACK, now);
}

/* One flow, its kind and ends by its number; the packets that should have passed and did not. */
static uint32_t live(struct hs_gateway *g, uint64_t number, uint64_t now)
{
    static const struct {
        uint8_t proto;
        int side;
        uint32_t end;
    } kinds[] = {{HS_TCP, HS_INSIDE, 2}, {HS_TCP, HS_INSIDE, 1}, {HS_UDP, HS_INSIDE, 0}, {HS_TCP, HS_OUTSIDE, 2},
                 {HS_ICMP, HS_INSIDE, 0}, {HS_TCP, HS_OUTSIDE, 0}, {HS_TCP, HS_OUTSIDE, 1}, {HS_UDP, HS_INSIDE, 1}};
    uint32_t kind = number % 8, host = htonl(0x0a000200 + (uint32_t)(number / 8 % 2048));
    uint32_t sport = 1024 + (uint32_t)(number * 7 % 60000), server = htonl(0xc6336400 + (uint32_t)(number % 64));
    uint8_t frame[FRAME], back[FRAME];
    uint32_t lost;

    if (kinds[kind].side == HS_INSIDE)
        make(frame, kinds[kind].proto, host, sport, server, 80);
    else
        make(frame, kinds[kind].proto, htonl(0xc0000200 + (uint32_t)(number % 251)), sport, hs_ip("203.0.113.5"), 80);
    if (kinds[kind].proto == HS_TCP)
        return converse(g, kinds[kind].side, frame, kinds[kind].end, now);
    lost = !pass(g, kinds[kind].side, frame, now);
    if (!kinds[kind].end) {
        answer(back, 0);
        lost += !pass(g, !kinds[kind].side, back, now);
    }
    return lost;
}

static void replicate(struct hs_gateway *g, struct hs_gateway *mirror, uint64_t now)
{
    static uint8_t records[1 << 16];
    enum hs_rejection rejection;
    uint32_t length, count;

    while ((length = hs_delta_log_drain(&g->log, records, sizeof records, &count))) {
        CHECK(10, hs_gateway_install(mirror, records, length, now, &rejection), count);
        hs_gateway_acknowledge(g, g->log.send_next - 1);
    }
    CHECK(11, mirror->table->digest, g->table->digest);
}

static uint64_t resident_kib(void)
{
    unsigned long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%lu %lu", &size, &resident) != 2)
        abort();
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static struct hs_gateway *set_up(bool active)
{
    struct hs_gateway *g =
        hs_fixture_create((struct hs_gateway_limits){.capacity = CAPACITY, .log_records = RECORDS, .held_packets = 8,
                                                     .held_bytes = 16384}, (struct hs_output){keep, NULL});
    struct hs_route routes[] = {{hs_ip("10.0.0.0"), hs_ip("255.255.0.0"), hs_ip("10.0.1.2"), HS_INSIDE},
                                {0, 0, hs_ip("203.0.113.254"), HS_OUTSIDE}};

    hs_next_hops_set_routes(&g->hops, routes, 2);
    hs_next_hops_neighbour(&g->hops, HS_INSIDE, hs_ip("10.0.1.2"))->known = true;
    g->rules.nat[0].publics[1] = hs_ip("203.0.113.7");
    g->rules.nat[0].public_count = PUBLICS;
    g->rules.nat[0].port_first = 20000;
    g->rules.nat[0].port_last = 20000 + PORTS - 1;
    g->rules.nat[0].hold_down_s = 120;
    g->rules.nat[0].max_flows_per_source = PORTS * PUBLICS + 1;
    g->rules.nat[0].preserve_parity = false;
    g->rules.nat[0].icmp_on_exhaustion = false;
    hs_fixture_arm(g, second);
    g->grace_until_ms = 0;
    g->active = active;
    return g;
}

/* Time goes by, second by second, and everything is told. */
static void wait(struct hs_gateway *g, struct hs_gateway *mirror, uint64_t *now, uint32_t seconds)
{
    for (uint32_t i = 0; i < seconds; i++) {
        *now += second;
        hs_gateway_tick(g, *now);
        replicate(g, mirror, *now);
    }
}

/* Every port and every handle serves again: all are given out, and not one more. */
static void use_all_again(struct hs_gateway *g, struct hs_gateway *mirror, uint64_t *now)
{
    uint32_t passed = 0;
    uint8_t frame[FRAME];

    for (uint32_t i = 0; i <= PORTS * PUBLICS; i++) {
        make(frame, HS_UDP, hs_ip("10.0.200.1"), 1000 + i % 50000, hs_ip("198.51.100.200"), 53);
        passed += pass(g, HS_INSIDE, frame, *now);
    }
    CHECK(20, passed, PORTS * PUBLICS);
    CHECK(21, g->counters.drop_nat_exhausted, 1);
    g->rules.services[0].proto = HS_UDP;
    for (uint32_t i = 0; i <= CAPACITY - PORTS * PUBLICS; i++) {
        make(frame, HS_UDP, hs_ip("192.0.2.1"), 1000 + i, hs_ip("203.0.113.5"), 80);
        passed += pass(g, HS_OUTSIDE, frame, *now);
    }
    CHECK(22, passed, CAPACITY);
    CHECK(23, g->table->count, CAPACITY);
    CHECK(24, g->counters.drop_table_full, 1);
    wait(g, mirror, now, 301 + CAPACITY * HS_AGE_END / HS_AGE_BITE);
}

int main(int argc, char **argv)
{
    uint64_t flows = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000, now = 1000 * second, lost = 0, early = 0;
    struct hs_gateway *g = set_up(true), *mirror = set_up(false);

    for (uint64_t number = 0; number < flows; number++) {
        lost += live(g, number, now);
        if (number % FLOWS_PER_S == 0)
            wait(g, mirror, &now, 1);
        if (number == flows / 10)
            early = resident_kib();
    }
    CHECK(1, lost, 0);
    CHECK(2, g->counters.flows_created, flows);
    printf("%llu flows; resident %llu KiB after a tenth, %llu KiB after all\n", (unsigned long long)flows,
           (unsigned long long)early, (unsigned long long)resident_kib());
    CHECK(3, resident_kib() <= early + 512, true);
    wait(g, mirror, &now, 500);
    check_nothing_is_left(g, 100);
    check_nothing_is_left(mirror, 200);
    CHECK(4, g->counters.flows_closed, g->counters.flows_created);
    check_every_packet_has_one_fate(g, 0, 5);
    use_all_again(g, mirror, &now);
    check_nothing_is_left(g, 300);
    check_nothing_is_left(mirror, 400);
    hs_gateway_destroy(g);
    hs_gateway_destroy(mirror);
    return hs_check_result();
}
