#include "core/nat.h"

#include <arpa/inet.h>

#include "core/limits.h"

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
                     struct hs_nat_rule *rule, const struct hs_tuple *original,
                     struct hs_tuple *reply, uint32_t *probes)
{
    uint64_t hash = hs_siphash(table->seed, original, sizeof *original);
    /* One private host keeps one public address (RFC 4787 REQ-2, paired pooling) while that has ports. */
    uint64_t host = hs_siphash(table->seed, &original->src_addr, sizeof original->src_addr);
    uint32_t size = (uint32_t)rule->port_last - rule->port_first + 1, total = size * rule->public_count;
    uint32_t preferred =
        hs_nat_preferred_port((uint32_t)(hash >> 32), rule->port_first, rule->port_last);
    uint32_t looks = total <= HS_NAT_LOOKS_MAX ? total : HS_NAT_LOOKS_MAX;
    uint32_t ahead = total <= HS_NAT_LOOKS_MAX ? total : HS_NAT_LOOKS_MAX / 2;
    uint16_t *port = original->proto == HS_ICMP ? &reply->src_port : &reply->dst_port;

    *reply = hs_tuple_invert(original);
    *probes = 0;
    for (uint32_t i = 0; i < looks; i++) {
        uint32_t at = i < ahead ? i : (rule->scan_next + i - ahead) % total;

        reply->dst_addr = rule->publics[(host + at / size) % rule->public_count];
        *port = htons((uint16_t)(rule->port_first + (preferred - rule->port_first + at) % size));
        if (is_service_port(rules, reply->dst_addr, *port, reply->proto))
            continue;
        ++*probes;
        if (!hs_flow_table_find(table, reply).flow)
            return true;
    }
    rule->scan_next = (rule->scan_next + looks - ahead) % total;
    return false;
}
