/* The mirror of routes and neighbours: longest prefix, probing, forgotten entries given away, bounded. */
#include "core/next_hop.h"

#include "check.h"

static struct hs_next_hops hops;

static void check_routes(void)
{
    const struct hs_route routes[] = {
        {0, 0, hs_ip("203.0.113.254"), HS_OUTSIDE},
        {hs_ip("10.0.0.0"), hs_ip("255.0.0.0"), hs_ip("10.0.1.254"), HS_INSIDE},
        {hs_ip("10.0.1.7"), UINT32_MAX, 0, HS_OUTSIDE},
        {hs_ip("10.0.1.0"), hs_ip("255.255.255.0"), 0, HS_INSIDE},
    };
    static const struct {
        int number;
        const char *destination;
        uint32_t mask_bits;
    } cases[] = {{1, "10.0.1.7", 32}, {2, "10.0.1.8", 24}, {3, "10.0.2.1", 8}, {4, "8.8.8.8", 0}, {5, "0.0.0.0", 0}};

    hs_next_hops_set_routes(&hops, routes, 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(cases[i].number,
              __builtin_popcount(hs_next_hops_route(&hops, hs_ip(cases[i].destination))->mask),
              cases[i].mask_bits);
    hs_next_hops_set_routes(&hops, routes + 1, 3);
    CHECK(6, hs_next_hops_route(&hops, hs_ip("8.8.8.8")) == NULL, true);
    hs_next_hops_set_routes(&hops, routes, 0);
    CHECK(7, hs_next_hops_route(&hops, hs_ip("10.0.1.7")) == NULL, true);
}

static void check_resolving(void)
{
    struct hs_neighbour *one;

    memset(&hops, 0, sizeof hops);
    one = hs_next_hops_neighbour(&hops, HS_INSIDE, hs_ip("10.0.1.7"));

    CHECK(1, one == hs_next_hops_neighbour(&hops, HS_INSIDE, hs_ip("10.0.1.7")), true);
    CHECK(2, one != hs_next_hops_neighbour(&hops, HS_OUTSIDE, hs_ip("10.0.1.7")), true);
    CHECK(3, hs_next_hops_resolve(&hops, HS_INSIDE, hs_ip("10.0.1.7")) == NULL, true);
    CHECK(4, one->wanted && one->used, true);
    one->known = true;
    CHECK(5, hs_next_hops_resolve(&hops, HS_INSIDE, hs_ip("10.0.1.7")) == one, true);
    CHECK(6, one->wanted, false);
    CHECK(7, hs_next_hops_neighbour(&hops, HS_INSIDE, 0) == NULL, true);
    CHECK(8, hs_next_hops_resolve(&hops, HS_OUTSIDE, 0) == NULL, true);
    CHECK(9, hops.neighbour_count, 2);
}

/* A scan of a large on-link network fills the mirror with addresses that nobody has; they make room again. */
static void check_a_scan(void)
{
    const uint32_t first = 0x0a640000, many = 20000;
    uint32_t refused = 0;

    memset(&hops, 0, sizeof hops);
    for (uint32_t i = 0; i < 100; i++)
        hs_next_hops_neighbour(&hops, HS_INSIDE, htonl(0x0a000100 + i))->known = true;
    for (uint32_t i = 0; i < many; i++) {
        hs_next_hops_resolve(&hops, HS_OUTSIDE, htonl(first + i));
        refused += hs_next_hops_neighbour(&hops, HS_OUTSIDE, htonl(first + i)) == NULL;
    }
    CHECK(1, hops.neighbour_count, HS_NEIGHBOURS * 3 / 4);
    CHECK(2, refused, many - (HS_NEIGHBOURS * 3 / 4 - 100));
    hs_next_hops_forget_unused(&hops);
    CHECK(3, hops.neighbour_count, HS_NEIGHBOURS * 3 / 4); /* wanted still */
    for (uint32_t i = 0; i < HS_NEIGHBOURS; i++) /* the shell has asked for them, and has heard of what is used */
        hops.neighbours[i].wanted = hops.neighbours[i].used = false;
    hs_next_hops_forget_unused(&hops);
    CHECK(4, hops.neighbour_count, 100);
    for (uint32_t i = 0; i < 100; i++) {
        struct hs_neighbour *late = hs_next_hops_neighbour(&hops, HS_OUTSIDE, htonl(0xcb007100 + i));

        CHECK(i, late != NULL, true);
        if (late)
            late->known = true;
    }
    for (uint32_t i = 0; i < 100; i++) {
        struct hs_neighbour *inside = hs_next_hops_resolve(&hops, HS_INSIDE, htonl(0x0a000100 + i));
        struct hs_neighbour *outside = hs_next_hops_resolve(&hops, HS_OUTSIDE, htonl(0xcb007100 + i));

        CHECK(i, inside && inside->address == htonl(0x0a000100 + i), true);
        CHECK(i, outside && outside->address == htonl(0xcb007100 + i), true);
    }
}

/* Addresses come and go in every order; what is known is found, what is not is gone. */
static void check_taking_out(void)
{
    static bool there[2000];
    uint32_t state = 5;

    memset(&hops, 0, sizeof hops);
    for (int round = 0; round < 60; round++) {
        uint32_t count = 0;

        for (int i = 0; i < 400; i++) {
            uint32_t n = (state = state * 1664525u + 1013904223u) >> 8;

            n %= 2000;
            there[n] = state >> 31;
            /* 1546 addresses apart homes are neighbours: chains are long */
            hs_next_hops_neighbour(&hops, n % 2, htonl(0x0a000001 + n / 2 * 1546))->known = there[n];
        }
        hs_next_hops_forget_unused(&hops);
        for (uint32_t n = 0; n < 2000; n++)
            count += there[n];
        CHECK(round, hops.neighbour_count, count);
        for (uint32_t n = 0; n < 2000; n++)
            if (there[n])
                CHECK(n, hs_next_hops_neighbour(&hops, n % 2, htonl(0x0a000001 + n / 2 * 1546))->known, true);
        CHECK(round, hops.neighbour_count, count);
    }
}

int main(void)
{
    check_taking_out();
    check_routes();
    check_resolving();
    check_a_scan();
    return hs_check_result();
}
