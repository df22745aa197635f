/* What a sync has to remember while it runs (proto/sync.md §7): core/replicate.c, core/install.c, core/scrub.c. */
#ifndef HS_SYNC_STATE_H
#define HS_SYNC_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buckets.h"

/* The cursor of a sync, on the primary. */
struct hs_snapshot {
    struct hs_suspects suspects;
    bool refresh;       /* flows of the other buckets are told by an UPDATE */
    uint32_t slot;      /* the next to be looked at */
};

/* Bytes of `counted`. */
static inline size_t hs_sync_counted_bytes(uint32_t capacity)
{
    return ((capacity - 1) / HS_GRAIN_SLOTS / 64 + 1) * sizeof(uint64_t);
}

/* A sync, on the backup. */
struct hs_sync {
    struct hs_suspects suspects;
    uint64_t *counted;                           /* a bit a grain: its digest was counted anew */
    bool running;                                /* between begin_sync and end_sync */
    uint32_t added, replaced, removed, unchanged; /* flows of suspect buckets */
};

/* A walk over the table that counts digests anew from the flows' memory. */
struct hs_scrub {
    uint32_t seconds; /* the whole table once in so many; 0: never */
    uint32_t slot;    /* the next */
    uint64_t paid_ns; /* what was due up to this moment is done */
};

#endif
