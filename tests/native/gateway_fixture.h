/* A small gateway for programs that try to harm it: private 10.0.0.0/16, clients and servers by 203.0.113.254, a service
 * at 203.0.113.5:80, a forward and a pool of 32 ports at 203.0.113.6. */
#ifndef HS_TESTS_GATEWAY_FIXTURE_H
#define HS_TESTS_GATEWAY_FIXTURE_H

#include "core/gateway.h"

#include "check.h"

static const uint64_t second = 1000000000;

/* Not armed. The caller may change the rules, and calls hs_gateway_nat_changed then. */
static inline struct hs_gateway *hs_fixture_create(struct hs_gateway_limits limits, struct hs_output output)
{
    struct hs_gateway *g = hs_gateway_create((struct hs_seed){1, 2}, limits, output);
    struct hs_route routes[] = {{hs_ip("10.0.0.0"), hs_ip("255.255.0.0"), 0, HS_INSIDE},
                                {0, 0, hs_ip("203.0.113.254"), HS_OUTSIDE}};
    struct hs_neighbour *router = hs_next_hops_neighbour(&g->hops, HS_OUTSIDE, hs_ip("203.0.113.254"));
    struct hs_backend backend = {.server_id = 1, .address = hs_ip("10.0.1.9"), .port = htons(8080), .weight = 1};
    struct hs_service *service = &g->rules.services[0];

    g->ports[0].mtu = g->ports[1].mtu = 1500;
    hs_next_hops_set_routes(&g->hops, routes, 2);
    router->known = true;
    for (uint32_t i = 0; i < 16; i++)
        hs_next_hops_neighbour(&g->hops, HS_INSIDE, htonl(0x0a000100 + i))->known = i % 4 != 0;
    g->rules.vips[0] = (struct hs_vip){hs_ip("10.0.1.1"), HS_INSIDE};
    g->rules.vips[1] = (struct hs_vip){hs_ip("203.0.113.5"), HS_OUTSIDE};
    g->rules.vip_count = 2;
    g->rules.nat[0] = (struct hs_nat_rule){
        .sources = {1, {{hs_ip("10.0.0.0"), hs_ip("255.255.0.0")}}}, .publics = {hs_ip("203.0.113.6")},
        .public_count = 1, .port_first = 40000, .port_last = 40031, .hold_down_s = 1,
        .max_flows_per_source = 24, .icmp_on_exhaustion = true, .preserve_parity = true};
    g->rules.nat_count = 1;
    g->rules.forwards[0] = (struct hs_forward){.public = hs_ip("203.0.113.6"), .inside = hs_ip("10.0.1.9"),
                                               .public_port = htons(8443), .inside_port = htons(443),
                                               .proto = HS_TCP, .allow = {1, {{0, 0}}}};
    g->rules.forward_count = 1;
    *service = (struct hs_service){.vip = hs_ip("203.0.113.5"), .port = htons(80), .proto = HS_TCP,
                                   .allow = {1, {{0, 0}}}, .backends = calloc(HS_BACKENDS_MAX, sizeof backend)};
    g->rules.service_count = 1;
    hs_service_publish(service, &backend, 1, 1, 16);
    return g;
}

static inline void hs_fixture_arm(struct hs_gateway *g, uint64_t now_ns)
{
    CHECK(1, hs_gateway_nat_changed(g), true);
    hs_gateway_arm(g, now_ns);
    g->lease_until_ns = UINT64_MAX;
}

/* N4: no flow, no count and no port is left. */
static inline void check_nothing_is_left(const struct hs_gateway *g, int number)
{
    CHECK(number, g->table->count, 0);
    CHECK(number, g->table->digest, 0);
    CHECK(number, g->table->half_open, 0);
    CHECK(number, g->sources.used, 0);
    CHECK(number, g->at_risk, 0);
    CHECK(number, g->held.count + g->unresolved.count + g->fragments.waiting.count, 0);
    for (uint32_t i = 0; i < g->rules.service_count; i++)
        for (uint32_t k = 0; k < g->rules.services[i].backend_count; k++)
            CHECK(number, g->rules.services[i].backends[k].flows, 0);
    /* A bitmap that is left has ports that are held down, and none of a flow. */
    for (uint32_t head = 0; head < g->nat.pool.size; head++)
        for (uint32_t at = g->nat.pool.heads[head]; at != HS_NOTHING; at = g->nat.pool.blocks[at].next)
            CHECK(number, g->nat.pool.blocks[at].recheck_s != 0, true);
}

/* Every packet has one fate: it left, was answered, was dropped for one reason, or waits. ARP that is not for us is
 * passed over (the kernel has it too): `passed_over` of those. Nothing may wait when this is asked. */
static inline void check_every_packet_has_one_fate(const struct hs_gateway *g, uint64_t passed_over, int number)
{
    const struct hs_counters *c = &g->counters;
    uint64_t drops = c->fail_closed_dropped;

#define HS_ADD_DROP(name)                                                                          \
    if (!strncmp(#name, "drop_", 5))                                                               \
        drops += c->name;
    HS_COUNTERS_LIST(HS_ADD_DROP)
#undef HS_ADD_DROP
    CHECK(number, c->sent_packets + c->arp_answered + c->echo_answered + drops + passed_over, c->received_packets);
}

#endif
