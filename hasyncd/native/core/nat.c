#include "core/nat.h"

#include <arpa/inet.h>
#include <stdlib.h>

bool hs_nat_init(struct hs_nat *nat, uint32_t capacity, struct hs_seed seed)
{
    nat->held_down = nat->other_half = nat->closing_place = 0;
    nat->half = HS_WHOLE_RANGE;
    if (!hs_port_pool_init(&nat->pool, capacity) || !hs_hold_down_init(&nat->holds, capacity))
        return false;
    hs_nat_reset(nat, seed);
    return true;
}

void hs_nat_free(struct hs_nat *nat)
{
    hs_port_pool_free(&nat->pool);
    hs_hold_down_free(&nat->holds);
}

void hs_nat_reset(struct hs_nat *nat, struct hs_seed seed)
{
    nat->seed = seed;
    hs_port_pool_clear(&nat->pool, seed);
}

bool hs_nat_configure(struct hs_nat *nat, const struct hs_rules *rules)
{
    uint32_t *addresses = malloc(HS_NAT_RULES_MAX * HS_PUBLICS_MAX * sizeof *addresses), count = 0;
    bool done;

    if (!addresses)
        return false;
    for (uint32_t rule = 0; rule < rules->nat_count; rule++)
        for (uint32_t i = 0; i < rules->nat[rule].public_count; i++)
            addresses[count++] = rules->nat[rule].publics[i];
    done = hs_port_pool_configure(&nat->pool, addresses, count);
    free(addresses);
    hs_nat_rules_changed(nat, rules);
    return done;
}

/* A port where a service or a forward listens stays its own: its next client may have a flow's very reply tuple. */
static void deny_ways_in(struct hs_nat *nat, const struct hs_rules *rules)
{
    for (uint32_t i = 0; i < rules->service_count; i++) {
        const struct hs_service *service = &rules->services[i];
        const struct hs_public_ports *public = hs_port_pool_public(&nat->pool, service->vip);

        if (public)
            hs_public_deny(public, service->proto, ntohs(service->port));
    }
    for (uint32_t i = 0; i < rules->forward_count; i++) {
        const struct hs_forward *forward = &rules->forwards[i];
        const struct hs_public_ports *public = hs_port_pool_public(&nat->pool, forward->public);

        if (!public)
            continue;
        if (forward->proto)
            hs_public_deny(public, forward->proto, ntohs(forward->public_port));
        for (int proto = 0; proto < 2 && !forward->proto; proto++) /* 1:1: the whole address is the inside host's */
            memset(public->denied[proto], 0xff, HS_PORT_WORDS * sizeof(uint64_t));
    }
}

void hs_nat_rules_changed(struct hs_nat *nat, const struct hs_rules *rules)
{
    for (uint32_t i = 0; i < nat->pool.public_count; i++) {
        nat->pool.publics[i].hold_down_s = 0;
        for (int proto = 0; proto < 3; proto++)
            memset(nat->pool.publics[i].denied[proto], 0, HS_PORT_WORDS * sizeof(uint64_t));
    }
    deny_ways_in(nat, rules);
    for (uint32_t i = 0; i < rules->nat_count; i++) {
        const struct hs_nat_rule *rule = &rules->nat[i];

        for (uint32_t k = 0; k < rule->public_count; k++) {
            struct hs_public_ports *public = hs_port_pool_public(&nat->pool, rule->publics[k]);

            if (public && public->hold_down_s < rule->hold_down_s)
                public->hold_down_s = rule->hold_down_s;
        }
    }
    hs_port_pool_clear(&nat->pool, nat->seed);
}

uint32_t hs_nat_preferred_place(uint32_t hash, uint32_t count)
{
    return (uint32_t)((uint64_t)hash * count >> 32);
}

struct hs_eligible hs_nat_eligible(const struct hs_nat_rule *rule, uint8_t proto, uint16_t port)
{
    uint32_t first = rule->port_first, last = rule->port_last;

    /* A range that has none of the class serves with what it has. */
    if (rule->port_classes && proto != HS_ICMP) {
        if (port < 1024 && first < 1024)
            last = last < 1023 ? last : 1023;
        else if (port >= 1024 && last >= 1024)
            first = first > 1024 ? first : 1024;
    }
    if (!rule->preserve_parity || proto != HS_UDP || (first == last && (first ^ port) & 1))
        return (struct hs_eligible){(uint16_t)first, 1, last - first + 1};
    first += (first ^ port) & 1;
    return (struct hs_eligible){(uint16_t)first, 2, (last - first) / 2 + 1};
}

uint32_t hs_eligible_last(const struct hs_eligible *eligible)
{
    return eligible->first + (eligible->count - 1) * eligible->step;
}

bool hs_nat_may_give(const struct hs_public_ports *public, const struct hs_nat_rule *rule, uint8_t proto, uint32_t port)
{
    if (hs_public_denied(public, proto)[port / 64] >> port % 64 & 1)
        return false;
    for (uint32_t i = 0; i < rule->reserved_count; i++)
        if (port >= rule->reserved[i].first && port <= rule->reserved[i].last)
            return false;
    return true;
}

static bool is_closing(const struct hs_flow *flow, uint32_t sequence)
{
    return (flow->state == HS_TCP_TIME_WAIT || flow->state == HS_TCP_CLOSE) && flow->local & HS_LOCAL_SEQUENCE &&
           (int32_t)(sequence - flow->sequence[HS_ORIGINAL]) > 0;
}

struct hs_flow *hs_nat_find_closing(struct hs_nat *nat, const struct hs_nat_request *request,
                                    uint32_t sequence, struct hs_tuple *reply)
{
    const struct hs_nat_rule *rule = request->rule;
    struct hs_eligible eligible =
        hs_nat_eligible(rule, request->original->proto, ntohs(request->original->src_port));
    uint32_t places = eligible.count * rule->public_count;

    *reply = hs_tuple_invert(request->original);
    for (uint32_t i = 0; i < places && i < HS_NAT_EVICT_PROBES; i++) {
        uint32_t place = nat->closing_place++ % places;
        uint32_t port = eligible.first + place % eligible.count * eligible.step;
        const struct hs_public_ports *public;
        struct hs_found found;

        reply->dst_addr = rule->publics[place / eligible.count];
        reply->dst_port = htons((uint16_t)port);
        public = hs_port_pool_public(&nat->pool, reply->dst_addr);
        if (!public || !hs_nat_may_give(public, rule, reply->proto, port))
            continue;
        found = hs_flow_table_find(request->table, reply);
        if (found.flow && found.direction == HS_REPLY && is_closing(found.flow, sequence))
            return found.flow;
    }
    return NULL;
}
