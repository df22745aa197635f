#include "core/ring.h"

#include <stdlib.h>
#include <string.h>

#include "core/limits.h"
#include "core/siphash.h"

/* Public on purpose: the ring must be the same on both nodes and after a restart. What a client can aim at
 * is the key's hash, and that one is seeded. */
static const struct hs_seed vnode_seed = {0x686173796e636421u, 0x72696e672d763121u};

static int compare(const void *a, const void *b)
{
    const struct hs_vnode *left = a, *right = b;

    if (left->point != right->point)
        return left->point < right->point ? -1 : 1;
    return (left->server_id > right->server_id) - (left->server_id < right->server_id);
}

static struct hs_ring *allocate(uint32_t count, uint32_t generation)
{
    struct hs_ring *ring = malloc(sizeof *ring + count * sizeof ring->vnodes[0]);

    if (ring)
        *ring = (struct hs_ring){.count = count, .generation = generation};
    return ring;
}

struct hs_ring *hs_ring_from_vnodes(const struct hs_vnode *vnodes, uint32_t count,
                                    uint32_t generation)
{
    struct hs_ring *ring = allocate(count, generation);

    if (!ring)
        return NULL;
    if (count)
        memcpy(ring->vnodes, vnodes, count * sizeof *vnodes);
    for (uint32_t i = 0; i < count; i++)
        ring->vnodes[i].generation = generation;
    qsort(ring->vnodes, count, sizeof ring->vnodes[0], compare);
    return ring;
}

struct hs_ring *hs_ring_build(const struct hs_ring_server *servers, uint32_t count,
                              uint32_t generation, uint32_t vnodes)
{
    struct hs_ring *ring;
    uint64_t total = 0;
    uint32_t at = 0;

    for (uint32_t i = 0; i < count; i++)
        total += (uint64_t)servers[i].weight * vnodes;
    ring = total <= HS_VNODES_MAX ? allocate((uint32_t)total, generation) : NULL;
    if (!ring)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < servers[i].weight * vnodes; k++) {
            uint8_t name[8] = {
                (uint8_t)(servers[i].server_id >> 24), (uint8_t)(servers[i].server_id >> 16),
                (uint8_t)(servers[i].server_id >> 8), (uint8_t)servers[i].server_id,
                (uint8_t)(k >> 24), (uint8_t)(k >> 16), (uint8_t)(k >> 8), (uint8_t)k,
            };

            ring->vnodes[at++] = (struct hs_vnode){
                .point = (uint32_t)hs_siphash(vnode_seed, name, sizeof name),
                .server_id = servers[i].server_id,
                .weight = servers[i].weight,
                .generation = generation,
            };
        }
    }
    qsort(ring->vnodes, total, sizeof ring->vnodes[0], compare);
    return ring;
}

const struct hs_vnode *hs_ring_find(const struct hs_ring *ring, uint32_t hash)
{
    uint32_t low = 0, high = ring->count;

    if (!ring->count)
        return NULL;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (ring->vnodes[middle].point < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return &ring->vnodes[low == ring->count ? 0 : low];
}
