/* The gateway as a whole, where Python cannot reach: offload headers, batches that leave later, moments to the
 * nanosecond. Everything else about it is in test_engine.py, test_commit.py and test_interior.py. */
#include "core/gateway.h"

#include "core/checksum.h"

#include "check.h"

enum { SENT_MAX = 64, ROOM = HS_FRAME_MAX + 64 };

static const uint64_t now = 1000000000000u, ms = 1000000;

static struct {
    int side;
    struct hs_vnet vnet;
    uint8_t *frame;
    uint32_t length;
} sent[SENT_MAX];
static uint32_t sent_count;

static void take(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context;
    sent[sent_count % SENT_MAX].side = side;
    sent[sent_count % SENT_MAX].vnet = *vnet;
    sent[sent_count % SENT_MAX].frame = frame;
    sent[sent_count++ % SENT_MAX].length = length;
}

static void add_neighbour(struct hs_gateway *g, int side, const char *address)
{
    struct hs_neighbour *n = hs_next_hops_neighbour(&g->hops, side, hs_ip(address));

    n->known = true;
    memset(n->mac, 0x40 + side, 6);
}

/* NAT for 10.0.1.0/24 behind 203.0.113.5; MTU 1500 on both sides. */
static struct hs_gateway *set_up(uint32_t capacity)
{
    struct hs_gateway *g = hs_gateway_create((struct hs_seed){1, 2},
                                             (struct hs_gateway_limits){capacity, 1024, 16, 1 << 20, NULL},
                                             (struct hs_output){take, NULL});
    const struct hs_route routes[] = {
        {hs_ip("10.0.1.0"), hs_ip("255.255.255.0"), 0, HS_INSIDE},
        {0, 0, hs_ip("203.0.113.254"), HS_OUTSIDE},
    };

    hs_next_hops_set_routes(&g->hops, routes, 2);
    add_neighbour(g, HS_INSIDE, "10.0.1.7");
    add_neighbour(g, HS_OUTSIDE, "203.0.113.254");
    g->ports[0].mtu = g->ports[1].mtu = 1500;
    g->rules.vips[0] = (struct hs_vip){hs_ip("203.0.113.5"), HS_OUTSIDE};
    g->rules.vip_count = 1;
    g->rules.nat[0] = (struct hs_nat_rule){
        .sources = {1, {{hs_ip("10.0.1.0"), hs_ip("255.255.255.0")}}},
        .publics = {hs_ip("203.0.113.5")}, .public_count = 1, .port_first = 1024, .port_last = 65535};
    g->rules.nat_count = 1;
    CHECK(1, hs_gateway_nat_changed(g), true);
    g->lease_until_ns = UINT64_MAX;
    hs_gateway_arm(g, now);
    sent_count = 0;
    return g;
}

/* A TCP or UDP frame 10.0.1.7:sport -> 8.8.8.8:443 of `total` bytes of IP, with a partial checksum. */
static uint8_t *make_frame(uint8_t proto, uint16_t sport, uint8_t flags, uint32_t total)
{
    uint8_t *frame = calloc(ROOM, 1);
    struct hs_ipv4 *ip = (struct hs_ipv4 *)(frame + 14);
    uint8_t *l4 = frame + 34;
    uint16_t ports[2] = {htons(sport), htons(443)}, length = htons((uint16_t)(total - 20)), sum;
    uint32_t addresses[2] = {hs_ip("10.0.1.7"), hs_ip("8.8.8.8")};
    uint8_t pseudo[12] = {0};

    frame[12] = 8;
    *ip = (struct hs_ipv4){.version_ihl = 0x45, .total_length = htons((uint16_t)total),
                           .fragment = htons(0x4000), .ttl = 64, .proto = proto,
                           .src_addr = addresses[0], .dst_addr = addresses[1]};
    ip->checksum = (uint16_t)~hs_checksum_sum(ip, 20);
    memcpy(l4, ports, 4);
    memcpy(pseudo, addresses, 8);
    pseudo[9] = proto;
    memcpy(pseudo + 10, &length, 2);
    sum = hs_checksum_sum(pseudo, 12);
    if (proto == HS_TCP) {
        l4[12] = 0x50;
        l4[13] = flags;
        memcpy(l4 + 16, &sum, 2);
    } else {
        memcpy(l4 + 4, &length, 2);
        memcpy(l4 + 6, &sum, 2);
    }
    return frame;
}

static uint32_t receive(struct hs_gateway *g, uint8_t *frame, struct hs_vnet vnet, uint64_t at)
{
    uint32_t before = sent_count;

    hs_gateway_receive(g, HS_INSIDE, &vnet, frame,
                       14u + ntohs(((struct hs_ipv4 *)(frame + 14))->total_length), at);
    return sent_count - before;
}

/* Whole GSO packets pass by the size of their pieces, and their header goes on as it came (but for "verified"). */
static void check_offloads(void)
{
    static const struct {
        int number;
        uint8_t proto, gso_type;
        uint32_t total;
        uint16_t gso_size;
        uint32_t leaves;
    } cases[] = {
        {1, HS_TCP, 1, 65535, 1460, 1}, {2, HS_TCP, 1, 65535, 1461, 0},    {3, HS_TCP, 0, 1500, 0, 1},
        {4, HS_TCP, 0, 1501, 0, 0},     {5, HS_UDP, 5, 30000, 1472, 1},    {6, HS_UDP, 5, 30000, 1473, 0},
        {7, HS_TCP, 0x81, 9000, 1000, 1}, /* with ECN */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hs_gateway *g = set_up(64);
        uint8_t *frame = make_frame(cases[i].proto, 5, HS_SYN, cases[i].total);
        struct hs_vnet vnet = {.flags = HS_VNET_NEEDS_CSUM, .gso_type = cases[i].gso_type,
                               .hdr_len = 54, .gso_size = cases[i].gso_size, .csum_start = 34,
                               .csum_offset = cases[i].proto == HS_TCP ? 16 : 6};

        receive(g, frame, vnet, now);
        CHECK(cases[i].number, sent_count, 1);
        CHECK(cases[i].number, sent[0].side, cases[i].leaves ? HS_OUTSIDE : HS_INSIDE);
        CHECK(cases[i].number, g->counters.fragmentation_needed_sent, !cases[i].leaves);
        if (cases[i].leaves) {
            CHECK(cases[i].number, memcmp(&sent[0].vnet, &vnet, sizeof vnet), 0);
            CHECK(cases[i].number, sent[0].length, 14 + cases[i].total);
        } else {
            CHECK(cases[i].number, sent[0].vnet.flags | sent[0].vnet.gso_type, 0);
            CHECK(cases[i].number, sent[0].length, 14 + 576);
            CHECK(cases[i].number, hs_checksum_sum(frame + 14, 20), 0xffff);
            CHECK(cases[i].number, hs_checksum_sum(frame + 34, 556), 0xffff);
        }
        free(frame);
        hs_gateway_destroy(g);
    }
}

static void check_verified_flag(void)
{
    struct hs_gateway *g = set_up(64);
    uint8_t *frame = make_frame(HS_UDP, 5, 0, 100);

    receive(g, frame, (struct hs_vnet){.flags = HS_VNET_DATA_VALID}, now);
    CHECK(1, sent[0].vnet.flags, 0);
    free(frame);
    hs_gateway_destroy(g);
}

/* The lease is a moment: one nanosecond before it a packet passes, at it none. */
static void check_lease(void)
{
    struct hs_gateway *g = set_up(64);
    uint8_t *frame = make_frame(HS_UDP, 5, 0, 100), *second = make_frame(HS_UDP, 5, 0, 100);
    uint8_t *third = make_frame(HS_UDP, 5, 0, 100);

    g->lease_until_ns = now;
    CHECK(1, receive(g, frame, (struct hs_vnet){0}, now - 1), 1);
    CHECK(2, receive(g, second, (struct hs_vnet){0}, now), 0);
    CHECK(3, g->counters.drop_no_lease, 1);
    hs_gateway_disarm(g);
    CHECK(4, receive(g, third, (struct hs_vnet){0}, 0), 0);
    free(frame);
    free(second);
    free(third);
    hs_gateway_destroy(g);
}

/* A held frame is a copy: the receive buffer may be used again before it leaves. Offload headers are kept too. */
static void check_held_frames(void)
{
    struct hs_gateway *g = set_up(64);
    struct hs_vnet vnet = {.flags = HS_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
    uint8_t *frames[3], out[1024];
    uint32_t count;

    hs_gateway_set_commit(g, HS_COMMIT_ACK, 50 * ms, false, now);
    for (uint16_t i = 0; i < 3; i++) {
        frames[i] = make_frame(HS_UDP, (uint16_t)(5 + i), 0, 100);
        memset(frames[i] + 60, i + 1, 40);
        CHECK(i, receive(g, frames[i], vnet, now + i * ms), 0);
        memset(frames[i], 0xee, ROOM);
        free(frames[i]);
    }
    hs_delta_log_drain(&g->log, out, sizeof out, &count);
    hs_gateway_acknowledge(g, 2);
    CHECK(1, hs_gateway_release(g, now), 2);
    CHECK(2, sent_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(i, sent[i].frame[60], i + 1);
        CHECK(i, memcmp(&sent[i].vnet, &vnet, sizeof vnet), 0);
    }
    /* The third: not a nanosecond before its time. */
    hs_gateway_tick(g, now + 52 * ms - 1);
    CHECK(3, g->counters.fail_closed_dropped, 0);
    hs_gateway_tick(g, now + 52 * ms);
    CHECK(4, g->counters.fail_closed_dropped, 1);
    CHECK(5, sent_count, 2);
    hs_gateway_destroy(g);
}

/* Frames wait for two neighbours; one becomes known; the other's go on waiting and in the end are dropped. */
static void check_unresolved(void)
{
    struct hs_gateway *g = set_up(2048);
    const struct hs_route routes[] = {
        {hs_ip("10.0.1.0"), hs_ip("255.255.255.0"), 0, HS_INSIDE},
        {hs_ip("8.8.8.8"), UINT32_MAX, hs_ip("203.0.113.8"), HS_OUTSIDE},
    };

    hs_next_hops_set_routes(&g->hops, routes, 2);
    for (uint16_t i = 0; i < HS_UNRESOLVED_PACKETS + 76; i++) {
        uint8_t *frame = make_frame(HS_UDP, (uint16_t)(1000 + i), 0, 28u + i);

        CHECK(i, receive(g, frame, (struct hs_vnet){0}, now + i * ms / 4), 0);
        free(frame);
    }
    CHECK(1, g->unresolved.count, HS_UNRESOLVED_PACKETS); /* bounded */
    CHECK(2, g->counters.drop_unresolved, 76);
    for (uint64_t t = 0; t < 50; t++)
        hs_gateway_tick(g, now + (300 + t) * ms);
    CHECK(3, g->unresolved.count, HS_UNRESOLVED_PACKETS);
    hs_gateway_tick(g, now + 1009 * ms);
    CHECK(4, g->unresolved.count, HS_UNRESOLVED_PACKETS - 37);
    add_neighbour(g, HS_OUTSIDE, "203.0.113.8");
    hs_gateway_retry_unresolved(g, now + 1009 * ms);
    CHECK(5, sent_count, HS_UNRESOLVED_PACKETS - 37);
    CHECK(6, g->unresolved.count, 0);
    CHECK(7, g->counters.drop_unresolved, 76 + 37);
    hs_gateway_destroy(g);
}

/* A version's old life is remembered through its wrap: what was deleted does not come back. */
static void check_version_zero(void)
{
    struct hs_gateway *g = set_up(16);
    uint8_t add[32] = {0}, del[12] = {0}, bytes[64];
    uint32_t length = hs_hex("01 01 04 00 00000001 ffff 012c 0a000107 08080808 c93b 0035 cb007105 9c44 0000", bytes, 64);
    enum hs_rejection rejection;

    memcpy(add, bytes, length);
    hs_hex("03 00 00 00 00000001 ffff 0000", del, sizeof del);
    CHECK(1, hs_gateway_install(g, add, 32, now, &rejection), 1); /* a slot never used takes any version */
    add[8] = add[9] = 0;
    del[8] = del[9] = 0;
    CHECK(2, hs_gateway_install(g, add, 32, now, &rejection), 1); /* 0 follows 65,535 */
    CHECK(3, hs_gateway_install(g, del, 12, now, &rejection), 1);
    CHECK(4, hs_gateway_install(g, add, 32, now, &rejection), 0);
    CHECK(5, rejection, HS_STALE_VERSION);
    hs_gateway_begin_sync(g, NULL); /* but the word of a full sync is whole */
    CHECK(6, hs_gateway_install(g, add, 32, now, &rejection), 1);
    CHECK(7, hs_gateway_end_sync(g), 0);
    hs_gateway_destroy(g);
}

/* An ARP announcement of the outside VIP by another node. */
static void announce_elsewhere(struct hs_gateway *g, int side, uint8_t mac, uint64_t at)
{
    uint8_t arp[42] = {0};
    struct hs_vnet vnet = {0};

    arp[12] = 8;
    arp[13] = 6;
    memset(arp + 22, mac, 6);
    memcpy(arp + 28, &g->rules.vips[0].address, 4);
    hs_gateway_receive(g, side, &vnet, arp, sizeof arp, at);
}

/* After a hand-over frames for the pair wait for the new owner and go on to it; others are nobody's. */
static void check_relay(void)
{
    struct hs_gateway *g = set_up(64);
    uint8_t *frame = make_frame(HS_UDP, 5, 0, 100), *second = make_frame(HS_UDP, 6, 0, 100);
    uint8_t *foreign = make_frame(HS_UDP, 7, 0, 100), untouched[114];
    uint32_t stranger = hs_ip("192.0.2.9");
    struct hs_vnet vnet = {0};

    g->rules.vips[g->rules.vip_count++] = (struct hs_vip){hs_ip("203.0.113.5"), HS_INSIDE};
    memcpy(foreign + 26, &stranger, 4); /* from no NAT source: the machine's own, say */
    memcpy(untouched, frame, sizeof untouched);
    hs_gateway_hand_over(g, now + 1000 * ms);
    CHECK(1, receive(g, frame, vnet, now), 0);
    CHECK(2, g->held[HS_INSIDE].count, 1);
    CHECK(3, receive(g, foreign, vnet, now), 0);
    CHECK(4, g->counters.drop_no_lease, 1);
    announce_elsewhere(g, HS_OUTSIDE, 0x77, now); /* the other LAN: says nothing about this one */
    CHECK(5, sent_count, 0);
    announce_elsewhere(g, HS_INSIDE, 0x77, now);
    CHECK(6, sent_count, 1);
    CHECK(7, sent[0].side, HS_INSIDE);
    CHECK(8, sent[0].frame[0] == 0x77 && sent[0].frame[5] == 0x77, 1);
    CHECK(9, memcmp(sent[0].frame + 12, untouched + 12, sizeof untouched - 12), 0);
    CHECK(10, receive(g, second, vnet, now + 999 * ms), 1);
    CHECK(11, receive(g, second, vnet, now + 1000 * ms), 0); /* a second is enough */
    CHECK(12, g->counters.relayed_packets, 2);
    hs_gateway_arm(g, now + 1000 * ms);
    CHECK(13, g->relay_until_ns, 0);
    hs_gateway_destroy(g);
    free(frame);
    free(second);
    free(foreign);
}

int main(void)
{
    check_offloads();
    check_verified_flag();
    check_lease();
    check_held_frames();
    check_unresolved();
    check_version_zero();
    check_relay();
    return hs_check_result();
}
