#include "core/nat.h"

#include <arpa/inet.h>

uint16_t hs_nat_preferred_port(uint32_t hash, uint16_t first, uint16_t last)
{
    uint32_t size = (uint32_t)last - first + 1;

    return (uint16_t)(first + ((uint64_t)hash * size >> 32));
}

/* A port where a service listens stays the service's: its next client may have this very tuple. */
static bool is_service_port(const struct hs_rules *rules, uint32_t address, uint16_t port,
                            uint8_t proto)
{
    return hs_rules_find_service(rules, address, port, proto) >= 0;
}

bool hs_nat_allocate(const struct hs_flow_table *table, const struct hs_rules *rules,
                     const struct hs_nat_rule *rule, const struct hs_tuple *original,
                     struct hs_tuple *reply, uint32_t *probes)
{
    uint64_t hash = hs_siphash(table->seed, original, sizeof *original);
    /* One private host keeps one public address (RFC 4787 REQ-2, paired pooling) while that has ports. */
    uint64_t host = hs_siphash(table->seed, &original->src_addr, sizeof original->src_addr);
    uint32_t size = (uint32_t)rule->port_last - rule->port_first + 1;
    uint16_t *port = original->proto == HS_ICMP ? &reply->src_port : &reply->dst_port;

    *reply = hs_tuple_invert(original);
    *probes = 0;
    for (uint32_t a = 0; a < rule->public_count; a++) {
        uint32_t candidate =
            hs_nat_preferred_port((uint32_t)(hash >> 32), rule->port_first, rule->port_last);

        reply->dst_addr = rule->publics[(host + a) % rule->public_count];
        for (uint32_t i = 0; i < size; i++, candidate++) {
            if (candidate > rule->port_last)
                candidate = rule->port_first;
            *port = htons((uint16_t)candidate);
            if (is_service_port(rules, reply->dst_addr, *port, reply->proto))
                continue;
            ++*probes;
            if (!hs_flow_table_find(table, reply).flow)
                return true;
        }
    }
    return false;
}
