/* Which backend a new flow belongs to: one immutable table for each generation of a service.
 *
 * A table is a function of its members' ids and weights, the algorithm and its version, and of nothing else: not of the
 * order in which they were listed, not of what came before, not of the node. Two nodes with the same members have the
 * same table, and `digest` says so. It is built anywhere (a large one takes milliseconds) and then published by one
 * pointer.
 */
#ifndef HS_BACKEND_TABLE_H
#define HS_BACKEND_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/limits.h"
#include "core/ring.h"

enum hs_algorithm {
    HS_CONSISTENT_HASH,      /* a ring of vnodes (core/ring.h): a change moves arcs only */
    HS_MAGLEV,               /* 65,537 slots, the most even one (Eisenbud et al., NSDI 2016) */
    HS_ECMP,                 /* 65,536 buckets by weighted rendezvous: a change moves the least that can be */
    HS_ROUND_ROBIN,          /* in turn; the last two keep state (core/turns.h) and a flow keeps its backend */
    HS_WEIGHTED_ROUND_ROBIN, /* through the flow table alone */
    HS_ALGORITHMS
};

enum hs_backend_table_limits {
    HS_MAGLEV_SLOTS = 65537, /* a prime, so that every step of a permutation visits every slot */
    HS_ECMP_BUCKETS = 65536,
    HS_TABLE_VERSION = 1,    /* changes when the same members would give another table */
    HS_VNODES_PER_WEIGHT = 160,
};

struct hs_backend_table {
    enum hs_algorithm algorithm;
    uint32_t generation;
    uint32_t references; /* its holders' business: changed under the interpreter's lock only */
    uint32_t member_count;
    uint64_t digest;
    struct hs_ring_server *members; /* of weight > 0, each once, by id */
    struct hs_ring *ring;           /* HS_CONSISTENT_HASH */
    uint16_t *slots;                /* HS_MAGLEV, HS_ECMP: positions in `members` */
    uint32_t slot_count;
};

/* Members of weight 0 are left out, ones that are listed twice count once. `vnodes` per unit of weight, for the ring.
 * NULL: no memory, no vnodes, more vnodes than HS_VNODES_MAX, more members than HS_BACKENDS_MAX, or one with two weights. */
struct hs_backend_table *hs_backend_table_build(enum hs_algorithm algorithm, const struct hs_ring_server *members,
                                                uint32_t count, uint32_t generation, uint32_t vnodes);
void hs_backend_table_free(struct hs_backend_table *table);

/* The member (a position) that a key's hash belongs to, or -1: there is none. Not for tables that go in turn. */
int hs_backend_table_find(const struct hs_backend_table *table, uint32_t hash);

/* The member with this id, or -1. */
int hs_backend_table_position(const struct hs_backend_table *table, uint32_t server_id);

/* How many of the 2**32 hashes belong to each member; `keys` has room for all. Zeros for tables that go in turn. */
void hs_backend_table_shares(const struct hs_backend_table *table, uint64_t *keys);

/* How many of the 2**32 hashes belong to one id in `before` and to another in `after`; a table without members
 * owns none. Both of one algorithm that hashes. */
uint64_t hs_backend_table_moved(const struct hs_backend_table *before, const struct hs_backend_table *after);

/* What fills `slots`; `count` > 0. -1: no memory. */
int hs_maglev_fill(uint16_t *slots, const struct hs_ring_server *members, uint32_t count);
int hs_rendezvous_fill(uint16_t *buckets, const struct hs_ring_server *members, uint32_t count);

/* The first hash that belongs to slot `slot` of `slot_count`; `slot` = slot_count: 2**32. */
static inline uint64_t hs_backend_table_first_hash(uint32_t slot, uint32_t slot_count)
{
    return (((uint64_t)slot << 32) + slot_count - 1) / slot_count;
}

#endif
