#include "core/rules.h"

void hs_rules_free(struct hs_rules *rules)
{
    for (uint32_t i = 0; i < rules->service_count; i++)
        hs_service_free(&rules->services[i]);
    rules->service_count = 0;
}

bool hs_prefixes_match(const struct hs_prefixes *prefixes, uint32_t address)
{
    for (uint32_t i = 0; i < prefixes->count; i++)
        if ((address & prefixes->list[i].mask) == prefixes->list[i].address)
            return true;
    return false;
}

bool hs_rules_is_vip_on(const struct hs_rules *rules, uint32_t address, int side)
{
    for (uint32_t i = 0; i < rules->vip_count; i++)
        if (rules->vips[i].address == address && rules->vips[i].side == side)
            return true;
    return false;
}

bool hs_rules_is_vip(const struct hs_rules *rules, uint32_t address)
{
    return hs_rules_is_vip_on(rules, address, HS_INSIDE) ||
           hs_rules_is_vip_on(rules, address, HS_OUTSIDE);
}

bool hs_rules_is_own(const struct hs_rules *rules, uint32_t address)
{
    for (uint32_t i = 0; i < rules->nat_count; i++)
        for (uint32_t k = 0; k < rules->nat[i].public_count; k++)
            if (rules->nat[i].publics[k] == address)
                return true;
    for (uint32_t i = 0; i < rules->forward_count; i++)
        if (rules->forwards[i].public == address)
            return true;
    return hs_rules_is_vip(rules, address);
}

int hs_rules_find_service(const struct hs_rules *rules, uint32_t address, uint16_t port,
                          uint8_t proto)
{
    for (uint32_t i = 0; i < rules->service_count; i++) {
        const struct hs_service *service = &rules->services[i];

        if (service->vip == address && service->port == port && service->proto == proto &&
            service->family == HS_IPV4)
            return (int)i;
    }
    return -1;
}

const struct hs_forward *hs_rules_find_forward(const struct hs_rules *rules, uint32_t address,
                                               uint16_t port, uint8_t proto)
{
    for (uint32_t i = 0; i < rules->forward_count; i++) {
        const struct hs_forward *forward = &rules->forwards[i];

        if (forward->public == address &&
            (!forward->proto || (forward->proto == proto && forward->public_port == port)))
            return forward;
    }
    return NULL;
}

const struct hs_forward *hs_rules_find_own_public(const struct hs_rules *rules, uint32_t inside)
{
    for (uint32_t i = 0; i < rules->forward_count; i++)
        if (rules->forwards[i].inside == inside && !rules->forwards[i].proto)
            return &rules->forwards[i];
    return NULL;
}

int hs_rules_find_nat(const struct hs_rules *rules, const struct hs_tuple *tuple)
{
    for (uint32_t i = 0; i < rules->nat_count; i++) {
        const struct hs_nat_rule *rule = &rules->nat[i];

        if (hs_prefixes_match(&rule->sources, tuple->src_addr) &&
            (!rule->destinations.count || hs_prefixes_match(&rule->destinations, tuple->dst_addr)))
            return (int)i;
    }
    return -1;
}
