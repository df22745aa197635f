/* Flows by source address: quotas (RFC 6888 REQ-4) and half-open flows of one sender.
 *
 * An open-addressed hash of the sources that have any, a quarter as many slots as the table has flows.
 */
#ifndef HS_SOURCES_H
#define HS_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/siphash.h"

struct hs_source {
    uint32_t address; /* network order; 0: an empty slot */
    uint32_t flows, half_open;
};

struct hs_sources {
    struct hs_source *slots;
    uint32_t size, used;
};

bool hs_sources_init(struct hs_sources *sources, uint32_t capacity);
void hs_sources_free(struct hs_sources *sources);
void hs_sources_clear(struct hs_sources *sources);

/* The counts of a source, or NULL. The pointer is good until the next call of the others. */
struct hs_source *hs_sources_find(const struct hs_sources *sources, struct hs_seed seed, uint32_t address);
/* The same, made where it is missing; NULL: there is no room for another source. */
struct hs_source *hs_sources_get(struct hs_sources *sources, struct hs_seed seed, uint32_t address);
/* Whether there is no room for another source. */
static inline bool hs_sources_are_full(const struct hs_sources *sources)
{
    return sources->used >= sources->size - sources->size / 8;
}
/* Gives back the slot of a source whose counts are 0. */
void hs_sources_settle(struct hs_sources *sources, struct hs_seed seed, struct hs_source *source);

#endif
