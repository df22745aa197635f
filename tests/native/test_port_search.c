/* The search for a public port: it finds every port that is free (N3), at a cost that does not grow (issue's own
 * figure: flat to 95 %), whatever pattern the others lie in. */
#include "nat_bed.h"

enum { SERVERS = 200, FULL_LOOK = HS_BLOCK_PORTS + HS_NAT_PROBES + HS_BLOCK_STORE };

/* Lookups since the last call: tuples tried one by one and those that bitmaps cost. */
static uint64_t lookups(uint32_t probes)
{
    static uint64_t built;
    uint64_t cost = probes + (nat.pool.blocks_built - built) * HS_BLOCK_PORTS;

    built = nat.pool.blocks_built;
    return cost;
}

/* One free port among 64,512 in blocks: the first look makes the bitmaps, the others only read them. */
static void check_clustered(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 65535);
    struct hs_tuple original = tuple("10.0.1.7", 0, "8.8.8.8", 53, HS_TCP), reply;
    uint32_t probes, most = 0;

    set_up((struct hs_seed){7, 8});
    watch(&rule);
    occupy("8.8.8.8", 53, 1024, 65535, 40001);
    for (uint16_t sport = 1; sport <= 2500; sport++) {
        original.src_port = htons(sport);
        CHECK(sport, allocate(&rule, &original, &reply, &probes), true);
        CHECK(sport, ntohs(reply.dst_port), 40001);
        if (sport > 2000) /* before, some still met blocks whose bitmap nobody had needed */
            most = probes > most ? probes : most;
    }
    CHECK(1, nat.pool.blocks_built <= 126, true);
    CHECK(2, most <= HS_NAT_PROBES + 1, true);
    add(original, reply);
    CHECK(3, allocate(&rule, &original, &reply, &probes), false);
    CHECK(4, allocate(&rule, &original, &reply, &probes), false);
    CHECK(5, probes, HS_NAT_PROBES); /* nothing was freed in this second: not searched again */
    CHECK(6, nat.pool.blocks_built <= 126, true);
    tear_down();
}

/* Fills one destination to the last port, a fraction at a time in blocks from the bottom (or everywhere), and holds
 * the mean cost of an allocation against a bound: the same at half and at 99.9 %. */
static void check_flat(bool clustered, bool parity)
{
    static const uint32_t permille[] = {0, 500, 900, 950, 990, 999};
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 65535);
    struct hs_tuple original = tuple("10.0.1.7", 0, "8.8.8.8", 53, HS_UDP), reply;
    uint32_t taken = 0, probes, all = parity ? 32256 : 64512, step = parity ? 2 : 1;

    rule.preserve_parity = parity;
    set_up((struct hs_seed){7, 9});
    watch(&rule);
    for (uint32_t i = 0; i < sizeof permille / sizeof *permille; i++) {
        uint64_t cost = 0, rounds = 200;

        for (; taken < all * (uint64_t)permille[i] / 1000; taken++) {
            original.src_port = htons((uint16_t)(taken * step % 60000));
            original.src_addr = htonl(0x0a000200 + taken * step / 60000);
            reply = tuple("8.8.8.8", 53, "203.0.113.5", (uint16_t)(1024 + taken * step), HS_UDP);
            if (!clustered && !allocate(&rule, &original, &reply, &probes))
                break;
            add(original, reply);
        }
        CHECK(permille[i], taken, all * (uint64_t)permille[i] / 1000);
        for (uint32_t round = 0; round < 4 * rounds; round++) {
            original = tuple("10.0.1.7", (uint16_t)(round * 2), "8.8.8.8", 53, HS_UDP);
            CHECK(round, allocate(&rule, &original, &reply, &probes), true);
            /* Flows that were put there without a search made no bitmaps; the first allocations pay for them. */
            cost += lookups(probes) * (round >= 3 * rounds);
        }
        CHECK(permille[i], cost / rounds <= 128, true);
        if (getenv("HS_SHOW"))
            printf("%s%s %5.1f %%: %.1f lookups\n", clustered ? "clustered" : "scattered", parity ? ", even" : "",
                   permille[i] / 10.0, (double)cost / (double)rounds);
    }
    for (; taken < all; taken++) {
        original.src_port = htons((uint16_t)(taken * step % 60000));
        original.src_addr = htonl(0x0a000200 + taken * step / 60000);
        CHECK(taken, allocate(&rule, &original, &reply, &probes), true);
        add(original, reply);
    }
    CHECK(1, allocate(&rule, &original, &reply, &probes), false);
    tear_down();
}

/* Ports that are held down wait in the bitmaps, and every one comes out of them in its second. */
static void check_hold_down(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 9215);
    struct hs_tuple owner = tuple("10.0.1.8", 1, "7.7.7.7", 53, HS_UDP), original = owner, other = owner, reply;
    uint32_t probes, found = 0, ports = 8192, free_ones;
    uint64_t searched;

    rule.hold_down_s = 120;
    set_up((struct hs_seed){9, 3});
    watch(&rule);
    for (uint32_t i = 0; i < ports; i++) { /* 16 a second, in an order of their own */
        struct hs_tuple freed = tuple("7.7.7.7", 53, "203.0.113.5", (uint16_t)(1024 + i * 2477 % ports), HS_UDP);

        hs_hold_down_add(&nat.holds, table->seed, &freed, &owner, now_s + i / 128);
    }
    now_s += ports / 128;
    original.src_port = other.src_port = htons(2);
    while (allocate(&rule, &original, &reply, &probes)) { /* of a set of four the fifth is forgotten */
        original.src_port = htons((uint16_t)(3 + found++));
        add(original, reply);
    }
    CHECK(1, found, nat.holds.forgotten);
    CHECK(2, nat.held_down > 0, true);
    searched = nat.pool.blocks_built;
    for (uint32_t i = 0; i < 100; i++)
        CHECK(i, allocate(&rule, &original, &reply, &probes), false);
    CHECK(3, nat.pool.blocks_built, searched); /* within a second nothing comes free by itself */
    now_s = 1000 + 120;
    for (; now_s < 1000 + 120 + ports / 128; now_s++) {
        free_ones = 0;
        for (uint32_t port = 1024; port <= 9215; port++) {
            reply = tuple("7.7.7.7", 53, "203.0.113.5", (uint16_t)port, HS_UDP);
            free_ones += !hs_flow_table_find(table, &reply).flow &&
                         !hs_hold_down_left_s(&nat.holds, table->seed, &reply, NULL, 120, now_s);
        }
        for (uint32_t i = 0; i < free_ones; i++) {
            original.src_port = htons((uint16_t)(3 + found++));
            CHECK(now_s, allocate(&rule, &other, &reply, &probes), true);
            add(original, reply);
        }
        CHECK(now_s, allocate(&rule, &other, &reply, &probes), false);
    }
    CHECK(4, found, ports);
    tear_down();
}

/* The owner of a held port may have it at once; the same port comes free for all when both ends closed. */
static void check_owner(void)
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
    CHECK(3, allocate(&rule, &owner, &reply, &probes), true);
    now_s++;
    CHECK(4, allocate(&rule, &other, &reply, &probes), true);
    tear_down();
}

/* Thousands of destinations, each with one port left, at any rate: none is refused, and nothing that is done for one
 * is done for the table. */
static void check_many_destinations(uint16_t first, uint16_t last, uint32_t servers)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", first, last);
    struct hs_tuple original = tuple("10.0.1.7", 1, "8.8.8.8", 0, HS_TCP), reply;
    uint32_t probes, size = last - first + 1u, most = 0;
    uint64_t total = 0;

    set_up_for((struct hs_seed){9, 1}, servers * size + 1000);
    watch(&rule);
    for (uint16_t port = 1; port <= servers; port++)
        occupy("8.8.8.8", port, first, last, first + port * 7u % size);
    lookups(0);
    for (int round = 0; round < 4; round++) {
        for (uint16_t port = 1; port <= servers; port++) {
            uint64_t cost;

            original.dst_port = htons(port);
            CHECK(port, allocate(&rule, &original, &reply, &probes), true);
            CHECK(port, ntohs(reply.dst_port), first + port * 7u % size);
            cost = lookups(probes);
            total += cost;
            most = cost > most ? (uint32_t)cost : most;
        }
    }
    /* Once every port in vain, and then by the bitmaps: 512 lookups for each that was made. */
    CHECK(1, most <= (size / HS_BLOCK_PORTS + 2) * FULL_LOOK, true);
    CHECK(2, total / (4 * servers) <= size, true);
    CHECK(3, nat.pool.live <= nat.pool.size, true);
    if (getenv("HS_SHOW"))
        printf("%u ports, %u destinations: %.0f lookups, at most %u, %u bitmaps\n", size, servers,
               (double)total / (4 * servers), most, nat.pool.live);
    tear_down();
}

/* More blocks are full than there is room for bitmaps: only held-down ports that nobody counts can do that. What is
 * forgotten is found out again. */
static void check_no_room(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 1024, 1535);
    struct hs_tuple original = tuple("10.0.1.7", 1, "8.8.8.8", 0, HS_TCP), reply;
    uint32_t probes;

    set_up((struct hs_seed){9, 4});
    watch(&rule);
    nat.pool.free = HS_NOTHING - 1;
    nat.pool.size = 4; /* as if the table were tiny */
    hs_port_pool_clear(&nat.pool, table->seed);
    for (uint16_t port = 1; port <= 20; port++)
        occupy("8.8.8.8", port, 1024, 1535, 1024u + port);
    for (int round = 0; round < 3; round++) {
        for (uint16_t port = 1; port <= 20; port++) {
            original.dst_port = htons(port);
            CHECK(port, allocate(&rule, &original, &reply, &probes), true);
            CHECK(port, ntohs(reply.dst_port), 1024 + port);
            CHECK(port, nat.pool.live <= 4, true);
        }
    }
    tear_down();
}

/* N3, N4 against a model: flows come and go at random towards few servers; refused exactly where nothing is free. */
static void check_against_model(void)
{
    struct hs_nat_rule rule = rule_for("203.0.113.5", 2000, 3100);
    uint32_t probes, size = 1101, random = 12345, refused = 0;
    static uint32_t slots[3][1101], used[3];
    struct hs_tuple original, reply;

    rule.reserved[0] = (struct hs_port_range){2500, 2599};
    rule.reserved_count = 1;
    memset(used, 0, sizeof used);
    set_up((struct hs_seed){4, 4});
    watch(&rule);
    for (uint32_t round = 0; round < 40000; round++) {
        uint32_t server, goal;
        bool wanted;

        random = random * 1664525u + 1013904223u;
        server = (random >> 20) % 3;
        goal = round / 10000 % 2 ? 3 : 13; /* grow, shrink */
        if ((random >> 8) % 16 < goal) {
            original = tuple("10.0.1.7", (uint16_t)round, "8.8.8.8", (uint16_t)(server + 1), HS_TCP);
            original.src_addr = htonl(0x0a000100 + round % 251);
            if (hs_flow_table_find(table, &original).flow)
                continue;
            wanted = used[server] < size - 100;
            CHECK(round, allocate(&rule, &original, &reply, &probes), wanted);
            refused += !wanted;
            if (wanted)
                slots[server][used[server]++] = add(original, reply);
        } else if (used[server]) {
            uint32_t at = (random >> 4) % used[server];

            remove_flow(slots[server][at]);
            slots[server][at] = slots[server][--used[server]];
        }
    }
    CHECK(1, refused > 100, true);
    for (uint32_t server = 0; server < 3; server++)
        while (used[server])
            remove_flow(slots[server][--used[server]]);
    CHECK(2, nat.pool.live, 0);
    CHECK(3, nat.pool.blocks_built > 0, true);
    tear_down();
}

int main(void)
{
    check_clustered();
    check_flat(true, false);
    check_flat(false, false);
    check_flat(true, true);
    check_flat(false, true);
    check_hold_down();
    check_owner();
    check_many_destinations(5000, 5063, SERVERS);
    check_many_destinations(1024, 2047, SERVERS);
    check_many_destinations(1024, 9215, 20);
    check_many_destinations(40000, 40009, 5000);
    check_no_room();
    check_against_model();
    return hs_check_result();
}
