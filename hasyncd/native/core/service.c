#include "core/service.h"

#include <stdlib.h>

bool hs_service_init(struct hs_service *service)
{
    *service = (struct hs_service){
        .backends = calloc(HS_BACKENDS_MAX, sizeof *service->backends),
        .now = calloc(1, sizeof *service->now),
        .before = calloc(1, sizeof *service->before),
        .turns = calloc(1, sizeof *service->turns),
        .index = calloc(HS_PLACE_SLOTS, sizeof *service->index),
    };
    if (service->backends && service->now && service->before && service->turns && service->index)
        return true;
    hs_service_free(service);
    return false;
}

void hs_service_free(struct hs_service *service)
{
    struct hs_published *both[] = {service->now, service->before};

    for (int i = 0; i < 2; i++) {
        if (both[i] && both[i]->table && !--both[i]->table->references)
            hs_backend_table_free(both[i]->table);
        free(both[i]);
    }
    free(service->backends);
    free(service->turns);
    free(service->index);
    *service = (struct hs_service){0};
}

enum hs_publish_result hs_service_publish(struct hs_service *service, const struct hs_backend *rows, uint32_t count,
                                          struct hs_backend_table *table, uint64_t grace_until_ns,
                                          struct hs_backend_table **unused)
{
    struct hs_published *next = service->before;
    enum hs_publish_result result = hs_service_place_backends(service, rows, count, table, next->places);

    if (result)
        return result;
    *unused = next->table;
    next->table = table;
    service->before = service->now;
    service->now = next; /* one thread reads tables, and it is not reading now: the engine's lock is held */
    service->before_until_ns = grace_until_ns;
    hs_turns_begin(service->turns, table);
    return HS_PUBLISHED;
}

uint32_t hs_service_key(const struct hs_service *service, struct hs_seed seed, const struct hs_tuple *original)
{
    struct hs_tuple key = {.src_addr = original->src_addr};

    if (service->key == HS_KEY_TUPLE)
        return (uint32_t)hs_siphash(seed, original, sizeof *original);
    if (service->key == HS_KEY_SOURCE_PORT)
        key.src_port = original->src_port;
    return (uint32_t)hs_siphash(seed, &key, sizeof key);
}

/* Bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016): the first clockwise whose flows, with this one, are at most
 * ceil(limit x its share of all). There always is one: the limits sum up to more than all flows and this one. */
static int find_below_limit(const struct hs_service *service, uint32_t key)
{
    const struct hs_backend_table *table = service->now->table;
    const struct hs_vnode *first = hs_ring_find(table->ring, key);
    uint64_t weights = 0;

    for (uint32_t i = 0; i < table->member_count; i++)
        weights += table->members[i].weight;
    for (uint32_t i = 0; i < table->ring->count; i++) {
        uint32_t at = ((uint32_t)(first - table->ring->vnodes) + i) % table->ring->count;
        int member = hs_backend_table_position(table, table->ring->vnodes[at].server_id);
        uint64_t share = (uint64_t)service->load_limit_percent * (service->flows + 1) * table->members[member].weight;
        uint64_t limit = (share + 100 * weights - 1) / (100 * weights);

        if (service->backends[service->now->places[member]].flows < limit)
            return member;
    }
    return hs_backend_table_find(table, key);
}

static bool goes_in_turn(const struct hs_backend_table *table)
{
    return table->algorithm == HS_ROUND_ROBIN || table->algorithm == HS_WEIGHTED_ROUND_ROBIN;
}

int hs_service_select(struct hs_service *service, uint32_t key)
{
    const struct hs_backend_table *table = service->now->table;
    int member;

    if (!table || !table->member_count)
        return -1;
    if (goes_in_turn(table))
        member = hs_turns_next(service->turns, table);
    else if (service->load_limit_percent && table->ring)
        member = find_below_limit(service, key);
    else
        member = hs_backend_table_find(table, key);
    return service->now->places[member];
}

/* The place may have become another's. One that drains may have the connection; one that is down or gone has none. */
static bool may_still_have(const struct hs_backend *backend, uint32_t server_id)
{
    return backend->server_id == server_id && (hs_backend_is_up(backend) || backend->state == HS_BACKEND_DRAINING);
}

int hs_service_select_again(struct hs_service *service, uint32_t key, uint64_t now_ns)
{
    const struct hs_published *counts = now_ns < service->before_until_ns ? service->before : service->now;
    int member, place;

    if (!counts->table || !counts->table->member_count || goes_in_turn(counts->table))
        return -1;
    member = hs_backend_table_find(counts->table, key);
    place = counts->places[member];
    if (counts == service->now || may_still_have(&service->backends[place], counts->table->members[member].server_id))
        return place;
    return hs_service_select(service, key);
}

void hs_service_add_flow(struct hs_service *service, uint32_t backend)
{
    service->backends[backend].flows++;
    service->flows++;
}

void hs_service_remove_flow(struct hs_service *service, uint32_t backend)
{
    if (!service->backends[backend].flows)
        return;
    service->backends[backend].flows--;
    service->flows--;
}

void hs_service_forget_flows(struct hs_service *service)
{
    service->flows = 0;
    for (uint32_t i = 0; i < service->backend_count; i++)
        service->backends[i].flows = 0;
}
