#include "core/next_hop6.h"

#include <stdlib.h>

static int longest_first(const void *a, const void *b)
{
    return ((const struct hs_route6 *)b)->length - ((const struct hs_route6 *)a)->length;
}

void hs_next_hops6_set_routes(struct hs_next_hops6 *hops, const struct hs_route6 *routes, uint32_t count)
{
    hops->route_count = count < HS_ROUTES_MAX ? count : HS_ROUTES_MAX;
    memcpy(hops->routes, routes, hops->route_count * sizeof *routes);
    qsort(hops->routes, hops->route_count, sizeof *routes, longest_first);
}

const struct hs_route6 *hs_next_hops6_route(const struct hs_next_hops6 *hops, const struct hs_address6 *destination)
{
    for (uint32_t i = 0; i < hops->route_count; i++)
        if (hs_prefix6_covers(&hops->routes[i].prefix, destination))
            return &hops->routes[i];
    return NULL;
}

/* The fold stands in the entry, where it says that the slot is taken. */
static uint32_t home_of(uint32_t fold)
{
    return fold & (HS_NEIGHBOURS - 1);
}

/* Linear probing. */
struct hs_neighbour *hs_next_hops6_neighbour(struct hs_next_hops6 *hops, int side, const struct hs_address6 *address)
{
    uint32_t fold = hs_address6_fold(hops->seed, address), at = home_of(fold);

    if (hs_address6_is_zero(address))
        return NULL;
    for (uint32_t i = 0; i < HS_NEIGHBOURS; i++, at++) {
        struct hs_neighbour6 *slot = &hops->neighbours[at & (HS_NEIGHBOURS - 1)];

        if (slot->entry.address == fold && slot->entry.side == side && hs_address6_equal(&slot->address, address))
            return &slot->entry;
        if (slot->entry.address)
            continue;
        if (hops->neighbour_count >= HS_NEIGHBOURS * 3 / 4)
            return NULL;
        hops->neighbour_count++;
        *slot = (struct hs_neighbour6){*address, {.address = fold, .side = (uint8_t)side}};
        return &slot->entry;
    }
    return NULL;
}

/* As in core/next_hop.c: what was pushed behind the slot moves up (Knuth 6.4, algorithm R). */
static void take_out(struct hs_next_hops6 *hops, uint32_t hole)
{
    const uint32_t mask = HS_NEIGHBOURS - 1;

    for (uint32_t at = (hole + 1) & mask; hops->neighbours[at].entry.address; at = (at + 1) & mask) {
        uint32_t home = home_of(hops->neighbours[at].entry.address);

        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        hops->neighbours[hole] = hops->neighbours[at];
        hole = at;
    }
    hops->neighbours[hole] = (struct hs_neighbour6){0};
    hops->neighbour_count--;
}

void hs_next_hops6_forget_unused(struct hs_next_hops6 *hops)
{
    for (uint32_t at = 0; hops->neighbour_count && at < HS_NEIGHBOURS;) {
        const struct hs_neighbour *entry = &hops->neighbours[at].entry;

        if (entry->address && !entry->known && !entry->wanted && !entry->used)
            take_out(hops, at);
        else
            at++;
    }
}

struct hs_neighbour *hs_next_hops6_resolve(struct hs_next_hops6 *hops, int side, const struct hs_address6 *address)
{
    struct hs_neighbour *entry = hs_next_hops6_neighbour(hops, side, address);

    if (!entry)
        return NULL;
    entry->used = true;
    entry->wanted = !entry->known;
    return entry->known ? entry : NULL;
}
