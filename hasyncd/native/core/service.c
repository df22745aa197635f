#include "core/service.h"

#include <stdlib.h>

bool hs_service_init(struct hs_service *service)
{
    *service = (struct hs_service){
        .backends = calloc(HS_BACKENDS_MAX, sizeof *service->backends),
        .now = calloc(1, sizeof *service->now),
        .before = calloc(1, sizeof *service->before),
        .turns = calloc(1, sizeof *service->turns),
    };
    if (service->backends && service->now && service->before && service->turns)
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
    *service = (struct hs_service){0};
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

static const struct hs_backend *find_server(const struct hs_backend *backends, uint32_t count, uint32_t server_id)
{
    for (uint32_t i = 0; i < count; i++)
        if (backends[i].server_id == server_id)
            return &backends[i];
    return NULL;
}

static void place_backends(struct hs_service *service, const struct hs_backend *backends, uint32_t count)
{
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
}

int hs_service_publish(struct hs_service *service, const struct hs_backend *backends, uint32_t count,
                       struct hs_backend_table *table, uint64_t grace_until_ns, struct hs_backend_table **unused)
{
    struct hs_published *next = service->before;

    for (uint32_t i = 0; i < table->member_count; i++)
        if (!find_server(backends, count, table->members[i].server_id))
            return -1;
    if (!has_room(service, backends, count))
        return -1;
    place_backends(service, backends, count);
    *unused = next->table;
    next->table = table;
    for (uint32_t i = 0; i < table->member_count; i++)
        next->places[i] = (uint16_t)hs_service_find_backend(
            service, find_server(backends, count, table->members[i].server_id));
    service->before = service->now;
    service->now = next; /* one thread reads tables, and it is not reading now: the engine's lock is held */
    service->before_until_ns = grace_until_ns;
    hs_turns_begin(service->turns, table);
    return 0;
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

int hs_service_select_again(struct hs_service *service, uint32_t key, uint64_t now_ns)
{
    const struct hs_published *counts = now_ns < service->before_until_ns ? service->before : service->now;
    int member, place;

    if (!counts->table || !counts->table->member_count || goes_in_turn(counts->table))
        return -1;
    member = hs_backend_table_find(counts->table, key);
    place = counts->places[member];
    if (counts == service->now ||
        (service->backends[place].present && service->backends[place].server_id == counts->table->members[member].server_id))
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
