#include "core/rules6.h"

bool hs_rules6_is_vip_on(const struct hs_rules *rules, const struct hs_address6 *address, int side)
{
    for (uint32_t i = 0; i < rules->vip6_count; i++)
        if (rules->vips6[i].side == side && hs_address6_equal(&rules->vips6[i].address, address))
            return true;
    return false;
}

bool hs_rules6_is_vip(const struct hs_rules *rules, const struct hs_address6 *address)
{
    return hs_rules6_is_vip_on(rules, address, HS_INSIDE) || hs_rules6_is_vip_on(rules, address, HS_OUTSIDE);
}

const struct hs_address6 *hs_rules6_own_address(const struct hs_rules *rules, int side)
{
    const struct hs_address6 *any = NULL;

    for (uint32_t i = rules->vip6_count; i--;) {
        any = &rules->vips6[i].address;
        if (rules->vips6[i].side == side)
            return any;
    }
    return any;
}

int hs_rules6_find_service(const struct hs_rules *rules, const struct hs_address6 *address, uint16_t port,
                           uint8_t proto)
{
    for (uint32_t i = 0; i < rules->service_count; i++) {
        const struct hs_service *service = &rules->services[i];

        if (service->family == HS_IPV6 && service->port == port && service->proto == proto &&
            hs_address6_equal(&service->vip6, address))
            return (int)i;
    }
    return -1;
}

/* `inside` is the end that a rule's sources speak of, whoever begins. */
static bool joins(const struct hs_pass *pass, const struct hs_address6 *inside, const struct hs_address6 *outside)
{
    return hs_prefixes6_match(&pass->sources, inside) &&
           (!pass->destinations.count || hs_prefixes6_match(&pass->destinations, outside));
}

const struct hs_pass *hs_rules6_find_pass(const struct hs_rules *rules, const struct hs_ends6 *ends, int side)
{
    for (uint32_t i = 0; i < rules->pass_count; i++) {
        const struct hs_pass *pass = &rules->passes[i];

        if (side == HS_INSIDE ? joins(pass, &ends->src, &ends->dst)
                              : pass->inbound && joins(pass, &ends->dst, &ends->src))
            return pass;
    }
    return NULL;
}
