/* Where a packet leaves: a mirror of the kernel's routes and neighbours, kept by the shell. */
#ifndef HS_NEXT_HOP_H
#define HS_NEXT_HOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/limits.h"

struct hs_route {
    uint32_t prefix, mask; /* network order */
    uint32_t gateway;      /* 0: on link */
    uint8_t side;
};

struct hs_neighbour {
    uint32_t address; /* network order; 0: an empty slot */
    uint8_t side;
    bool known, used, wanted;
    uint8_t mac[6];
    uint64_t asked_ns; /* when the shell was last told that it is missing */
};

struct hs_next_hops {
    uint32_t route_count;
    struct hs_route routes[HS_ROUTES_MAX]; /* longest prefix first */
    struct hs_neighbour neighbours[HS_NEIGHBOURS];
    uint32_t neighbour_count;
};

/* Replaces the routes, sorted by prefix length, longest first. */
void hs_next_hops_set_routes(struct hs_next_hops *hops, const struct hs_route *routes,
                             uint32_t count);

/* The route of a destination, or NULL. */
const struct hs_route *hs_next_hops_route(const struct hs_next_hops *hops, uint32_t destination);

/* The neighbour's entry, made where it is missing; NULL when the mirror is full, and for address 0. */
struct hs_neighbour *hs_next_hops_neighbour(struct hs_next_hops *hops, int side, uint32_t address);

/* The neighbour if its MAC is known; else it is marked wanted and NULL comes back. */
struct hs_neighbour *hs_next_hops_resolve(struct hs_next_hops *hops, int side, uint32_t address);

/* Drops the entries that nobody knows, wants or has used lately, so that a scan of an on-link network cannot fill the
 * mirror for good. Pointers to entries end here. */
void hs_next_hops_forget_unused(struct hs_next_hops *hops);

#endif
