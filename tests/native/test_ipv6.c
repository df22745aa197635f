/* IPv6 where Python cannot reach: addresses that share a fold, offload headers, the digest byte by byte, and that a
 * table of IPv4 flows does not pay. Everything else is in test_ipv6_*.py, test_ndp.py and test_icmp6.py. */
#include "core/gateway.h"

#include "core/checksum.h"

#include "check.h"
#include "one_backend.h"

enum { ROOM = HS_FRAME_MAX + 64 };

static const uint64_t now = 1000000000000u;
static const struct hs_seed seed = {1, 2};

static struct hs_address6 ip6(const char *text)
{
    struct hs_address6 address;

    if (inet_pton(AF_INET6, text, &address) != 1)
        abort();
    return address;
}

static void check_addresses(void)
{
    static const struct {
        int number;
        const char *address;
        bool forwardable;
    } cases[] = {
        {1, "::", false},          {2, "::1", false},          {3, "::2", false},      {4, "::ffff:1.2.3.4", false},
        {5, "fe80::1", false},     {6, "febf:ffff::", false},  {7, "fec0::1", true},   {8, "ff02::1", false},
        {9, "ffff::", false},      {10, "2001:db8::1", true},  {11, "fd00::1", true},  {12, "64:ff9b::808:808", true},
        {13, "::fffe:1:2", true},  {14, "::1:0:0:0", true},    {15, "fe7f::1", true},  {16, "1::", true},
    };
    struct hs_prefix6 prefix = {ip6("2001:db8:ff::"), hs_address6_mask(41)};
    struct hs_address6 low = ip6("2001:db8:ff::1"), high = ip6("2001:db8:80:1::"), other = ip6("2001:db8:7f::1");

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hs_address6 address = ip6(cases[i].address);

        CHECK(cases[i].number, hs_address6_is_forwardable(&address), cases[i].forwardable);
    }
    hs_address6_apply_mask(&prefix.address, &prefix.mask);
    CHECK(20, hs_prefix6_covers(&prefix, &low), true);
    CHECK(21, hs_prefix6_covers(&prefix, &high), true);
    CHECK(22, hs_prefix6_covers(&prefix, &other), false);
    for (uint32_t length = 0; length <= 128; length++) {
        struct hs_address6 mask = hs_address6_mask(length);
        uint32_t bits = 0;

        for (int i = 0; i < 16; i++)
            bits += (uint32_t)__builtin_popcount(mask.bytes[i]);
        CHECK(length, bits, length);
    }
    CHECK(23, hs_address6_fold(seed, &low) != hs_address6_fold((struct hs_seed){1, 3}, &low), true);
}

/* Two flows whose tuples are the same, for all that 32 bits can tell: each is found by its own addresses. */
static void check_shared_folds(void)
{
    struct hs_flow_table *t = hs_flow_table_create(64, seed);
    struct hs_ends6 ends[2] = {{ip6("2001:db8::1"), ip6("2001:db8::2")}, {ip6("2001:db8::3"), ip6("2001:db8::2")}};
    struct hs_ends6 third = {ip6("2001:db8::4"), ip6("2001:db8::2")}, back[2];
    struct hs_tuple tuple[2] = {hs_tuple6(seed, &ends[0], 1, 2, HS_TCP)};
    struct hs_flow *flows[2];

    tuple[1] = hs_tuple_invert(&tuple[0]);
    CHECK(1, hs_ends6_reserve(t), true);
    for (int i = 0; i < 2; i++) {
        flows[i] = hs_flow_table_add(t, tuple, 1, 0, 1000);
        hs_flow_set_ends6(t, flows[i], &ends[i], &ends[i].dst);
        back[i] = hs_ends6_invert(&ends[i]);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(2 + i, hs_flow_table_find6(t, &tuple[0], &ends[i]).flow == flows[i], true);
        CHECK(4 + i, hs_flow_table_find6(t, &tuple[1], &back[i]).flow == flows[i], true);
        CHECK(6 + i, hs_flow_table_find6(t, &tuple[1], &back[i]).direction, HS_REPLY);
    }
    CHECK(8, hs_flow_table_find6(t, &tuple[0], &third).flow == NULL, true);
    CHECK(9, hs_flow_digest(t, flows[0]) != hs_flow_digest(t, flows[1]), true);
    hs_flow_table_remove(t, flows[0]);
    CHECK(10, hs_flow_table_find6(t, &tuple[0], &ends[0]).flow == NULL, true);
    CHECK(11, hs_flow_table_find6(t, &tuple[0], &ends[1]).flow == flows[1], true);
    hs_flow_table_remove(t, flows[1]);
    CHECK(12, t->digest, 0);
    hs_flow_table_destroy(t);
}

/* proto/sync.md §8, written out. */
static void check_digest(void)
{
    struct hs_flow_table *t = hs_flow_table_create(64, seed);
    struct hs_ends6 ends = {ip6("2001:db8:1::7"), ip6("2001:db8:2::5")}, out = {ends.src, ip6("2001:db8:1::21")};
    struct hs_tuple tuple[2] = {hs_tuple6(seed, &ends, htons(40000), htons(80), HS_TCP)}, onward;
    struct hs_flow *flow;
    uint8_t bytes[96];

    hs_ends6_reserve(t);
    onward = hs_tuple6(seed, &out, htons(40000), htons(8080), HS_TCP);
    tuple[1] = hs_tuple_invert(&onward);
    flow = hs_flow_table_add_at(t, 3, 0x102, tuple, 3, HS_FLOW_DNAT | HS_FLOW_BOTH_SEEN | HS_FLOW_AT_RISK, 1000);
    hs_flow_set_ends6(t, flow, &ends, &out.dst);
    CHECK(1, hs_hex("20010db8000100000000000000000007 20010db8000200000000000000000005 9c40 0050 06 000003"
                    "20010db8000100000000000000000021 20010db8000100000000000000000007 1f90 9c40 03 03 0102",
                    bytes, sizeof bytes), 80);
    CHECK(2, t->digest, hs_siphash(seed, bytes, 80));
    hs_flow_set_state(t, flow, 4, flow->flags);
    bytes[76] = 4;
    CHECK(3, t->digest, hs_siphash(seed, bytes, 80));
    hs_flow_table_destroy(t);
}

static struct {
    struct hs_vnet vnet;
    uint32_t length;
    int side;
} sent;

static void take(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)frame;
    sent.vnet = *vnet;
    sent.length = length;
    sent.side = side;
}

/* A service at 2001:db8:2::5, TCP port 80 and UDP port 80, one backend 2001:db8:1::21; MTU 1500 on both sides. */
static struct hs_gateway *set_up(void)
{
    struct hs_gateway *g = hs_gateway_create(seed, (struct hs_gateway_limits){.capacity = 64, .log_records = 64,
                                                                              .held_packets = 8, .held_bytes = 1 << 20},
                                             (struct hs_output){take, NULL});
    const struct hs_route6 routes[] = {
        {{ip6("2001:db8:1::"), hs_address6_mask(64)}, {{0}}, 64, HS_INSIDE},
        {{{{0}}, {{0}}}, ip6("fe80::1"), 0, HS_OUTSIDE},
    };
    struct hs_backend backend = {
        .server_id = 1, .address6 = ip6("2001:db8:1::21"), .port = htons(8080), .weight = 1};

    hs_next_hops6_set_routes(&g->hops6, routes, 2);
    hs_next_hops6_neighbour(&g->hops6, HS_INSIDE, &backend.address6)->known = true;
    hs_next_hops6_neighbour(&g->hops6, HS_OUTSIDE, &routes[1].gateway)->known = true;
    g->ports[0].mtu = g->ports[1].mtu = 1500;
    for (uint32_t i = 0; i < 2; i++) {
        struct hs_service *service = &g->rules.services[i];

        hs_serve_one(service, (struct hs_service){.family = HS_IPV6, .vip6 = ip6("2001:db8:2::5"), .port = htons(80),
                                                  .proto = i ? HS_UDP : HS_TCP, .allow6 = {1, {{{{0}}, {{0}}}}}},
                     &backend);
        g->rules.service_count++;
    }
    CHECK(0, hs_ends6_reserve(g->table), true);
    g->lease_until_ns = UINT64_MAX;
    hs_gateway_arm(g, now);
    memset(&sent, 0, sizeof sent);
    return g;
}

static uint16_t pseudo_sum(const struct hs_ipv6 *ip, uint8_t proto)
{
    uint64_t sum = hs_checksum_sum(&ip->ends, 32);

    return hs_checksum_fold(sum + ip->payload_length + (uint32_t)htons(proto));
}

/* TCP or UDP 2001:db8:5::9 -> 2001:db8:2::5 port 80 of `total` bytes of IP, with a partial checksum. */
static uint8_t *make_frame(uint8_t proto, uint32_t total)
{
    uint8_t *frame = calloc(ROOM, 1), *l4 = frame + 54;
    struct hs_ipv6 *ip = (struct hs_ipv6 *)(frame + 14);
    uint16_t ports[2] = {htons(5000), htons(80)}, sum;

    frame[12] = 0x86;
    frame[13] = 0xdd;
    *ip = (struct hs_ipv6){.version_class_label = htonl(6u << 28), .payload_length = htons((uint16_t)(total - 40)),
                           .next_header = proto, .hop_limit = 64, .ends = {ip6("2001:db8:5::9"), ip6("2001:db8:2::5")}};
    memcpy(l4, ports, 4);
    sum = pseudo_sum(ip, proto);
    if (proto == HS_TCP) {
        l4[12] = 0x50;
        l4[13] = HS_SYN;
        memcpy(l4 + 16, &sum, 2);
    } else {
        memcpy(l4 + 4, &ip->payload_length, 2);
        memcpy(l4 + 6, &sum, 2);
    }
    return frame;
}

/* Whole GSO packets pass by the size of their pieces, their header as it came, their checksum still partial. */
static void check_offloads(void)
{
    static const struct {
        int number;
        uint8_t proto, gso_type;
        uint32_t total;
        uint16_t gso_size;
        bool leaves;
    } cases[] = {
        {1, HS_TCP, 4, 65575, 1440, true},  {2, HS_TCP, 4, 65575, 1441, false}, {3, HS_TCP, 0, 1500, 0, true},
        {4, HS_TCP, 0, 1501, 0, false},     {5, HS_UDP, 5, 30000, 1452, true},  {6, HS_UDP, 5, 30000, 1453, false},
        {7, HS_TCP, 0x84, 9000, 1000, true}, /* with ECN */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hs_gateway *g = set_up();
        uint8_t *frame = make_frame(cases[i].proto, cases[i].total);
        struct hs_ipv6 *ip = (struct hs_ipv6 *)(frame + 14);
        uint32_t at = cases[i].proto == HS_TCP ? 16 : 6;
        struct hs_vnet vnet = {.flags = HS_VNET_NEEDS_CSUM, .gso_type = cases[i].gso_type, .hdr_len = 74,
                               .gso_size = cases[i].gso_size, .csum_start = 54, .csum_offset = (uint16_t)at};
        uint16_t sum;

        hs_gateway_receive(g, HS_OUTSIDE, &vnet, frame, 14 + cases[i].total, now);
        CHECK(cases[i].number, sent.side, cases[i].leaves ? HS_INSIDE : HS_OUTSIDE);
        CHECK(cases[i].number, g->counters.packet_too_big_sent, !cases[i].leaves);
        if (cases[i].leaves) {
            struct hs_address6 backend = ip6("2001:db8:1::21");

            CHECK(cases[i].number, memcmp(&sent.vnet, &vnet, sizeof vnet), 0);
            CHECK(cases[i].number, sent.length, 14 + cases[i].total);
            CHECK(cases[i].number, hs_address6_equal(&ip->ends.dst, &backend), true);
            memcpy(&sum, frame + 54 + at, 2);
            CHECK(cases[i].number, sum, pseudo_sum(ip, cases[i].proto));
        } else {
            CHECK(cases[i].number, sent.vnet.flags | sent.vnet.gso_type, 0);
            CHECK(cases[i].number, sent.length, 14 + 1280);
            CHECK(cases[i].number, hs_icmp6_sum(&ip->ends, frame + 54, 1240), 0xffff);
        }
        free(frame);
        hs_gateway_destroy(g);
    }
}

/* The mirror of neighbours: by side, bounded, and what nobody needs makes room. */
static void check_neighbours(void)
{
    struct hs_next_hops6 *hops = calloc(1, sizeof *hops);
    struct hs_address6 router = ip6("fe80::1"), nobody = {{0}};
    struct hs_neighbour *inside, *outside;
    uint32_t refused = 0;

    hops->seed = seed;
    inside = hs_next_hops6_neighbour(hops, HS_INSIDE, &router);
    outside = hs_next_hops6_neighbour(hops, HS_OUTSIDE, &router);
    CHECK(1, inside != outside, true);
    CHECK(2, hs_next_hops6_neighbour(hops, HS_INSIDE, &nobody) == NULL, true);
    inside->known = true;
    CHECK(3, hs_next_hops6_resolve(hops, HS_OUTSIDE, &router) == NULL && outside->wanted, true);
    outside->wanted = outside->used = false;
    for (uint32_t i = 0; i < 20000; i++) {
        struct hs_address6 scanned = ip6("2001:db8::");

        memcpy(scanned.bytes + 8, &i, 4);
        refused += hs_next_hops6_neighbour(hops, HS_INSIDE, &scanned) == NULL;
    }
    CHECK(4, hops->neighbour_count, HS_NEIGHBOURS * 3 / 4);
    CHECK(5, refused, 20000 - (HS_NEIGHBOURS * 3 / 4 - 2));
    hs_next_hops6_forget_unused(hops);
    CHECK(6, hops->neighbour_count, 1);
    CHECK(7, hs_next_hops6_resolve(hops, HS_INSIDE, &router) != NULL, true);
    free(hops);
}

/* What IPv4 pays: nothing. */
static void check_cost(void)
{
    struct hs_flow_table *t = hs_flow_table_create(1024, seed);

    CHECK(1, sizeof(struct hs_tuple), 16);
    CHECK(2, t->ends6 == NULL, true);
    CHECK(3, hs_ends6_reserve(t) && hs_ends6_reserve(t), true);
    CHECK(4, sizeof *t->ends6, 48);
    hs_flow_table_destroy(t);
}

int main(void)
{
    check_addresses();
    check_shared_folds();
    check_digest();
    check_offloads();
    check_neighbours();
    check_cost();
    return hs_check_result();
}
