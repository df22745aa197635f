/* Where a service's backends stand: each has a place in its list, found by its address, and flows name it by that place.
 *
 * A place is somebody else's only when all have been used once and the one who had it has left and has no flow any more.
 * Everything here is O(backends): it runs while packets wait.
 */
#include <string.h>

#include "core/service.h"

_Static_assert((HS_PLACE_SLOTS & (HS_PLACE_SLOTS - 1)) == 0, "a power of two");

static bool is_same(const struct hs_backend *a, const struct hs_backend *b)
{
    return a->address == b->address && a->port == b->port && hs_address6_equal(&a->address6, &b->address6);
}

/* Not keyed: who is listed is the operator's word, and a list of 1,024 has no long chains to fear. */
static uint32_t home_of(const struct hs_backend *backend)
{
    uint64_t words[2], mixed = (uint64_t)backend->address << 16 | backend->port;

    memcpy(words, &backend->address6, sizeof words);
    mixed ^= words[0] ^ words[1] * 0x9e3779b97f4a7c15ull;
    mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93ull;
    return (uint32_t)((mixed ^ mixed >> 32) * 0xd6e8feb86659fd93ull >> 32) & (HS_PLACE_SLOTS - 1);
}

static uint32_t home_of_id(const struct hs_backend *backend)
{
    return backend->server_id * 0x9e3779b1u >> 16 & (HS_PLACE_SLOTS - 1);
}

static bool is_same_id(const struct hs_backend *a, const struct hs_backend *b)
{
    return a->server_id == b->server_id;
}

/* An index over a list: open addressing, position + 1 in each slot. */
struct order {
    uint32_t (*home)(const struct hs_backend *);
    bool (*same)(const struct hs_backend *, const struct hs_backend *);
};

static const struct order by_address = {home_of, is_same}, by_id = {home_of_id, is_same_id};

static int find(const struct order *order, const uint16_t *index, const struct hs_backend *list,
                const struct hs_backend *wanted)
{
    for (uint32_t at = order->home(wanted); index[at]; at = (at + 1) % HS_PLACE_SLOTS)
        if (order->same(&list[index[at] - 1], wanted))
            return index[at] - 1;
    return -1;
}

static void insert(const struct order *order, uint16_t *index, const struct hs_backend *list, uint32_t position)
{
    uint32_t at = order->home(&list[position]);

    while (index[at])
        at = (at + 1) % HS_PLACE_SLOTS;
    index[at] = (uint16_t)(position + 1);
}

static void reindex(struct hs_service *service)
{
    memset(service->index, 0, HS_PLACE_SLOTS * sizeof *service->index);
    for (uint32_t i = 0; i < service->backend_count; i++)
        insert(&by_address, service->index, service->backends, i);
}

int hs_service_find_backend(const struct hs_service *service, const struct hs_backend *backend)
{
    return find(&by_address, service->index, service->backends, backend);
}

/* A fresh place; when all have been used, from `*cursor` on that of a backend that left and has no flow any more. -1:
 * there is none. */
static int free_place(struct hs_service *service, uint32_t *cursor)
{
    if (service->backend_count < HS_BACKENDS_MAX)
        return (int)service->backend_count++;
    for (; *cursor < HS_BACKENDS_MAX; ++*cursor) {
        const struct hs_backend *place = &service->backends[*cursor];

        if (place->state >= HS_BACKEND_REMOVED && !place->flows)
            return (int)(*cursor)++;
    }
    return -1;
}

int hs_service_adopt(struct hs_service *service, const struct hs_backend *backend)
{
    uint32_t cursor = 0, used = service->backend_count;
    int place = hs_service_find_backend(service, backend);

    if (place >= 0) { /* gone from our list, and the peer leads flows there: two configurations */
        if (service->backends[place].state == HS_BACKEND_REMOVED)
            service->backends[place].state = HS_BACKEND_FOREIGN;
        return place;
    }
    place = free_place(service, &cursor);
    if (place < 0)
        return place;
    service->backends[place] = (struct hs_backend){.address = backend->address, .port = backend->port,
                                                   .address6 = backend->address6, .state = HS_BACKEND_FOREIGN};
    if (used == service->backend_count)
        reindex(service);
    else
        insert(&by_address, service->index, service->backends, (uint32_t)place);
    return place;
}

/* Rows of a publication. */
struct rows {
    const struct hs_backend *list;
    uint32_t count;
    uint16_t addresses[HS_PLACE_SLOTS], ids[HS_PLACE_SLOTS];
};

static enum hs_publish_result read_rows(struct rows *rows, const struct hs_backend_table *table)
{
    memset(rows->addresses, 0, sizeof rows->addresses);
    memset(rows->ids, 0, sizeof rows->ids);
    for (uint32_t i = 0; i < rows->count; i++) {
        if (find(&by_address, rows->addresses, rows->list, &rows->list[i]) >= 0 ||
            find(&by_id, rows->ids, rows->list, &rows->list[i]) >= 0)
            return HS_LISTED_TWICE;
        insert(&by_address, rows->addresses, rows->list, i);
        insert(&by_id, rows->ids, rows->list, i);
    }
    for (uint32_t i = 0; i < table->member_count; i++) {
        struct hs_backend member = {.server_id = table->members[i].server_id};
        int row = find(&by_id, rows->ids, rows->list, &member);

        if (row < 0)
            return HS_NOT_LISTED;
        if (rows->list[row].state == HS_BACKEND_DRAINING)
            return HS_DRAINING_USED;
    }
    return HS_PUBLISHED;
}

/* Whether every row finds a place: those that left keep theirs while they have flows. */
static bool have_room(const struct hs_service *service, const struct rows *rows)
{
    uint32_t needed = rows->count;

    for (uint32_t i = 0; i < service->backend_count; i++)
        needed += service->backends[i].flows &&
                  find(&by_address, rows->addresses, rows->list, &service->backends[i]) < 0;
    return needed <= HS_BACKENDS_MAX;
}

/* Another id at an address is another server: its counts begin anew, the connections are there. */
static void settle(struct hs_backend *place, const struct hs_backend *row)
{
    struct hs_backend before = *place;

    *place = *row;
    place->in_table = false;
    place->flows = before.flows;
    place->counts = (struct hs_backend_counts){0};
    if (before.server_id == row->server_id || before.state == HS_BACKEND_FOREIGN)
        place->counts = before.counts;
}

/* First those that have a place, so that no newcomer gets it. `places[i]`: of row i. */
static void place_rows(struct hs_service *service, const struct rows *rows, uint16_t *places)
{
    uint32_t cursor = 0;

    for (uint32_t i = 0; i < service->backend_count; i++) {
        service->backends[i].in_table = false;
        if (service->backends[i].state != HS_BACKEND_FOREIGN)
            service->backends[i].state = HS_BACKEND_REMOVED;
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        int at = hs_service_find_backend(service, &rows->list[i]);

        places[i] = at < 0 ? UINT16_MAX : (uint16_t)at;
        if (at >= 0)
            settle(&service->backends[at], &rows->list[i]);
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        if (places[i] != UINT16_MAX)
            continue;
        places[i] = (uint16_t)free_place(service, &cursor);
        service->backends[places[i]] = (struct hs_backend){0};
        settle(&service->backends[places[i]], &rows->list[i]);
    }
    reindex(service);
}

enum hs_publish_result hs_service_place_backends(struct hs_service *service, const struct hs_backend *list,
                                                 uint32_t count, const struct hs_backend_table *table,
                                                 uint16_t *places)
{
    struct rows rows = {.list = list, .count = count};
    uint16_t of_rows[HS_BACKENDS_MAX];
    enum hs_publish_result result = read_rows(&rows, table);

    if (!result && !have_room(service, &rows))
        result = HS_NO_PLACES;
    if (result)
        return result;
    place_rows(service, &rows, of_rows);
    for (uint32_t i = 0; i < table->member_count; i++) {
        struct hs_backend member = {.server_id = table->members[i].server_id};

        places[i] = of_rows[find(&by_id, rows.ids, list, &member)];
        service->backends[places[i]].in_table = true;
    }
    return HS_PUBLISHED;
}
