/* The flow table beside a bare hash table, by turns, in one process.
 *
 *     table_speed FLOWS ROUNDS        one JSON object a line: {"name", "ours": [rates], "bare": [rates]}, a second
 *
 * The bare table is what anybody would write first who wants nothing but speed: open addressing, half full, a 16-byte
 * key and its counters in an entry of one cache line, hashed and fetched in batches. It knows one key where ours knows
 * both directions of a flow, and neither ages, nor counts, nor keeps digests. Both lie in huge pages, both are asked
 * for the same tuples in the same random order, both write a counter of what they find. Its hash is ours (SipHash-1-3),
 * and once CRC32c, which is no keyed hash and shows what the key costs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/flow_table.h"
#include "core/limits.h"
#include "core/pages.h"

enum { BATCH_MAX = 64, ROUNDS_MAX = 99, SLOTS_PER_FLOW = 2 };

static const struct hs_seed seed = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

struct bare_entry {
    struct hs_tuple key; /* proto 0: empty */
    uint64_t packets, bytes;
    uint8_t rest[32];
};

_Static_assert(sizeof(struct bare_entry) == 64, "one cache line");

struct bare_table {
    struct bare_entry *entries;
    uint32_t slots;
};

struct ground {
    struct hs_flow_table *ours;
    struct bare_table bare;
    uint32_t flows;
    struct hs_tuple (*tuples)[2]; /* of each flow, in random order */
    /* What is asked for: known tuples of both directions, of one, and unknown ones. */
    struct hs_tuple *either, *originals, *strangers;
};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint32_t random_below(uint32_t limit)
{
    static uint64_t state = 0x9e3779b97f4a7c15;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * limit >> 32);
}

static void fail(const char *what)
{
    fprintf(stderr, "table_speed: %s\n", what);
    exit(1);
}

/* --- the bare table --------------------------------------------------------------------- */

typedef uint64_t hash_function(const struct hs_tuple *key);

static inline uint64_t keyed(const struct hs_tuple *key)
{
    return hs_siphash_1_3(seed, key);
}

static inline uint32_t bare_home(const struct bare_table *t, uint64_t hash)
{
    return (uint32_t)((hash & UINT32_MAX) * t->slots >> 32);
}

static inline struct bare_entry *bare_place(const struct bare_table *t, const struct hs_tuple *key, uint64_t hash)
{
    uint32_t at = bare_home(t, hash);

    while (t->entries[at].key.proto && !hs_tuple_equal(&t->entries[at].key, key))
        at = at + 1 == t->slots ? 0 : at + 1;
    return &t->entries[at];
}

/* Inlined into each caller, so that its hash is inlined into it. */
__attribute__((always_inline)) static inline uint32_t bare_find(const struct bare_table *t,
                                                                const struct hs_tuple *asked, uint32_t count,
                                                                uint32_t batch, hash_function hash)
{
    uint64_t hashes[BATCH_MAX];
    uint32_t found = 0;

    for (uint32_t done = 0; done < count; done += batch) {
        for (uint32_t i = 0; i < batch; i++) {
            hashes[i] = hash(&asked[done + i]);
            __builtin_prefetch(&t->entries[bare_home(t, hashes[i])]);
        }
        for (uint32_t i = 0; i < batch; i++) {
            struct bare_entry *entry = bare_place(t, &asked[done + i], hashes[i]);

            if (!entry->key.proto)
                continue;
            entry->packets++;
            found++;
        }
    }
    return found;
}

__attribute__((always_inline)) static inline void bare_fill(struct ground *g, hash_function hash)
{
    memset(g->bare.entries, 0, (size_t)g->bare.slots * sizeof *g->bare.entries);
    for (uint32_t i = 0; i < g->flows; i++)
        bare_place(&g->bare, &g->tuples[i][0], hash(&g->tuples[i][0]))->key = g->tuples[i][0];
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static inline uint64_t crc32c(const struct hs_tuple *key)
{
    uint64_t words[2], crc = seed.k0 & UINT32_MAX;

    memcpy(words, key, sizeof words);
    crc = __builtin_ia32_crc32di(crc, words[0]);
    return __builtin_ia32_crc32di(crc, words[1]);
}

__attribute__((target("sse4.2"))) static uint32_t bare_find_crc32c(const struct bare_table *t,
                                                                   const struct hs_tuple *asked, uint32_t count)
{
    return bare_find(t, asked, count, BATCH_MAX, crc32c);
}

__attribute__((target("sse4.2"))) static void bare_fill_crc32c(struct ground *g)
{
    bare_fill(g, crc32c);
}
#endif

/* --- ours ------------------------------------------------------------------------------- */

/* As hs_gateway_receive_batch does it. */
static uint32_t our_find(const struct hs_flow_table *t, const struct hs_tuple *asked, uint32_t count, uint32_t batch)
{
    uint64_t hashes[BATCH_MAX];
    uint32_t found = 0;

    for (uint32_t done = 0; done < count; done += batch) {
        for (uint32_t i = 0; i < batch; i++) {
            hashes[i] = hs_flow_table_hash(t, &asked[done + i]);
            hs_flow_table_prefetch_bucket(t, hashes[i]);
        }
        for (uint32_t i = 0; i < batch && batch > 1; i++)
            hs_flow_table_prefetch_flow(t, hashes[i], HS_IPV4);
        for (uint32_t i = 0; i < batch; i++) {
            struct hs_found at = hs_flow_table_find_hashed(t, &asked[done + i], hashes[i]);

            if (!at.flow)
                continue;
            at.flow->packets[at.direction]++;
            found++;
        }
    }
    return found;
}

static void our_fill(struct ground *g)
{
    for (uint32_t i = 0; i < g->flows; i++)
        if (!hs_flow_table_add(g->ours, g->tuples[i], HS_UNREPLIED, HS_FLOW_UDP, 1000000 + random_below(300000)))
            fail("the table is full");
}

/* --- measuring -------------------------------------------------------------------------- */

struct rates {
    double ours[ROUNDS_MAX], bare[ROUNDS_MAX];
};

static void print_rates(const char *side, const double *rates, uint32_t rounds)
{
    printf("\"%s\": [", side);
    for (uint32_t i = 0; i < rounds; i++)
        printf("%s%.0f", i ? ", " : "", rates[i]);
    printf("]");
}

/* Without `bare` where the bare table does no such thing. */
static void tell(const char *name, const struct rates *rates, uint32_t rounds, bool both)
{
    printf("{\"name\": \"%s\", ", name);
    print_rates("ours", rates->ours, rounds);
    printf(", ");
    print_rates("bare", rates->bare, both ? rounds : 0);
    printf("}\n");
    fflush(stdout);
}

static double rate(double began, uint32_t count, uint32_t found, uint32_t wanted)
{
    double took = seconds() - began;

    if (found != wanted)
        fail("found what is not there, or not what is");
    return count / took;
}

static void measure_lookups(struct ground *g, const char *name, uint32_t batch, bool known, uint32_t rounds)
{
    uint32_t count = g->flows / BATCH_MAX * BATCH_MAX, wanted = known ? count : 0;
    struct rates rates;

    for (uint32_t round = 0; round < rounds; round++) {
        double began = seconds();

        rates.ours[round] =
            rate(began, count, our_find(g->ours, known ? g->either : g->strangers, count, batch), wanted);
        began = seconds();
        rates.bare[round] = rate(
            began, count, bare_find(&g->bare, known ? g->originals : g->strangers, count, batch, keyed), wanted);
    }
    tell(name, &rates, rounds, true);
}

static void measure_crc32c(struct ground *g, uint32_t rounds)
{
#ifdef __x86_64__
    uint32_t count = g->flows / BATCH_MAX * BATCH_MAX;
    struct rates rates;

    if (!__builtin_cpu_supports("sse4.2"))
        return;
    bare_fill_crc32c(g);
    for (uint32_t round = 0; round < rounds; round++) {
        double began = seconds();

        rates.ours[round] = rate(began, count, our_find(g->ours, g->either, count, BATCH_MAX), count);
        began = seconds();
        rates.bare[round] = rate(began, count, bare_find_crc32c(&g->bare, g->originals, count), count);
    }
    tell("found, crc32c", &rates, rounds, true);
#else
    (void)g, (void)rounds;
#endif
}

/* Whole tables at a time: the empty one filled in random order, the full one emptied in another. */
static void measure_changes(struct ground *g, uint32_t rounds)
{
    struct rates inserts, deletes;

    for (uint32_t round = 0; round < rounds; round++) {
        double began;

        hs_flow_table_reset(g->ours, seed);
        began = seconds();
        our_fill(g);
        inserts.ours[round] = rate(began, g->flows, g->ours->count, g->flows);
        began = seconds();
        for (uint32_t i = 0; i < g->flows; i++)
            hs_flow_table_remove(g->ours, &g->ours->flows[(uint64_t)i * 0x9e3779b1u % g->flows]);
        deletes.ours[round] = rate(began, g->flows, g->ours->count, 0);
        memset(g->bare.entries, 0, (size_t)g->bare.slots * sizeof *g->bare.entries);
        began = seconds();
        for (uint32_t done = 0; done < g->flows; done += BATCH_MAX) {
            uint64_t hashes[BATCH_MAX];
            uint32_t count = g->flows - done < BATCH_MAX ? g->flows - done : BATCH_MAX;

            for (uint32_t i = 0; i < count; i++) {
                hashes[i] = keyed(&g->tuples[done + i][0]);
                __builtin_prefetch(&g->bare.entries[bare_home(&g->bare, hashes[i])]);
            }
            for (uint32_t i = 0; i < count; i++)
                bare_place(&g->bare, &g->tuples[done + i][0], hashes[i])->key = g->tuples[done + i][0];
        }
        inserts.bare[round] = rate(began, g->flows, 0, 0);
    }
    tell("insert", &inserts, rounds, true);
    tell("delete", &deletes, rounds, false);
}

/* Scattered, as addresses and ports of many hosts are: a hash that is linear, as CRC32c is, would spread counted ones
 * over the slots without any collision. `n` stays in them, so that no two are the same. */
static void make_tuples(struct hs_tuple both[2], uint32_t n)
{
    uint64_t mixed = (n + 1) * 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93u;
    mixed ^= mixed >> 32;
    both[0] = (struct hs_tuple){.src_addr = (uint32_t)mixed, .dst_addr = n, .src_port = (uint16_t)(mixed >> 32),
                                .dst_port = (uint16_t)(mixed >> 48), .proto = HS_UDP};
    both[1] = hs_tuple_invert(&both[0]);
    both[1].dst_addr = ~(uint32_t)mixed;
}

static void prepare(struct ground *g, uint32_t flows)
{
    g->flows = flows;
    g->ours = hs_flow_table_create(flows, seed);
    g->bare.slots = flows * SLOTS_PER_FLOW;
    g->bare.entries = hs_pages_alloc((size_t)g->bare.slots * sizeof *g->bare.entries);
    g->tuples = malloc(flows * sizeof *g->tuples);
    g->either = malloc(flows * sizeof *g->either);
    g->originals = malloc(flows * sizeof *g->originals);
    g->strangers = malloc(flows * sizeof *g->strangers);
    if (!g->ours || !g->bare.entries || !g->tuples || !g->either || !g->originals || !g->strangers)
        fail("no memory");
    for (uint32_t i = 0; i < flows; i++) {
        uint32_t other = random_below(i + 1);

        memcpy(g->tuples[i], g->tuples[other], sizeof *g->tuples);
        make_tuples(g->tuples[other], i);
    }
    for (uint32_t i = 0; i < flows; i++) {
        struct hs_tuple stranger[2];
        uint32_t flow = random_below(flows);

        make_tuples(stranger, flows + random_below(flows));
        g->originals[i] = g->tuples[flow][0];
        g->either[i] = g->tuples[flow][random_below(2)];
        g->strangers[i] = stranger[0];
    }
}

int main(int argc, char **argv)
{
    uint32_t rounds = argc == 3 ? (uint32_t)atoi(argv[2]) : 0;
    static struct ground g;

    if (argc != 3 || atoi(argv[1]) < BATCH_MAX || atoi(argv[1]) > HS_CAPACITY_MAX || rounds < 1 || rounds > ROUNDS_MAX)
        fail("usage: table_speed FLOWS ROUNDS");
    prepare(&g, (uint32_t)atoi(argv[1]));
    measure_changes(&g, rounds);
    our_fill(&g);
    bare_fill(&g, keyed);
    measure_lookups(&g, "found, batches of 64", 64, true, rounds);
    measure_lookups(&g, "found, batches of 16", 16, true, rounds);
    measure_lookups(&g, "found, one by one", 1, true, rounds);
    measure_lookups(&g, "missed, batches of 64", 64, false, rounds);
    measure_crc32c(&g, rounds);
    return 0;
}
