#include "core/next_hop.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static int longest_first(const void *a, const void *b)
{
    uint32_t left = ntohl(((const struct hs_route *)a)->mask);
    uint32_t right = ntohl(((const struct hs_route *)b)->mask);

    return (left < right) - (left > right);
}

void hs_next_hops_set_routes(struct hs_next_hops *hops, const struct hs_route *routes,
                             uint32_t count)
{
    hops->route_count = count < HS_ROUTES_MAX ? count : HS_ROUTES_MAX;
    memcpy(hops->routes, routes, hops->route_count * sizeof *routes);
    qsort(hops->routes, hops->route_count, sizeof *routes, longest_first);
}

const struct hs_route *hs_next_hops_route(const struct hs_next_hops *hops, uint32_t destination)
{
    for (uint32_t i = 0; i < hops->route_count; i++)
        if ((destination & hops->routes[i].mask) == hops->routes[i].prefix)
            return &hops->routes[i];
    return NULL;
}

static uint32_t home_of(uint32_t address)
{
    return ntohl(address) * 2654435761u >> 20; /* Knuth's multiplicative hash, 12 bits */
}

/* Linear probing. */
struct hs_neighbour *hs_next_hops_neighbour(struct hs_next_hops *hops, int side, uint32_t address)
{
    uint32_t at = home_of(address);

    if (!address)
        return NULL; /* it marks an empty slot */
    for (uint32_t i = 0; i < HS_NEIGHBOURS; i++, at++) {
        struct hs_neighbour *entry = &hops->neighbours[at & (HS_NEIGHBOURS - 1)];

        if (entry->address == address && entry->side == side)
            return entry;
        if (entry->address)
            continue;
        if (hops->neighbour_count >= HS_NEIGHBOURS * 3 / 4)
            return NULL;
        hops->neighbour_count++;
        *entry = (struct hs_neighbour){.address = address, .side = (uint8_t)side};
        return entry;
    }
    return NULL;
}

/* Empties a slot; what was pushed behind it moves up, so that no probe ends too soon (Knuth 6.4, algorithm R). */
static void take_out(struct hs_next_hops *hops, uint32_t hole)
{
    const uint32_t mask = HS_NEIGHBOURS - 1;

    for (uint32_t at = (hole + 1) & mask; hops->neighbours[at].address; at = (at + 1) & mask) {
        uint32_t home = home_of(hops->neighbours[at].address);

        if (((at - home) & mask) < ((at - hole) & mask))
            continue; /* its home lies behind the hole */
        hops->neighbours[hole] = hops->neighbours[at];
        hole = at;
    }
    hops->neighbours[hole] = (struct hs_neighbour){0};
    hops->neighbour_count--;
}

void hs_next_hops_forget_unused(struct hs_next_hops *hops)
{
    for (uint32_t at = 0; at < HS_NEIGHBOURS;) {
        const struct hs_neighbour *entry = &hops->neighbours[at];

        if (entry->address && !entry->known && !entry->wanted && !entry->used)
            take_out(hops, at); /* another may have moved here: look again */
        else
            at++;
    }
}

struct hs_neighbour *hs_next_hops_resolve(struct hs_next_hops *hops, int side, uint32_t address)
{
    struct hs_neighbour *entry = hs_next_hops_neighbour(hops, side, address);

    if (!entry)
        return NULL;
    entry->used = true;
    entry->wanted = !entry->known;
    return entry->known ? entry : NULL;
}
