/* The flow table: a fixed array of slots, both tuples of each flow in one index (core/flow_index.h), all flows in one
 * timing wheel (core/flow_wheel.c).
 *
 * Ownership: `hs_flow_table_create` allocates everything the table will ever need. Pointers to flows
 * stay valid until the flow is removed. One thread. Time is an argument, in milliseconds of the
 * caller's clock. A slot's index is the flow's handle on the wire (proto/sync.md §3.2).
 *
 *     struct hs_flow_table *table = hs_flow_table_create(1 << 20, seed);
 *     struct hs_flow *flow = hs_flow_table_add(table, &original, &reply, now_ms, timeout_s);
 *     struct hs_found found = hs_flow_table_find(table, &tuple);
 *     hs_flow_table_remove(table, flow);
 */
#ifndef HS_FLOW_TABLE_H
#define HS_FLOW_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/flow_index.h"
#include "core/siphash.h"
#include "core/tcp_state.h"
#include "core/tuple.h"

#define HS_NOTHING UINT32_MAX

enum { HS_GRAIN_SLOTS = 16 }; /* of the digests that are kept: core/buckets.h */

enum hs_flow_flags {
    HS_FLOW_DNAT = 1 << 0,      /* a balanced flow; else source NAT */
    HS_FLOW_BOTH_SEEN = 1 << 1, /* both directions were seen */
    HS_FLOW_UDP = 1 << 2,
    HS_FLOW_ICMP = 1 << 3,
    HS_FLOW_ON_WIRE = 0x0f, /* the flags above travel and are digested; those below are ours alone */
    HS_FLOW_LIBERAL_ORIGINAL = 1 << 4, /* imported, and this direction not yet seen here */
    HS_FLOW_LIBERAL_REPLY = 1 << 5,
    HS_FLOW_LIBERAL = 0x30,
    HS_FLOW_UNCOMMITTED = 1 << 6, /* packets wait for its ADD (proto/sync.md §6) */
    HS_FLOW_AT_RISK = 1 << 7,
};

/* UDP and ICMP states beside enum hs_tcp_state. */
enum hs_simple_state { HS_UNREPLIED = 1, HS_REPLIED = 2 };

/* What this node keeps count of. */
enum hs_local_flags {
    HS_LOCAL_COUNTED = 1 << 0,   /* among its source's flows */
    HS_LOCAL_HALF_OPEN = 1 << 1, /* among its source's half-open flows */
    HS_LOCAL_SEQUENCE = 1 << 2,  /* `sequence` of the original direction is known: a packet came by here */
    HS_LOCAL_SEQUENCE_REPLY = 1 << 3,
    HS_LOCAL_EMIT = 1 << 4, /* its first packets wait for write(2), else for the ACK (core/commit.c) */
    HS_LOCAL_UNANSWERED = 1 << 5, /* counted as such with its backend */
    HS_LOCAL_OFFLOADED = 1 << 6, /* the kernel forwards it (core/offload.h) */
    HS_LOCAL_ONE_WAY = 1 << 7,   /* its original direction alone */
};

/* 96 bytes, so that a flow is never on more than two cache lines and both tuples are on one; what a packet reads or
 * writes stands before what only the peer's stream or a removal asks for. */
struct hs_flow {
    struct hs_tuple tuple[2]; /* by enum hs_direction */
    uint64_t expires_ms;
    uint64_t bytes[2];
    uint32_t packets[2];
    uint32_t sequence[2];   /* TCP: where the data of a direction ended, if local says that it is known */
    uint8_t state;          /* 0: the slot is empty */
    uint8_t flags;
    uint8_t local;          /* enum hs_local_flags */
    bool lived;             /* a flow was ever in the slot: its version means something */
    uint16_t version;       /* proto/sync.md §3.2; remembered while the slot is empty */
    int16_t rule;           /* service or NAT rule, -1 none */
    uint16_t backend;       /* position in the service's list */
    uint16_t wheel_slot;    /* the second (modulo the wheel) whose list holds it */
    uint32_t add_sequence;  /* of its ADD, the low half: a flow waits for this record and for no later one */
    uint32_t risk_sequence; /* of the last ADD or state change in the delta log, the low half */
    uint16_t told_s;        /* the expiry that the peer was last told, in seconds of our clock, its low half */
    uint16_t sync_round;    /* the full sync that wrote it last: the next one sweeps those that are not of it */
};

/* 14 of index, 8 of wheel, 4 of hold-down (core/hold_down.h), 3 of sources (core/sources.h), 0.8 of ports
 * (core/port_pool.h): less than 128. */
_Static_assert(sizeof(struct hs_flow) == 96, "flow size");

struct hs_found {
    struct hs_flow *flow; /* NULL: no such tuple */
    enum hs_direction direction;
};

struct hs_wheel_link {
    uint32_t next, previous; /* slots */
};

struct hs_flow_wheel {
    uint32_t *seconds;           /* the first flow of each second's list */
    struct hs_wheel_link *links; /* one a slot */
    uint64_t second;             /* the next to be looked at */
    uint32_t due;                /* list of flows taken from the wheel, not yet looked at */
};

enum { HS_FULL_LEVELS = 2 };

struct hs_flow_table {
    struct hs_flow *flows;
    struct hs_flow_index index;
    struct hs_flow_wheel wheel;
    uint64_t *used;                 /* a bit a slot */
    uint64_t *full[HS_FULL_LEVELS]; /* a bit a word of `used`, and of the level below: all its slots are taken */
    struct hs_seed seed;
    uint64_t digest;
    uint64_t *grains; /* its share of every HS_GRAIN_SLOTS slots */
    uint32_t capacity, words;
    uint32_t count, by_protocol[3]; /* TCP, UDP, ICMP */
    uint32_t half_open;
    uint16_t sync_round;
    struct hs_long_ends *ends6; /* core/ends6.h; NULL: there are no IPv6 flows */
};

struct hs_flow_table *hs_flow_table_create(uint32_t capacity, struct hs_seed seed);
void hs_flow_table_destroy(struct hs_flow_table *table);

/* Empties the table and takes a new seed; slots keep their versions. */
void hs_flow_table_reset(struct hs_flow_table *table, struct hs_seed seed);

static inline uint32_t hs_flow_slot(const struct hs_flow_table *table, const struct hs_flow *flow)
{
    return (uint32_t)(flow - table->flows);
}

/* Whether there is a flow in the slot. */
static inline bool hs_flow_table_holds(const struct hs_flow_table *table, uint32_t slot)
{
    return table->used[slot / 64] >> slot % 64 & 1;
}

/* A search in stages, so that the memory that one waits for is fetched while others of a batch are worked on: hash all,
 * prefetch all buckets, prefetch all flows, find all. The table may change in between: only `find` decides. */
static inline uint64_t hs_flow_table_hash(const struct hs_flow_table *table, const struct hs_tuple *tuple)
{
    return hs_siphash_1_3(table->seed, tuple);
}
static inline void hs_flow_table_prefetch_bucket(const struct hs_flow_table *table, uint64_t hash)
{
    __builtin_prefetch(&table->index.buckets[hs_flow_index_home(&table->index, hash)]);
}
void hs_flow_table_prefetch_flow(const struct hs_flow_table *table, uint64_t hash, uint8_t family);
struct hs_found hs_flow_table_find_hashed(const struct hs_flow_table *table, const struct hs_tuple *tuple,
                                          uint64_t hash);

static inline struct hs_found hs_flow_table_find(const struct hs_flow_table *table, const struct hs_tuple *tuple)
{
    return hs_flow_table_find_hashed(table, tuple, hs_flow_table_hash(table, tuple));
}

/* Puts a flow into a free slot under a new version, or into the empty slot `slot` under `version`. NULL: the
 * table is full. The caller made sure that neither tuple is in the table. */
struct hs_flow *hs_flow_table_add(struct hs_flow_table *table, const struct hs_tuple tuple[2],
                                  uint8_t state, uint8_t flags, uint64_t expires_ms);
struct hs_flow *hs_flow_table_add_at(struct hs_flow_table *table, uint32_t slot, uint16_t version,
                                     const struct hs_tuple tuple[2], uint8_t state, uint8_t flags,
                                     uint64_t expires_ms);
void hs_flow_table_remove(struct hs_flow_table *table, struct hs_flow *flow);

/* Changes what the digest covers; counts half-open flows. */
void hs_flow_set_state(struct hs_flow_table *table, struct hs_flow *flow, uint8_t state,
                       uint8_t flags);

uint32_t hs_flow_timeout_s(const struct hs_flow *flow);
bool hs_flow_is_half_open(uint8_t state, uint8_t flags);

/* Both ends are translated: from inside to a public address of ours and back inside (RFC 4787 REQ-9). */
static inline bool hs_flow_is_hairpin(const struct hs_flow *flow)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];

    return reply->src_addr != original->dst_addr && reply->dst_addr != original->src_addr;
}

/* One flow's share in the table's digest (proto/sync.md §8). */
uint64_t hs_flow_digest(const struct hs_flow_table *table, const struct hs_flow *flow);

/* What both families' digests end with: the handle, u24, in bytes that are 0, and state, flags and version. A reply of
 * another protocol than its original is nothing that was ever put into the table: it shows too. */
static inline void hs_flow_digest_tail(const struct hs_flow_table *table, const struct hs_flow *flow,
                                       uint8_t handle[3], uint8_t last[4])
{
    uint32_t slot = hs_flow_slot(table, flow), original, reply;

    handle[0] ^= (uint8_t)(slot >> 16);
    handle[1] ^= (uint8_t)(slot >> 8);
    handle[2] ^= (uint8_t)slot;
    last[0] = flow->state;
    last[1] = flow->flags & HS_FLOW_ON_WIRE;
    last[2] = (uint8_t)(flow->version >> 8);
    last[3] = (uint8_t)flow->version;
    memcpy(&original, &flow->tuple[HS_ORIGINAL].proto, 4);
    memcpy(&reply, &flow->tuple[HS_REPLY].proto, 4);
    for (int i = 0; i < 4; i++)
        last[i] ^= (uint8_t)((original ^ reply) >> 8 * i);
}

/* That share changes, modulo 2^64: the one place where digests are kept. */
static inline void hs_flow_shift_digest(struct hs_flow_table *table, const struct hs_flow *flow, uint64_t by)
{
    table->digest += by;
    table->grains[hs_flow_slot(table, flow) / HS_GRAIN_SLOTS] += by;
}

/* --- flow_wheel.c ------------------------------------------------------------------------- */

/* A later expiry is free (the wheel finds out); an earlier one moves the flow in the wheel. */
void hs_flow_set_expiry(struct hs_flow_table *table, struct hs_flow *flow, uint64_t expires_ms);

/* The next flow that is due by `now_ms`, or NULL; at most `*budget` flows are looked at. */
struct hs_flow *hs_flow_table_next_expired(struct hs_flow_table *table, uint64_t now_ms,
                                           uint32_t *budget);

/* Some flow is, or may be, due by `now_ms` and was not looked at. */
static inline bool hs_flow_wheel_is_behind(const struct hs_flow_wheel *wheel, uint64_t now_ms)
{
    return wheel->due != HS_NOTHING || wheel->second < now_ms / 1000;
}

/* For flow_table.c: a flow enters with its expiry set, and leaves. */
bool hs_flow_wheel_init(struct hs_flow_wheel *wheel, uint32_t capacity);
void hs_flow_wheel_free(struct hs_flow_wheel *wheel, uint32_t capacity);
void hs_flow_wheel_clear(struct hs_flow_wheel *wheel);
void hs_flow_wheel_insert(struct hs_flow_table *table, struct hs_flow *flow);
void hs_flow_wheel_remove(struct hs_flow_table *table, struct hs_flow *flow);

#endif
