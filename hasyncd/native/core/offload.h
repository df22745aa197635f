/* Which flows the kernel forwards by itself (the tc engine): those that need no decision any more. The table stays the
 * authority, the kernel holds a cache of it.
 *
 *     a packet of an established, confirmed flow -> queue -> io/flow_cache.c puts its two entries
 *     FIN, RST, age, displaced, reset            -> keys  -> io/flow_cache.c takes them out
 *     a lap over the table, a bite a tick        -> what the kernel counted and saw last: ageing, UPDATEs, sequence numbers
 *
 * What io is asked to do stands here until it asks (`hs_offload_next`); no system calls. The uses are shared memory: their
 * reading asks nobody. Removals come before what is put, so that a port that was given anew never meets its old entry.
 */
#ifndef HS_OFFLOAD_H
#define HS_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/cached_flow.h"
#include "core/flow_table.h"

struct hs_gateway;

enum hs_offload_limits {
    HS_OFFLOAD_PACKETS = 8,      /* of a flow, before it is worth two entries: a short connection never is */
    HS_OFFLOAD_LAP_TICKS = 800,  /* of 10 ms, of a lap over the table */
    HS_OFFLOAD_HURRY = 16,       /* times as many slots a tick, after routes changed */
};

union hs_offload_key {
    struct hs_cache_key v4;
    struct hs_cache_key6 v6;
};

union hs_offload_entry {
    struct hs_cache_entry v4;
    struct hs_cache_entry6 v6;
};

/* One flow, to be put or taken out: both directions, or of a datagram's flow that nobody has answered the original one. */
struct hs_offload_change {
    union hs_offload_key keys[2];
    union hs_offload_entry entries[2]; /* if `put` */
    uint32_t slot, directions;
    bool put, is6;
};

struct hs_offload_keys {
    union hs_offload_key keys[2];
    bool is6;
};

/* All zero: there is no cache, and nothing here costs anything. */
struct hs_offload {
    bool on;
    bool purge;    /* whatever the cache holds is of a table that is no more: io empties it first */
    bool hurry;    /* until the lap ends: entries are of an old epoch */
    uint32_t capacity, cached;
    uint32_t ifindex[HS_CACHE_SIDES];
    struct hs_cache_use *uses; /* [direction * capacity + slot] */
    struct hs_cache_control *control;
    uint64_t *queued;          /* a bit a slot */
    uint32_t *queue;           /* a ring: each slot once at most */
    uint32_t queue_first, queue_count;
    struct hs_offload_keys *gone; /* as many at most as there are flows in the cache */
    uint32_t gone_count;
    uint32_t cursor;           /* of the lap */
    uint64_t routes;           /* what they were, folded */
    uint64_t put, taken, refused; /* flows */
};

/* From now on there is a cache; `uses` (2 * capacity) and `control` live until `hs_offload_stop`. False: no memory. */
bool hs_offload_start(struct hs_gateway *g, struct hs_cache_use *uses, struct hs_cache_control *control,
                      const uint32_t ifindex[HS_CACHE_SIDES]);
void hs_offload_stop(struct hs_gateway *g);
/* The table was emptied. */
void hs_offload_forget_all(struct hs_gateway *g);
/* Routes or MTUs may have changed. */
void hs_offload_reroute(struct hs_gateway *g);
/* Backends may have gone down, come back, or been removed. */
void hs_offload_judge_backends(struct hs_gateway *g);
/* One store: the lease of the gateway is the cache's, and what it saw is the gateway's. */
void hs_offload_publish(struct hs_gateway *g);

/* A bite of the lap. */
void hs_offload_tick(struct hs_gateway *g, uint64_t now_ns);
/* The flow leaves the table. */
void hs_offload_gone(struct hs_gateway *g, struct hs_flow *flow);
/* Takes over what the kernel counted; true: it saw the flow since this was asked last. */
bool hs_offload_refresh(struct hs_gateway *g, struct hs_flow *flow, uint64_t now_ns);
/* Whether the flow's place in the cache should be looked at, for itself or for a packet that it just had. */
void hs_offload_consider(struct hs_gateway *g, const struct hs_flow *flow);

/* What is to be done next; false: nothing. The caller does it, or says that it could not. */
bool hs_offload_next(struct hs_gateway *g, struct hs_offload_change *change);
void hs_offload_refused(struct hs_gateway *g, uint32_t slot);

/* --- offload_entries.c: what an entry says --------------------------------------------------- */

/* How the packets of both directions are found; true: of IPv6. */
bool hs_offload_name(const struct hs_gateway *g, const struct hs_flow *flow, union hs_offload_key keys[2]);
/* What becomes of them; false: no entry can say that (no route, or it leaves where it came in). */
bool hs_offload_describe(const struct hs_gateway *g, const struct hs_flow *flow, struct hs_offload_change *change);

#endif
