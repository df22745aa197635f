/* Where an IPv6 packet leaves: as core/next_hop.h. Neighbours are found by side and address, for a router's address is
 * mostly link-local, and two links may have the same one. */
#ifndef HS_NEXT_HOP6_H
#define HS_NEXT_HOP6_H

#include "core/address6.h"
#include "core/next_hop.h"

struct hs_route6 {
    struct hs_prefix6 prefix;
    struct hs_address6 gateway; /* zero: on link */
    uint8_t length, side;
};

struct hs_neighbour6 {
    struct hs_address6 address;
    struct hs_neighbour entry; /* `address` is not 0 where the slot is taken */
};

struct hs_next_hops6 {
    struct hs_seed seed; /* keys the places of neighbours: whoever scans a prefix cannot aim */
    uint32_t route_count, neighbour_count;
    struct hs_route6 routes[HS_ROUTES_MAX]; /* longest prefix first */
    struct hs_neighbour6 neighbours[HS_NEIGHBOURS];
};

void hs_next_hops6_set_routes(struct hs_next_hops6 *hops, const struct hs_route6 *routes, uint32_t count);
const struct hs_route6 *hs_next_hops6_route(const struct hs_next_hops6 *hops, const struct hs_address6 *destination);

/* The neighbour's entry, made where it is missing; NULL when the mirror is full, and for the unspecified address. */
struct hs_neighbour *hs_next_hops6_neighbour(struct hs_next_hops6 *hops, int side, const struct hs_address6 *address);

/* The neighbour if its MAC is known; else it is marked wanted and NULL comes back. */
struct hs_neighbour *hs_next_hops6_resolve(struct hs_next_hops6 *hops, int side, const struct hs_address6 *address);

void hs_next_hops6_forget_unused(struct hs_next_hops6 *hops);

#endif
