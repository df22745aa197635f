#include "core/rules.h"

#include <stdlib.h>

void hs_rules_free(struct hs_rules *rules)
{
    for (uint32_t i = 0; i < rules->service_count; i++) {
        free(rules->services[i].ring);
        free(rules->services[i].backends);
    }
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

static bool is_same(const struct hs_backend *a, const struct hs_backend *b)
{
    return a->address == b->address && a->port == b->port && hs_address6_equal(&a->address6, &b->address6);
}

int hs_service_find_backend(const struct hs_service *service, const struct hs_backend *backend)
{
    for (uint32_t i = 0; i < service->backend_count; i++)
        if (is_same(&service->backends[i], backend))
            return (int)i;
    return -1;
}

static int find_server(const struct hs_service *service, uint32_t server_id)
{
    for (uint32_t i = 0; i < service->backend_count; i++)
        if (service->backends[i].server_id == server_id && service->backends[i].present)
            return (int)i;
    return -1;
}

static void settle(struct hs_backend *place, const struct hs_backend *backend)
{
    uint32_t flows = place->flows;

    *place = *backend;
    place->present = true;
    place->flows = flows;
}

/* Whether every backend finds a place: those that left keep theirs while they have flows. */
static bool has_room(const struct hs_service *service, const struct hs_backend *backends, uint32_t count)
{
    uint32_t needed = count;

    for (uint32_t i = 0; i < service->backend_count; i++) {
        const struct hs_backend *old = &service->backends[i];
        bool stays = false;

        for (uint32_t k = 0; k < count && !stays; k++)
            stays = is_same(&backends[k], old);
        needed += !stays && old->flows;
    }
    return needed <= HS_BACKENDS_MAX;
}

/* A fresh place; when all have been used, that of a backend that left and has no flow any more. There is one. */
static struct hs_backend *free_place(struct hs_service *service)
{
    struct hs_backend *place = service->backends;

    if (service->backend_count < HS_BACKENDS_MAX) {
        place += service->backend_count++;
        place->flows = 0;
        return place;
    }
    while (place->present || place->flows)
        place++;
    return place;
}

int hs_service_publish(struct hs_service *service, const struct hs_backend *backends,
                       uint32_t count, uint32_t generation, uint32_t vnodes)
{
    struct hs_ring_server *servers = calloc(count + 1, sizeof *servers);
    struct hs_ring *ring, *old = service->ring;

    for (uint32_t i = 0; servers && i < count; i++)
        servers[i] = (struct hs_ring_server){backends[i].server_id, backends[i].weight};
    ring = servers && has_room(service, backends, count) ? hs_ring_build(servers, count, generation, vnodes) : NULL;
    free(servers);
    if (!ring)
        return -1;
    for (uint32_t i = 0; i < service->backend_count; i++)
        service->backends[i].present = false;
    /* First those that have a place, so that no newcomer gets it. */
    for (uint32_t i = 0; i < count; i++) {
        int at = hs_service_find_backend(service, &backends[i]);

        if (at >= 0)
            settle(&service->backends[at], &backends[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        if (hs_service_find_backend(service, &backends[i]) < 0)
            settle(free_place(service), &backends[i]);
    service->ring = ring;
    free(old); /* one thread reads rings, and it is here */
    return 0;
}

int hs_service_select(const struct hs_service *service, uint32_t hash)
{
    const struct hs_vnode *vnode = service->ring ? hs_ring_find(service->ring, hash) : NULL;

    return vnode ? find_server(service, vnode->server_id) : -1;
}
