/* Backend tables: how long one takes to build, how long a lookup takes, how even it is, what a change moves.
 *
 *     balance_speed ROUNDS        one JSON object a line, for each algorithm and number of backends
 *
 * {"algorithm", "backends", "build_ms": [...], "lookup_ns": [...], "max_to_mean", "moved", "owned"}: the last two are
 * parts of all keys when the last of equal backends leaves. Lookups are of random hashes, each independent of the one
 * before, as those of packets are; the reading of the hash is included.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/backend_table.h"

enum { LOOKUPS = 1 << 22, HASHES = 1 << 16, ROUNDS_MAX = 99, BACKENDS_MAX = 1000 };

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint32_t hashes[HASHES];

static void fill_hashes(void)
{
    uint64_t state = 0x9e3779b97f4a7c15;

    for (uint32_t i = 0; i < HASHES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        hashes[i] = (uint32_t)(state >> 32);
    }
}

static struct hs_backend_table *build(enum hs_algorithm algorithm, uint32_t backends)
{
    struct hs_ring_server members[BACKENDS_MAX];
    struct hs_backend_table *table;

    for (uint32_t i = 0; i < backends; i++)
        members[i] = (struct hs_ring_server){i + 1, 1};
    table = hs_backend_table_build(algorithm, members, backends, 1, HS_VNODES_PER_WEIGHT);
    if (!table) {
        fprintf(stderr, "balance_speed: no table of %u backends\n", backends);
        exit(1);
    }
    return table;
}

/* Keeps the compiler from leaving the loop away. */
static volatile uint64_t sink;

static double lookup_ns(const struct hs_backend_table *table)
{
    double began = now_ns();
    uint64_t sum = 0;

    for (uint32_t i = 0; i < LOOKUPS; i++)
        sum += (uint32_t)hs_backend_table_find(table, hashes[i % HASHES]);
    sink = sum;
    return (now_ns() - began) / LOOKUPS;
}

static double largest(const struct hs_backend_table *table)
{
    uint64_t keys[BACKENDS_MAX], most = 0;

    hs_backend_table_shares(table, keys);
    for (uint32_t i = 0; i < table->member_count; i++)
        most = keys[i] > most ? keys[i] : most;
    return (double)most * table->member_count / 4294967296.0;
}

static void measure(const char *name, enum hs_algorithm algorithm, uint32_t backends, uint32_t rounds)
{
    struct hs_backend_table *table = build(algorithm, backends), *fewer = build(algorithm, backends - 1);
    double build_ms[ROUNDS_MAX], each_ns[ROUNDS_MAX];
    uint64_t keys[BACKENDS_MAX];

    for (uint32_t i = 0; i < rounds; i++) {
        double began = now_ns();
        struct hs_backend_table *again = build(algorithm, backends);

        build_ms[i] = (now_ns() - began) / 1e6;
        each_ns[i] = lookup_ns(table);
        hs_backend_table_free(again);
    }
    hs_backend_table_shares(table, keys);
    printf("{\"algorithm\": \"%s\", \"backends\": %u, \"max_to_mean\": %.6f, \"moved\": %.8f, \"owned\": %.8f, \"build_ms\": [",
           name, backends, largest(table), (double)hs_backend_table_moved(table, fewer) / 4294967296.0,
           (double)keys[backends - 1] / 4294967296.0);
    for (uint32_t i = 0; i < rounds; i++)
        printf("%s%.4f", i ? ", " : "", build_ms[i]);
    printf("], \"lookup_ns\": [");
    for (uint32_t i = 0; i < rounds; i++)
        printf("%s%.3f", i ? ", " : "", each_ns[i]);
    printf("]}\n");
    hs_backend_table_free(table);
    hs_backend_table_free(fewer);
}

int main(int count, char **arguments)
{
    static const uint32_t backends[] = {3, 10, 100, 1000};
    int rounds = count == 2 ? atoi(arguments[1]) : 0;

    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: balance_speed ROUNDS (1 to %d)\n", ROUNDS_MAX);
        return 2;
    }
    fill_hashes();
    for (int i = 0; i < 4; i++) {
        measure("maglev", HS_MAGLEV, backends[i], (uint32_t)rounds);
        measure("ring", HS_CONSISTENT_HASH, backends[i], (uint32_t)rounds);
        measure("ecmp", HS_ECMP, backends[i], (uint32_t)rounds);
    }
    return 0;
}
