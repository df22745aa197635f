/* A small gateway for programs that try to harm it: private 10.0.0.0/16, clients and servers by 203.0.113.254, a service
 * at 203.0.113.5:80, a forward and a pool of 32 ports at 203.0.113.6. In IPv6 2001:db8:1::/64 inside, a service at
 * 2001:db8:2::5 port 80, and whatever wants to leave 2001:db8:1::/64 or to reach 2001:db8:1::8. */
#ifndef HS_TESTS_GATEWAY_FIXTURE_H
#define HS_TESTS_GATEWAY_FIXTURE_H

#include "core/gateway.h"

#include "check.h"
#include "one_backend.h"

static const uint64_t second = 1000000000;

static inline struct hs_address6 hs_ip6(const char *text)
{
    struct hs_address6 address;

    if (inet_pton(AF_INET6, text, &address) != 1)
        abort();
    return address;
}

static inline struct hs_prefix6 hs_ip6_prefix(const char *text, uint32_t length)
{
    return (struct hs_prefix6){hs_ip6(text), hs_address6_mask(length)};
}

static inline void hs_fixture_add_ipv6(struct hs_gateway *g)
{
    const struct hs_route6 routes[] = {
        {hs_ip6_prefix("2001:db8:1::", 64), {{0}}, 64, HS_INSIDE},
        {hs_ip6_prefix("::", 0), hs_ip6("fe80::1"), 0, HS_OUTSIDE},
    };
    struct hs_backend backend = {
        .server_id = 1, .address6 = hs_ip6("2001:db8:1::9"), .port = htons(8080), .weight = 1};
    struct hs_service *service = &g->rules.services[g->rules.service_count++];

    CHECK(1, hs_ends6_reserve(g->table), true);
    hs_next_hops6_set_routes(&g->hops6, routes, 2);
    hs_next_hops6_neighbour(&g->hops6, HS_OUTSIDE, &routes[1].gateway)->known = true;
    for (uint8_t i = 1; i < 16; i++) {
        struct hs_address6 host = routes[0].prefix.address;

        host.bytes[15] = i;
        hs_next_hops6_neighbour(&g->hops6, HS_INSIDE, &host)->known = i % 4 != 0;
    }
    g->rules.vips6[0] = (struct hs_vip6){hs_ip6("2001:db8:1::1"), HS_INSIDE};
    g->rules.vips6[1] = (struct hs_vip6){hs_ip6("2001:db8:2::5"), HS_OUTSIDE};
    g->rules.vip6_count = 2;
    g->rules.passes[0] = (struct hs_pass){.sources = {1, {hs_ip6_prefix("2001:db8:1::", 64)}}};
    g->rules.passes[1] = (struct hs_pass){.sources = {1, {hs_ip6_prefix("2001:db8:1::8", 128)}}, .inbound = true};
    g->rules.pass_count = 2;
    hs_serve_one(service, (struct hs_service){.family = HS_IPV6, .vip6 = hs_ip6("2001:db8:2::5"), .port = htons(80),
                                              .proto = HS_TCP, .allow6 = {1, {hs_ip6_prefix("::", 0)}}}, &backend);
}

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
    hs_serve_one(service, (struct hs_service){.vip = hs_ip("203.0.113.5"), .port = htons(80), .proto = HS_TCP,
                                              .allow = {1, {{0, 0}}}}, &backend);
    g->rules.service_count = 1;
    hs_fixture_add_ipv6(g);
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
    CHECK(number, g->held[0].count + g->held[1].count + g->unresolved.count + g->fragments.waiting.count, 0);
    for (uint32_t i = 0; i < g->rules.service_count; i++)
        for (uint32_t k = 0; k < g->rules.services[i].backend_count; k++)
            CHECK(number, g->rules.services[i].backends[k].flows, 0);
    /* A bitmap that is left has ports that are held down, and none of a flow. */
    for (uint32_t head = 0; head < g->nat.pool.size; head++)
        for (uint32_t at = g->nat.pool.heads[head]; at != HS_NOTHING; at = g->nat.pool.blocks[at].next)
            CHECK(number, g->nat.pool.blocks[at].recheck_s != 0, true);
}

/* Every packet has one fate: it left, was answered, was dropped for one reason, or waits. ARP and neighbour discovery
 * that is not for us is passed over (the kernel has it too): `passed_over` of those. Nothing may wait when this is asked. */
static inline void check_every_packet_has_one_fate(const struct hs_gateway *g, uint64_t passed_over, int number)
{
    const struct hs_counters *c = &g->counters;
    uint64_t drops = c->fail_closed_dropped;

#define HS_ADD_DROP(name)                                                                          \
    if (!strncmp(#name, "drop_", 5))                                                               \
        drops += c->name;
    HS_COUNTERS_LIST(HS_ADD_DROP)
#undef HS_ADD_DROP
    CHECK(number, c->sent_packets + c->arp_answered + c->ndp_answered + c->echo_answered + drops + passed_over, c->received_packets);
}

#endif
