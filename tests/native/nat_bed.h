/* A flow table and a NAT for tests of allocation: no gateway around them. */
#ifndef HS_TESTS_NAT_BED_H
#define HS_TESTS_NAT_BED_H

#include "check.h"
#include "core/nat.h"

static struct hs_flow_table *table;
static struct hs_rules *rules;
static struct hs_nat nat;
static uint64_t now_s = 1000;

static inline bool allocate(const struct hs_nat_rule *rule, const struct hs_tuple *original,
                     struct hs_tuple *reply, uint32_t *probes)
{
    struct hs_nat_request request = {
        .table = table, .rules = rules, .rule = rule, .original = original, .now_s = now_s};

    return hs_nat_allocate(&nat, &request, reply, probes);
}

static inline struct hs_tuple tuple(const char *src, uint16_t sport, const char *dst, uint16_t dport,
                             uint8_t proto)
{
    return (struct hs_tuple){.src_addr = hs_ip(src), .dst_addr = hs_ip(dst), .src_port = htons(sport),
                             .dst_port = htons(dport), .proto = proto};
}

static inline struct hs_nat_rule rule_for(const char *public, uint16_t first, uint16_t last)
{
    return (struct hs_nat_rule){
        .publics = {hs_ip(public)}, .public_count = 1, .port_first = first, .port_last = last};
}

static inline uint32_t add(struct hs_tuple original, struct hs_tuple reply)
{
    struct hs_tuple both[2] = {original, reply};
    uint8_t flags = original.proto == HS_UDP ? HS_FLOW_UDP : original.proto == HS_ICMP ? HS_FLOW_ICMP : 0;

    hs_port_pool_take(&nat.pool, &reply);
    return hs_flow_slot(table, hs_flow_table_add(table, both, 1, flags, 1000));
}

static inline void remove_flow(uint32_t slot)
{
    hs_port_pool_release(&nat.pool, &table->flows[slot].tuple[HS_REPLY]);
    hs_flow_table_remove(table, &table->flows[slot]);
}

static inline void set_up_for(struct hs_seed seed, uint32_t capacity)
{
    now_s = 1000;
    table = hs_flow_table_create(capacity, seed);
    rules = calloc(1, sizeof *rules);
    hs_nat_init(&nat, capacity, seed);
}

static inline void set_up(struct hs_seed seed)
{
    set_up_for(seed, 70000);
}

static inline void watch(const struct hs_nat_rule *rule)
{
    rules->nat[0] = *rule;
    rules->nat_count = 1;
    CHECK(1, hs_nat_configure(&nat, rules), true);
}

static inline void tear_down(void)
{
    hs_flow_table_destroy(table);
    hs_rules_free(rules);
    hs_nat_free(&nat);
    free(rules);
}

/* Occupies ports of one address towards a server: those of [low, high] but `hole`. */
static inline void occupy(const char *server, uint16_t port, uint32_t low, uint32_t high, uint32_t hole)
{
    for (uint32_t taken = low; taken <= high; taken++)
        if (taken != hole)
            add(tuple("10.9.9.9", (uint16_t)taken, server, port, HS_TCP),
                tuple(server, port, "203.0.113.5", (uint16_t)taken, HS_TCP));
}

#endif
