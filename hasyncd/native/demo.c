/* The core alone, without Python: the worked examples as tables.
 *
 *     gcc -std=c11 -D_GNU_SOURCE -Ihasyncd/native hasyncd/native/demo.c hasyncd/native/core/[a-z]*.c -o /tmp/demo && /tmp/demo
 *
 * 1. A ring: three servers, a fourth joins, and only the keys of its arc move.
 * 2. A backend leaves a real ring: its keys move, nobody else's.
 * 3. NAT ports that collide: the hash's choice, then its neighbours, then whatever is left, then a refusal.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/limits.h"
#include "core/nat.h"
#include "core/ring.h"
#include "core/siphash.h"

enum { KEYS = 100000, VNODES = 160 };

static const struct hs_seed seed = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

static char letter(uint32_t server_id)
{
    return (char)('A' + server_id - 1);
}

static void show_small_ring(const char *title, const struct hs_ring *ring)
{
    static const uint32_t keys[] = {7, 30, 31, 45, 46, 56, 80, 93};

    printf("%s\n  points:", title);
    for (uint32_t i = 0; i < ring->count; i++)
        printf("  %u %c", ring->vnodes[i].point, letter(ring->vnodes[i].server_id));
    printf("\n  key    ");
    for (uint32_t i = 0; i < sizeof keys / sizeof *keys; i++)
        printf("%4u", keys[i]);
    printf("\n  server ");
    for (uint32_t i = 0; i < sizeof keys / sizeof *keys; i++)
        printf("   %c", letter(hs_ring_find(ring, keys[i])->server_id));
    printf("\n");
}

/* Keys in (30, 45] move to D, all others stay. */
static void show_insertion(void)
{
    struct hs_vnode points[] = {{10, 1, 1, 1}, {30, 3, 1, 1}, {60, 2, 1, 1}, {85, 1, 1, 1}, {45, 4, 1, 2}};
    struct hs_ring *before = hs_ring_from_vnodes(points, 4, 1), *after = hs_ring_from_vnodes(points, 5, 2);

    if (!before || !after)
        abort();
    printf("1. A server joins a ring\n");
    show_small_ring(" before", before);
    show_small_ring(" D at 45", after);
    free(before);
    free(after);
}

static uint32_t key_of(uint32_t i)
{
    return (uint32_t)hs_siphash(seed, &i, sizeof i);
}

static void show_removal(void)
{
    struct hs_ring_server servers[] = {{1, 1}, {2, 1}, {3, 2}, {4, 1}};
    struct hs_ring *before = hs_ring_build(servers, 4, 1, VNODES), *after = hs_ring_build(servers, 3, 2, VNODES);
    uint32_t had[5] = {0}, has[5] = {0}, moved = 0, moved_needlessly = 0;

    if (!before || !after)
        abort();
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t was = hs_ring_find(before, key_of(i))->server_id;
        uint32_t is = hs_ring_find(after, key_of(i))->server_id;

        had[was]++;
        has[is]++;
        moved += was != is;
        moved_needlessly += was != is && was != 4;
    }
    printf("\n2. A server leaves: %u keys, %u points a unit of weight\n", KEYS, VNODES);
    printf("  server  weight  before   after\n");
    for (uint32_t i = 0; i < 4; i++)
        printf("  %c       %6u  %6u  %6u\n", letter(i + 1), servers[i].weight, had[i + 1], has[i + 1]);
    printf("  moved: %u, of which not the leaver's: %u\n", moved, moved_needlessly);
    free(before);
    free(after);
}

static uint32_t ip(const char *text)
{
    return inet_addr(text);
}

static struct hs_tuple udp(const char *src, uint16_t sport, const char *dst, uint16_t dport)
{
    return (struct hs_tuple){ip(src), ip(dst), htons(sport), htons(dport), HS_UDP, HS_IPV4, {0}};
}

/* A seed under which the example's hash chooses 40002. */
static struct hs_seed seed_for(const struct hs_tuple *original, const struct hs_nat_rule *rule, uint32_t port)
{
    struct hs_seed found = {1, 2};

    for (;; found.k0++) {
        uint64_t hash = hs_siphash(found, original, sizeof *original);

        if (rule->port_first + hs_nat_preferred_place((uint32_t)(hash >> 32), 1000) == port)
            return found;
    }
}

struct gateway {
    struct hs_flow_table *table;
    struct hs_rules *rules;
    struct hs_nat nat;
};

static void allocate(struct gateway *g, const struct hs_tuple *original, const char *note)
{
    struct hs_nat_request request = {g->table, g->rules, &g->rules->nat[0], original, 1, NULL};
    struct hs_tuple both[2] = {*original, {0}};
    uint32_t probes;
    bool found = hs_nat_allocate(&g->nat, &request, &both[HS_REPLY], &probes);

    printf("  %-9s:%5u -> %-8s:%2u   ", "10.0.1.7", ntohs(original->src_port),
           original->dst_addr == ip("8.8.8.8") ? "8.8.8.8" : "8.8.4.4", ntohs(original->dst_port));
    if (!found) {
        printf("refused               %4u  %s\n", probes, note);
        return;
    }
    printf("203.0.113.5:%5u     %4u  %s\n", ntohs(both[HS_REPLY].dst_port), probes, note);
    hs_flow_table_add(g->table, both, HS_UNREPLIED, HS_FLOW_UDP, 1000);
    hs_port_pool_take(&g->nat.pool, &both[HS_REPLY]);
}

static void occupy(struct gateway *g, uint16_t port)
{
    struct hs_tuple both[2] = {udp("10.0.1.8", port, "8.8.8.8", 53), udp("8.8.8.8", 53, "203.0.113.5", port)};

    if (hs_flow_table_find(g->table, &both[HS_REPLY]).flow)
        return;
    hs_flow_table_add(g->table, both, HS_UNREPLIED, HS_FLOW_UDP, 1000);
    hs_port_pool_take(&g->nat.pool, &both[HS_REPLY]);
}

static void show_ports(void)
{
    struct hs_nat_rule rule = {
        .publics = {ip("203.0.113.5")}, .public_count = 1, .port_first = 40000, .port_last = 40999};
    struct hs_tuple original = udp("10.0.1.7", 51515, "8.8.8.8", 53), other = udp("10.0.1.7", 51515, "8.8.4.4", 53);
    struct gateway g = {.table = hs_flow_table_create(4096, seed_for(&original, &rule, 40002)),
                        .rules = calloc(1, sizeof *g.rules)};

    if (!g.table || !g.rules || !hs_nat_init(&g.nat, 4096, g.table->seed))
        abort();
    g.rules->nat[g.rules->nat_count++] = rule;
    if (!hs_nat_configure(&g.nat, g.rules))
        abort();
    printf("\n3. Ports that collide: 203.0.113.5, ports 40000-40999; 40002 and 40003 are taken towards 8.8.8.8:53\n");
    printf("  flow                            public               tried\n");
    occupy(&g, 40002);
    occupy(&g, 40003);
    allocate(&g, &original, "the hash says 40002");
    allocate(&g, &other, "another destination may share a port");
    for (uint16_t port = 40000; port < 40999; port++)
        occupy(&g, port);
    original.src_port = htons(51516);
    allocate(&g, &original, "the last free one, from the bitmap");
    original.src_port = htons(51517);
    allocate(&g, &original, "every port is taken");
    hs_nat_free(&g.nat);
    hs_rules_free(g.rules);
    free(g.rules);
    hs_flow_table_destroy(g.table);
}

int main(void)
{
    show_insertion();
    show_removal();
    show_ports();
    return 0;
}
