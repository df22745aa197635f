/* Consistent hashing: one sorted ring of virtual nodes (Karger et al. 1997), never changed in place.
 *
 * A key belongs to the first vnode whose point is greater than or equal to the key's hash, clockwise.
 * Vnode k of a server depends on (server_id, k) alone, so that a change of weight or membership moves
 * only the arcs of the vnodes that came or went.
 */
#ifndef HS_RING_H
#define HS_RING_H

#include <stdint.h>

struct hs_vnode {
    uint32_t point;
    uint32_t server_id;
    uint16_t weight;
    uint32_t generation;
};

struct hs_ring {
    uint32_t count;
    uint32_t generation;
    struct hs_vnode vnodes[];
};

struct hs_ring_server {
    uint32_t server_id;
    uint16_t weight;
};

/* `vnodes` per unit of weight. NULL: no memory, or more than HS_VNODES_MAX in all. An empty list makes an empty ring. */
struct hs_ring *hs_ring_build(const struct hs_ring_server *servers, uint32_t count,
                              uint32_t generation, uint32_t vnodes);

/* The same from given points, for worked examples: sorts them by (point, server_id). */
struct hs_ring *hs_ring_from_vnodes(const struct hs_vnode *vnodes, uint32_t count,
                                    uint32_t generation);

/* The vnode that a key's hash belongs to, or NULL for an empty ring. */
const struct hs_vnode *hs_ring_find(const struct hs_ring *ring, uint32_t hash);

#endif
