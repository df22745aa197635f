/* Source NAT: the worked example, exhaustion, ranges, service ports. */
#include "core/nat.h"


#include "check.h"

static struct hs_flow_table *table;
static struct hs_rules *rules;
static struct hs_nat nat;
static uint64_t now_s = 1000;

static bool allocate(const struct hs_nat_rule *rule, const struct hs_tuple *original,
                     struct hs_tuple *reply, uint32_t *probes)
{
    struct hs_nat_request request = {
        .table = table, .rules = rules, .rule = rule, .original = original, .now_s = now_s};

    return hs_nat_allocate(&nat, &request, reply, probes);
}

static struct hs_tuple tuple(const char *src, uint16_t sport, const char *dst, uint16_t dport,
                             uint8_t proto)
{
    return (struct hs_tuple){.src_addr = hs_ip(src), .dst_addr = hs_ip(dst), .src_port = htons(sport),
                             .dst_port = htons(dport), .proto = proto};
}

static struct hs_nat_rule rule_for(const char *public, uint16_t first, uint16_t last)
{
    return (struct hs_nat_rule){
        .publics = {hs_ip(public)}, .public_count = 1, .port_first = first, .port_last = last};
}

static uint32_t add(struct hs_tuple original, struct hs_tuple reply)
{
    struct hs_tuple both[2] = {original, reply};
    uint8_t flags = original.proto == HS_UDP ? HS_FLOW_UDP : original.proto == HS_ICMP ? HS_FLOW_ICMP : 0;

    hs_port_pool_take(&nat.pool, &reply);
    return hs_flow_slot(table, hs_flow_table_add(table, both, 1, flags, 1000));
}

static void remove_flow(uint32_t slot)
{
    hs_port_pool_release(&nat.pool, &table->flows[slot].tuple[HS_REPLY]);
    hs_flow_table_remove(table, &table->flows[slot]);
}

static void set_up(struct hs_seed seed)
{
    now_s = 1000;
    table = hs_flow_table_create(70000, seed);
    rules = calloc(1, sizeof *rules);
    hs_nat_init(&nat, 70000);
}

static void watch(const struct hs_nat_rule *rule)
{
    rules->nat[0] = *rule;
    rules->nat_count = 1;
    CHECK(1, hs_nat_configure(&nat, rules, table), true);
}

static void tear_down(void)
{
    hs_flow_table_destroy(table);
    hs_rules_free(rules);
    hs_nat_free(&nat);
    free(rules);
}

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

/* Occupies ports of one address towards a server: those of [low, high] but `hole`. */
static void occupy(const char *server, uint16_t port, uint32_t low, uint32_t high, uint32_t hole)
{
    for (uint32_t taken = low; taken <= high; taken++)
        if (taken != hole)
            add(tuple("10.9.9.9", (uint16_t)taken, server, port, HS_TCP),
                tuple(server, port, "203.0.113.5", (uint16_t)taken, HS_TCP));
}

/* N3: one free port among 64,512 in blocks is found, and what that costs does not grow with what is taken. */
static void check_clustered(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 65535);
    struct hs_tuple original = tuple("10.0.1.7", 0, "8.8.8.8", 53, HS_TCP), reply;
    uint32_t probes, most = 0;

    set_up((struct hs_seed){7, 8});
    watch(&rule);
    occupy("8.8.8.8", 53, 1024, 65535, 40001);
    for (uint16_t sport = 1; sport <= 500; sport++) {
        original.src_port = htons(sport);
        CHECK(sport, allocate(&rule, &original, &reply, &probes), true);
        CHECK(sport, ntohs(reply.dst_port), 40001);
        most = probes > most ? probes : most;
    }
    CHECK(1, most <= HS_NAT_PROBES + 1, true);
    CHECK(2, nat.pool.pages_built, 0); /* nobody uses 40001: no page was needed */
    /* Somebody uses it towards another server: now only the page knows that it is free here. */
    add(tuple("10.0.1.8", 1, "9.9.9.9", 53, HS_TCP), tuple("9.9.9.9", 53, "203.0.113.5", 40001, HS_TCP));
    for (uint16_t sport = 1; sport <= 500; sport++) {
        original.src_port = htons(sport);
        CHECK(sport, allocate(&rule, &original, &reply, &probes), true);
        CHECK(sport, ntohs(reply.dst_port), 40001);
        most = probes > most ? probes : most;
    }
    CHECK(3, most <= HS_NAT_PROBES + 1, true);
    CHECK(4, nat.pool.pages_built, 1);
    add(original, reply);
    CHECK(5, allocate(&rule, &original, &reply, &probes), false);
    CHECK(6, allocate(&rule, &original, &reply, &probes), false);
    CHECK(7, probes, HS_NAT_PROBES); /* nothing was freed in this second: not searched again */
    tear_down();
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

/* N8, and N3 under it: a port that is only held down counts as taken until its time is over. */
static void check_hold_down(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 40000, 40000);
    struct hs_tuple owner = tuple("10.0.1.7", 1, "8.8.8.8", 53, HS_UDP), reply;
    struct hs_tuple other = tuple("10.0.1.8", 1, "8.8.8.8", 53, HS_UDP);
    uint32_t probes;

    rule.hold_down_s = 120;
    set_up((struct hs_seed){9, 6});
    watch(&rule);
    CHECK(1, allocate(&rule, &owner, &reply, &probes), true);
    hs_hold_down_add(&nat.holds, table->seed, &reply, &owner, 1000 - 119);
    CHECK(2, allocate(&rule, &other, &reply, &probes), false);
    CHECK(3, nat.held_down > 0, true);
    hs_hold_down_add(&nat.holds, table->seed, &reply, &owner, 1000 - 120);
    hs_port_pool_recount(&nat.pool, table); /* a second later: the refusal is forgotten */
    CHECK(4, allocate(&rule, &other, &reply, &probes), true);
    tear_down();
}

/* More destinations than pages: every answer stays right when pages are built, forgotten and built again. */
static void check_many_destinations(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 5000, 5063);
    struct hs_tuple original = tuple("10.0.1.7", 1, "8.8.8.8", 0, HS_TCP), reply;
    uint32_t probes;

    set_up((struct hs_seed){9, 1});
    watch(&rule);
    for (uint16_t port = 1; port <= 200; port++)
        occupy("8.8.8.8", port, 5000, 5063, 5000u + port % 64);
    for (int round = 0; round < 2; round++) {
        for (uint16_t port = 1; port <= 200; port++) {
            original.dst_port = htons(port);
            now_s++;
            CHECK(port, allocate(&rule, &original, &reply, &probes), true);
            CHECK(port, ntohs(reply.dst_port), 5000 + port % 64);
        }
    }
    CHECK(1, nat.pool.pages_built >= 100, true);
    tear_down();
}

/* What one packet may cost, when pages are wanted faster than they may be built, or everything is held down. */
static void check_bounded_work(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 5119);
    struct hs_tuple original = tuple("10.0.1.7", 1, "8.8.8.8", 0, HS_TCP), reply;
    uint32_t probes, tries = 1;

    set_up((struct hs_seed){9, 3});
    watch(&rule);
    for (uint16_t port = 1; port <= HS_PAGE_BUILDS_PER_S + 1; port++)
        occupy("8.8.8.8", port, 1024, 5119, 5000);
    occupy("9.9.9.9", 1, 5000, 5000, 0);
    for (uint16_t port = 1; port <= HS_PAGE_BUILDS_PER_S; port++) {
        original.dst_port = htons(port);
        CHECK(port, allocate(&rule, &original, &reply, &probes), true);
    }
    original.dst_port = htons(HS_PAGE_BUILDS_PER_S + 1);
    while (!allocate(&rule, &original, &reply, &probes) && tries < 20) {
        CHECK(tries, probes <= HS_NAT_LOOKS_MAX + HS_NAT_PROBES, true);
        tries++;
    }
    CHECK(1, ntohs(reply.dst_port), 5000);
    CHECK(2, tries <= 4, true);
    CHECK(3, nat.pool.pages_built, HS_PAGE_BUILDS_PER_S);
    rule.hold_down_s = 120;
    original = tuple("10.0.1.8", 1, "7.7.7.7", 53, HS_UDP);
    for (uint32_t port = 1024; port <= 5119; port++) {
        struct hs_tuple freed = tuple("7.7.7.7", 53, "203.0.113.5", (uint16_t)port, HS_UDP);

        hs_hold_down_add(&nat.holds, table->seed, &freed, &original, 1000);
    }
    original.src_port = htons(2);
    allocate(&rule, &original, &reply, &probes); /* a forgotten one may be found */
    CHECK(4, probes <= 2 * HS_NAT_LOOKS_MAX + HS_NAT_PROBES, true);
    tear_down();
}

/* N4: after everything has gone no bit is left. */
static void check_conservation(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 65535);
    uint32_t left = 0;

    set_up((struct hs_seed){9, 2});
    watch(&rule);
    occupy("8.8.8.8", 53, 2000, 2999, 0);
    occupy("8.8.4.4", 53, 2500, 3499, 0);
    watch(&rule); /* a new configuration counts what lives */
    for (uint32_t slot = 0; slot < table->capacity; slot++)
        if (table->flows[slot].state)
            remove_flow(slot);
    for (uint32_t word = 0; word < HS_PORT_WORDS; word++)
        left += hs_port_pool_used(&nat.pool, hs_ip("203.0.113.5"), HS_TCP)[word] != 0;
    CHECK(1, left, 0);
    CHECK(2, hs_port_pool_used(&nat.pool, hs_ip("203.0.113.6"), HS_TCP) == NULL, true);
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
    check_bounded_work();
    check_service_ports();
    check_preferred_places();
    check_clustered();
    check_many_destinations();
    check_eligible();
    check_parity_to_exhaustion();
    check_hold_down();
    check_conservation();
    check_pooling();
    return hs_check_result();
}
