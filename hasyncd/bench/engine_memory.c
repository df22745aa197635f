/* What a node's memory is when its flow table is full, as the kernel counts it (resident set).
 *
 *     engine_memory FLOWS        prints the bytes by which a whole engine with that capacity made this process grow
 *
 * Every flow is one that a peer's records brought, behind source NAT, as on a backup; each has been there twice, so
 * that the memory of freed ports is touched as well.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gateway.h"

enum { LOG_RECORDS = 262144, HELD_PACKETS = 4096, HELD_BYTES = 8 << 20, PUBLICS = 4, FLOWS_PER_HOST = 64 };

static void fail(const char *what)
{
    fprintf(stderr, "engine_memory: %s\n", what);
    exit(1);
}

static long resident_bytes(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long kib = -1;

    while (file && fgets(line, sizeof line, file) && sscanf(line, "Rss: %ld kB", &kib) != 1)
        ;
    if (kib < 0)
        fail("/proc/self/smaps_rollup says nothing");
    fclose(file);
    return kib * 1024;
}

static void discard(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet, (void)frame, (void)length;
}

static void put(uint8_t *at, uint32_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        at[i] = (uint8_t)value;
}

/* ADD of flow `n` (proto/sync.md §3): an answered UDP flow 10.x.x.x -> 198.18.0.x behind a public address. */
static void make_add(uint8_t record[HS_ADD_SIZE], uint32_t n, uint16_t version)
{
    memset(record, 0, HS_ADD_SIZE);
    record[0] = HS_ADD;
    record[1] = HS_REPLIED;
    record[2] = HS_FLOW_UDP | HS_FLOW_BOTH_SEEN;
    put(record + 4, n, 4);
    put(record + 8, version, 2);
    put(record + 10, 300, 2);
    put(record + 12, 0x0a000001 + n / FLOWS_PER_HOST, 4);
    put(record + 16, 0xc6120000 + n / 32768, 4);
    put(record + 20, 1024 + n % FLOWS_PER_HOST, 2);
    put(record + 22, 443, 2);
    put(record + 24, 0xcb007105 + n % PUBLICS, 4);
    put(record + 28, 1024 + n % 32768, 2);
}

static void make_del(uint8_t record[HS_SHORT_SIZE], uint32_t n, uint16_t version)
{
    memset(record, 0, HS_SHORT_SIZE);
    record[0] = HS_DEL;
    record[1] = 1; /* timed out */
    put(record + 4, n, 4);
    put(record + 8, version, 2);
}

static void install(struct hs_gateway *g, const uint8_t *record, uint32_t length)
{
    enum hs_rejection rejection;

    if (hs_gateway_install(g, record, length, 1000000000000u, &rejection) != 1)
        fail("a record was rejected");
}

/* The delta log of a primary is full as well. */
static void fill_log(struct hs_gateway *g)
{
    for (uint32_t i = 0; i < LOG_RECORDS; i++)
        memset(hs_delta_log_append(&g->log, 1), 0, HS_RECORD_MAX);
}

int main(int argc, char **argv)
{
    uint32_t flows = argc == 2 ? (uint32_t)atoi(argv[1]) : 0;
    long before = resident_bytes();
    struct hs_gateway *g;

    if (flows < 1 || flows > HS_CAPACITY_MAX)
        fail("usage: engine_memory FLOWS");
    g = hs_gateway_create((struct hs_seed){1, 2},
                          (struct hs_gateway_limits){.capacity = flows, .log_records = LOG_RECORDS,
                                                     .held_packets = HELD_PACKETS, .held_bytes = HELD_BYTES},
                          (struct hs_output){discard, NULL});
    if (!g)
        fail("no memory");
    g->rules.nat[0] = (struct hs_nat_rule){.sources = {1, {{htonl(0x0a000000), htonl(0xff000000)}}},
                                           .public_count = PUBLICS, .port_first = 1024, .port_last = 65535,
                                           .hold_down_s = 120};
    for (uint32_t i = 0; i < PUBLICS; i++)
        g->rules.nat[0].publics[i] = htonl(0xcb007105 + i);
    g->rules.nat_count = 1;
    if (!hs_gateway_nat_changed(g))
        fail("no memory");
    for (uint16_t life = 1; life <= 2; life++) {
        uint8_t record[HS_RECORD_MAX];

        for (uint32_t n = 0; n < flows; n++) {
            make_add(record, n, life);
            install(g, record, HS_ADD_SIZE);
        }
        for (uint32_t n = 0; n < flows && life == 1; n++) {
            make_del(record, n, life);
            install(g, record, HS_SHORT_SIZE);
        }
    }
    fill_log(g);
    if (g->table->count != flows || g->counters.flows_displaced)
        fail("not every flow is there");
    printf("%ld\n", resident_bytes() - before);
    hs_gateway_destroy(g);
    return 0;
}
