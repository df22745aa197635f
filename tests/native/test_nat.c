/* Source NAT: the worked example, ranges, service ports, pooling. */
#include "nat_bed.h"

/* A seed under which the example's hash chooses the wanted port. */
static struct hs_seed seed_that_prefers(const struct hs_tuple *t, const struct hs_nat_rule *rule,
                                        uint16_t port)
{
    struct hs_seed seed = {1, 2};

    for (;; seed.k0++) {
        uint64_t hash = hs_siphash(seed, t, sizeof *t);

        if (rule->port_first + hs_nat_preferred_place((uint32_t)(hash >> 32),
                                                      rule->port_last - rule->port_first + 1u) == port)
            return seed;
    }
}

static void check_worked_example(void)
{
    struct hs_tuple original = tuple("10.0.1.7", 51515, "8.8.8.8", 53, HS_UDP), reply;
    struct hs_nat_rule rule = rule_for("203.0.113.5", 40000, 40999);
    uint32_t probes;

    set_up(seed_that_prefers(&original, &rule, 40002));
    watch(&rule);
    CHECK(1, allocate(&rule, &original, &reply, &probes), true);
    CHECK(2, ntohs(reply.dst_port), 40002);
    for (uint16_t port = 40002; port <= 40003; port++)
        add(tuple("10.0.1.8", port, "8.8.8.8", 53, HS_UDP),
            tuple("8.8.8.8", 53, "203.0.113.5", port, HS_UDP));
    CHECK(3, allocate(&rule, &original, &reply, &probes), true);
    CHECK(4, ntohs(reply.dst_port), 40004);
    CHECK(5, reply.dst_addr, hs_ip("203.0.113.5"));
    CHECK(6, reply.src_addr, hs_ip("8.8.8.8"));
    CHECK(7, ntohs(reply.src_port), 53);
    CHECK(8, probes, 3);
    add(original, reply);
    CHECK(9, hs_flow_table_find(table, &original).direction, HS_ORIGINAL);
    CHECK(10, hs_flow_table_find(table, &reply).direction, HS_REPLY);
    CHECK(11, hs_flow_table_find(table, &reply).flow == hs_flow_table_find(table, &original).flow, true);
    /* Another destination may use a port that is taken: the reply tuple is what must be unique. */
    original = tuple("10.0.1.7", 51515, "8.8.4.4", 53, HS_UDP);
    CHECK(12, allocate(&rule, &original, &reply, &probes), true);
    CHECK(13, probes, 1);
    tear_down();
}

/* Flows to one server until no port is left: all different, all in the range, then a refusal, then a freed one. */
static void check_exhaustion(uint8_t proto, uint16_t first, uint16_t last, uint32_t publics)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", first, last);
    uint32_t size = (uint32_t)(last - first + 1) * publics, probes, freed = 0;
    struct hs_tuple original, reply;
    uint8_t *seen = calloc(65536 * 4, 1);

    set_up((struct hs_seed){11, 12});
    for (uint32_t i = 0; i < publics; i++)
        rule.publics[i] = htonl(ntohl(hs_ip("203.0.113.5")) + i);
    rule.public_count = publics;
    watch(&rule);
    for (uint32_t i = 0; i < size; i++) {
        uint16_t port;
        uint32_t public;

        original = tuple("10.0.1.7", (uint16_t)(i % 60000 + 1), "8.8.8.8",
                         proto == HS_ICMP ? 0 : (uint16_t)53, proto);
        CHECK(i, allocate(&rule, &original, &reply, &probes), true);
        port = ntohs(proto == HS_ICMP ? reply.src_port : reply.dst_port);
        public = ntohl(reply.dst_addr) - ntohl(hs_ip("203.0.113.5"));
        CHECK(i, port >= first && port <= last && public < publics, true);
        CHECK(i, seen[public * 65536 + port]++, 0);
        freed = add(original, reply);
    }
    original = tuple("10.0.1.9", 9, "8.8.8.8", proto == HS_ICMP ? 0 : 53, proto);
    CHECK(1, allocate(&rule, &original, &reply, &probes), false);
    remove_flow(freed);
    CHECK(3, allocate(&rule, &original, &reply, &probes), true);
    CHECK(4, hs_flow_table_find(table, &reply).flow == NULL, true);
    free(seen);
    tear_down();
}

static void check_service_ports(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 80, 81);
    struct hs_tuple original = tuple("10.0.1.7", 5, "8.8.8.8", 53, HS_TCP), reply;
    uint32_t probes;

    set_up((struct hs_seed){3, 4});
    rules->service_count = 1;
    rules->services[0] =
        (struct hs_service){.vip = hs_ip("203.0.113.5"), .port = htons(80), .proto = HS_TCP};
    watch(&rule);
    for (uint16_t sport = 1; sport < 50; sport++) {
        original.src_port = htons(sport);
        CHECK(sport, allocate(&rule, &original, &reply, &probes), true);
        CHECK(sport, ntohs(reply.dst_port), 81); /* 80 is where web listens */
    }
    original.proto = HS_UDP; /* web is TCP only: 80/udp may be given out */
    rule.port_last = 80;
    CHECK(1, allocate(&rule, &original, &reply, &probes), true);
    original.proto = HS_TCP;
    CHECK(2, allocate(&rule, &original, &reply, &probes), false);
    CHECK(3, probes, 0);
    tear_down();
}

static void check_preferred_places(void)
{
    CHECK(1, hs_nat_preferred_place(0, 64512), 0);
    CHECK(2, hs_nat_preferred_place(UINT32_MAX, 64512), 64511); /* the last is reachable */
    CHECK(3, hs_nat_preferred_place(UINT32_MAX, 1), 0);
    CHECK(4, hs_nat_preferred_place(UINT32_MAX / 2 + 1, 2), 1);
    CHECK(5, hs_nat_preferred_place(UINT32_MAX / 2, 2), 0);
}

/* N2: range, classes, parity and reserved ports; every eligible port is given out. */
static void check_eligible(void)
{
    static const struct {
        uint16_t first, last;
        bool classes, parity;
        uint8_t proto;
        uint16_t port;
        uint32_t want_first, want_step, want_count;
    } cases[] = {
        {1024, 65535, false, false, HS_UDP, 80, 1024, 1, 64512},
        {1024, 65535, true, false, HS_UDP, 80, 1024, 1, 64512}, /* no low port: the range as it is */
        {1, 65535, true, false, HS_UDP, 80, 1, 1, 1023},
        {1, 65535, true, false, HS_TCP, 1023, 1, 1, 1023},
        {1, 65535, true, false, HS_TCP, 1024, 1024, 1, 64512},
        {1, 65535, true, false, HS_ICMP, 80, 1, 1, 65535},
        {1, 65535, false, false, HS_TCP, 80, 1, 1, 65535},
        {100, 900, true, false, HS_TCP, 5000, 100, 1, 801},
        {1024, 65535, false, true, HS_UDP, 5000, 1024, 2, 32256},
        {1024, 65535, false, true, HS_UDP, 5001, 1025, 2, 32256},
        {1024, 65534, false, true, HS_UDP, 5001, 1025, 2, 32255},
        {1024, 65535, false, true, HS_TCP, 5001, 1024, 1, 64512}, /* RTP's business is UDP's */
        {7, 7, false, true, HS_UDP, 8, 7, 1, 1},
        {7, 8, false, true, HS_UDP, 8, 8, 2, 1},
        {1, 65535, true, true, HS_UDP, 81, 1, 2, 512},
    };

    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hs_nat_rule rule = rule_for("203.0.113.5", cases[i].first, cases[i].last);
        struct hs_eligible got;

        rule.port_classes = cases[i].classes;
        rule.preserve_parity = cases[i].parity;
        got = hs_nat_eligible(&rule, cases[i].proto, cases[i].port);
        CHECK(i, got.first, cases[i].want_first);
        CHECK(i, got.step, cases[i].want_step);
        CHECK(i, got.count, cases[i].want_count);
    }
}

static void check_parity_to_exhaustion(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 40000, 40199);
    struct hs_tuple original, reply;
    uint32_t probes;

    rule.preserve_parity = true;
    rule.reserved[0] = (struct hs_port_range){40010, 40019};
    rule.reserved_count = 1;
    set_up((struct hs_seed){9, 5});
    watch(&rule);
    for (uint16_t i = 0; i < 95; i++) {
        original = tuple("10.0.1.7", (uint16_t)(2 * i + 1), "8.8.8.8", 53, HS_UDP);
        CHECK(i, allocate(&rule, &original, &reply, &probes), true);
        CHECK(i, ntohs(reply.dst_port) % 2, 1);
        CHECK(i, ntohs(reply.dst_port) < 40010 || ntohs(reply.dst_port) > 40019, true);
        add(original, reply);
    }
    original.src_port = htons(999);
    CHECK(1, allocate(&rule, &original, &reply, &probes), false);
    original.src_port = htons(998);
    CHECK(2, allocate(&rule, &original, &reply, &probes), true); /* the even ones are all there */
    tear_down();
}

/* A host keeps its public address while that has ports (RFC 4787 REQ-2). */
static void check_pooling(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 65535);
    struct hs_tuple original, reply;
    uint32_t probes, address = 0, others = 0;

    set_up((struct hs_seed){5, 6});
    for (uint32_t i = 0; i < 4; i++)
        rule.publics[i] = htonl(ntohl(hs_ip("203.0.113.5")) + i);
    rule.public_count = 4;
    watch(&rule);
    for (uint16_t i = 1; i <= 100; i++) {
        original = tuple("10.0.1.7", i, "8.8.8.8", (uint16_t)(i % 7 + 1), HS_TCP);
        allocate(&rule, &original, &reply, &probes);
        CHECK(i, address == 0 || address == reply.dst_addr, true);
        address = reply.dst_addr;
        original.src_addr = htonl(ntohl(hs_ip("10.0.2.0")) + i);
        allocate(&rule, &original, &reply, &probes);
        others += reply.dst_addr != address;
    }
    CHECK(1, others > 50 && others < 95, true); /* hosts spread over all four */
    tear_down();
}

int main(void)
{
    check_worked_example();
    check_exhaustion(HS_UDP, 40000, 40099, 1);
    check_exhaustion(HS_TCP, 65000, 65535, 1);
    check_exhaustion(HS_TCP, 65024, 65535, 2);
    check_exhaustion(HS_TCP, 1, 50, 4);
    check_exhaustion(HS_ICMP, 1024, 1123, 1);
    check_service_ports();
    check_preferred_places();
    check_eligible();
    check_parity_to_exhaustion();
    check_pooling();
    return hs_check_result();
}
