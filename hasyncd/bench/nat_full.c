/* What a public port costs where nearly all are taken: native/core alone, one public address, one destination.
 *
 * The taken ports are one block from 1024 on, so that a search that begins anywhere in it finds many taken ones in
 * a row. Each allocation is of another private port and given back. Prints a JSON list, one element an occupancy,
 * and of the last one how many of the ports that were free could be given out before the first refusal.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/gateway.h"

enum { PORTS = 64512, FIRST_PORT = 1024, TRIALS = 20000, NOW_S = 1000 };

static const uint32_t percents[] = {50, 90, 95, 99};

struct result {
    double mean_us, p50_us, p99_us, max_us, probes;
    uint32_t failures;
};

static struct hs_gateway *g;
static uint32_t public, remote;

static void drop(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet, (void)frame, (void)length;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct hs_tuple udp(const char *host, uint32_t port)
{
    return (struct hs_tuple){.src_addr = inet_addr(host),
                             .dst_addr = remote,
                             .src_port = htons((uint16_t)port),
                             .dst_port = htons(53),
                             .proto = HS_UDP};
}

static struct hs_flow *add(const struct hs_tuple *original, const struct hs_tuple *reply)
{
    struct hs_tuple both[2] = {*original, *reply};
    struct hs_flow *flow = hs_flow_table_add(g->table, both, HS_UNREPLIED, HS_FLOW_UDP, (NOW_S + 300) * 1000);

    if (!flow)
        abort();
    hs_gateway_account(g, flow);
    return flow;
}

static void occupy(uint32_t port)
{
    struct hs_tuple original = udp("10.0.1.8", port), reply = hs_tuple_invert(&original);

    reply.dst_addr = public;
    add(&original, &reply);
}

static bool allocate(const struct hs_tuple *original, struct hs_tuple *reply, uint32_t *probes)
{
    struct hs_nat_request request = {
        .table = g->table, .rules = &g->rules, .rule = &g->rules.nat[0], .original = original, .now_s = NOW_S};

    return hs_nat_allocate(&g->nat, &request, reply, probes);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* What reading the clock twice takes at least. */
static uint64_t clock_cost_ns(void)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < 1000; i++) {
        uint64_t began = now_ns(), took = now_ns() - began;

        least = took < least ? took : least;
    }
    return least;
}

static struct result measure(void)
{
    static uint64_t times[TRIALS];
    uint64_t clock_ns = clock_cost_ns(), sum = 0, probes_sum = 0;
    struct result result = {.failures = 0};

    for (uint32_t i = 0; i < TRIALS; i++) {
        struct hs_tuple original = udp("10.0.1.7", FIRST_PORT + i * 40503u % PORTS), reply;
        uint32_t probes;
        uint64_t began = now_ns();
        bool found = allocate(&original, &reply, &probes);
        uint64_t took = now_ns() - began;

        times[i] = took > clock_ns ? took - clock_ns : 0;
        sum += times[i];
        probes_sum += probes;
        result.failures += !found;
        if (found)
            hs_gateway_forget(g, add(&original, &reply));
    }
    qsort(times, TRIALS, sizeof *times, compare);
    result.mean_us = (double)sum / TRIALS / 1e3;
    result.p50_us = (double)times[TRIALS / 2] / 1e3;
    result.p99_us = (double)times[TRIALS / 100 * 99] / 1e3;
    result.max_us = (double)times[TRIALS - 1] / 1e3;
    result.probes = (double)probes_sum / TRIALS;
    return result;
}

/* Takes what is left until the first refusal. */
static uint32_t take_all(void)
{
    uint32_t given = 0, probes;

    for (;; given++) {
        struct hs_tuple original = udp("10.0.1.9", FIRST_PORT + given), reply;

        if (!allocate(&original, &reply, &probes))
            return given;
        add(&original, &reply);
    }
}

int main(void)
{
    struct hs_gateway_limits limits = {
        .capacity = 1 << 17, .log_records = 1024, .held_packets = 16, .held_bytes = 4096};
    uint32_t taken = 0;

    public = inet_addr("203.0.113.5");
    remote = inet_addr("198.51.100.53");
    g = hs_gateway_create((struct hs_seed){1, 2}, limits, (struct hs_output){.send = drop});
    if (!g)
        abort();
    g->rules.nat[g->rules.nat_count++] = (struct hs_nat_rule){.publics = {public},
                                                              .public_count = 1,
                                                              .port_first = FIRST_PORT,
                                                              .port_last = 65535,
                                                              .hold_down_s = 120,
                                                              .port_classes = true};
    if (!hs_gateway_nat_changed(g))
        abort();
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        struct result result;

        for (; taken < PORTS * percents[i] / 100; taken++)
            occupy(FIRST_PORT + taken);
        result = measure();
        printf("%s{\"percent\": %u, \"mean_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, ",
               i ? ",\n " : "[", percents[i], result.mean_us, result.p50_us, result.p99_us, result.max_us);
        printf("\"probes\": %.2f, \"failures\": %u, \"trials\": %u, \"free\": %u}", result.probes, result.failures,
               TRIALS, PORTS - taken);
    }
    printf(",\n {\"free\": %u, \"given\": %u}]\n", PORTS - taken, take_all());
    hs_gateway_destroy(g);
    return 0;
}
