#include "core/sources.h"

#include <stdlib.h>
#include <string.h>

bool hs_sources_init(struct hs_sources *sources, uint32_t capacity)
{
    *sources = (struct hs_sources){.size = capacity / 4 < 64 ? 64 : capacity / 4};
    sources->slots = calloc(sources->size, sizeof *sources->slots);
    return sources->slots;
}

void hs_sources_free(struct hs_sources *sources)
{
    free(sources->slots);
}

void hs_sources_clear(struct hs_sources *sources)
{
    memset(sources->slots, 0, sources->size * sizeof *sources->slots);
    sources->used = 0;
}

static uint32_t home_of(const struct hs_sources *sources, struct hs_seed seed, uint32_t address)
{
    return (uint32_t)((hs_siphash(seed, &address, sizeof address) >> 32) * sources->size >> 32);
}

static uint32_t after(const struct hs_sources *sources, uint32_t slot)
{
    return slot + 1 == sources->size ? 0 : slot + 1;
}

/* Where the address is, or the empty slot where it would be. */
static uint32_t place_of(const struct hs_sources *sources, struct hs_seed seed, uint32_t address)
{
    uint32_t slot = home_of(sources, seed, address);

    while (sources->slots[slot].address && sources->slots[slot].address != address)
        slot = after(sources, slot);
    return slot;
}

struct hs_source *hs_sources_find(const struct hs_sources *sources, struct hs_seed seed, uint32_t address)
{
    struct hs_source *source = &sources->slots[place_of(sources, seed, address)];

    return source->address && address ? source : NULL;
}

struct hs_source *hs_sources_get(struct hs_sources *sources, struct hs_seed seed, uint32_t address)
{
    struct hs_source *source = &sources->slots[place_of(sources, seed, address)];

    if (source->address || !address)
        return address ? source : NULL;
    if (hs_sources_are_full(sources))
        return NULL;
    sources->used++;
    *source = (struct hs_source){.address = address};
    return source;
}

void hs_sources_settle(struct hs_sources *sources, struct hs_seed seed, struct hs_source *source)
{
    uint32_t hole, slot;

    if (source->flows || source->half_open)
        return;
    hole = slot = (uint32_t)(source - sources->slots);
    source->address = 0;
    sources->used--;
    /* Whoever passed by the slot on the way from home moves up, so that no search ends too soon. */
    while (sources->slots[slot = after(sources, slot)].address) {
        uint32_t home = home_of(sources, seed, sources->slots[slot].address);
        bool passed = hole <= slot ? home <= hole || home > slot : home <= hole && home > slot;

        if (!passed)
            continue;
        sources->slots[hole] = sources->slots[slot];
        sources->slots[slot].address = 0;
        hole = slot;
    }
}
