/* Which public ports are taken towards whom: what makes the search for a port exhaustive and its cost flat.
 *
 * Ports are looked at in blocks of 512. Where few ports of a block are taken towards a destination, a port tried at
 * random is free; where many are, the block is remembered as a bitmap, kept up to date with every flow that comes
 * and goes. A bitmap lasts as long as HS_BLOCK_KEEP of its bits are set, so their number is bounded by the flows and
 * the ports held down, and so is the memory: 0.8 bytes a flow. To make one costs 512 lookups, and is paid for by
 * the flows that filled the block.
 *
 * Beside them, for each public address and protocol, the ports that nobody gets: those of services, of forwards and
 * of the host itself.
 */
#ifndef HS_PORT_POOL_H
#define HS_PORT_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/siphash.h"
#include "core/tuple.h"

enum {
    HS_BLOCK_PORTS = 512,
    HS_BLOCK_WORDS = HS_BLOCK_PORTS / 64,
    HS_BLOCK_STORE = 224, /* ports taken that make a bitmap worth remembering: less than all of one parity */
    HS_BLOCK_KEEP = 176,  /* and those that let it stay */
    HS_PORT_WORDS = 65536 / 64,
    HS_REFUSALS = 256, /* a power of two */
};

/* Ports first, first + step, …, `count` of them: what one flow may be given. Host order. */
struct hs_eligible {
    uint16_t first, step;
    uint32_t count;
};

struct hs_public_ports {
    uint32_t address;
    uint32_t hold_down_s; /* the longest of the rules that use the address */
    uint64_t *denied[3];  /* by protocol: a bit a port that nobody gets */
};

/* 512 ports of a public address, towards one destination. */
struct hs_port_block {
    uint64_t taken[HS_BLOCK_WORDS]; /* by a flow, or held down */
    uint32_t public, remote;
    uint16_t remote_port;
    uint8_t proto, place; /* its first port / 512 */
    uint16_t count;       /* bits set */
    uint32_t next;
    uint32_t recheck_s; /* from then on a bit may be set that need not be: a hold-down has ended; 0: none */
};

/* Ports in pairs 2n, 2n + 1 by turns: so the halves of every range of every rule are disjoint and as large, whatever its
 * bounds, its parity or its class, and a pair stays together (proto/pair.md §7a). */
enum hs_port_half { HS_WHOLE_RANGE, HS_HALF_A, HS_HALF_B };

static inline bool hs_port_in_half(enum hs_port_half half, uint32_t port)
{
    return half == HS_WHOLE_RANGE || (port >> 1 & 1) == (half == HS_HALF_B);
}

/* A search that found nothing; it need not be made again before a port comes free or the second is over. */
struct hs_refusal {
    uint32_t public, remote;
    uint16_t remote_port;
    uint8_t proto, half;
    uint64_t at_s; /* 0: none */
    const void *rule;
    struct hs_eligible eligible;
};

struct hs_port_pool {
    struct hs_public_ports *publics; /* sorted by address */
    uint32_t public_count;
    struct hs_port_block *blocks;
    uint32_t *heads;
    uint32_t size, live, free, hand;
    uint64_t key[3];
    struct hs_refusal refusals[HS_REFUSALS];
    uint64_t blocks_built;
};

bool hs_port_pool_init(struct hs_port_pool *pool, uint32_t capacity);
void hs_port_pool_free(struct hs_port_pool *pool);

/* Watches these addresses from now on, with nothing denied. False: no memory; nothing is watched. */
bool hs_port_pool_configure(struct hs_port_pool *pool, const uint32_t *addresses, uint32_t count);
/* Forgets every bitmap, and hashes by another seed. */
void hs_port_pool_clear(struct hs_port_pool *pool, struct hs_seed seed);

struct hs_public_ports *hs_port_pool_public(const struct hs_port_pool *pool, uint32_t address);
uint64_t *hs_public_denied(const struct hs_public_ports *public, uint8_t proto);
void hs_public_deny(const struct hs_public_ports *public, uint8_t proto, uint16_t port);

/* A flow with this reply tuple came, or went. */
void hs_port_pool_take(struct hs_port_pool *pool, const struct hs_tuple *reply);
void hs_port_pool_release(struct hs_port_pool *pool, const struct hs_tuple *reply);

/* The bitmap of the block that begins at 512 * `place`, towards a reply tuple's destination, or NULL. */
struct hs_port_block *hs_port_pool_find(const struct hs_port_pool *pool, const struct hs_tuple *reply, uint32_t place);
/* Remembers a bitmap that is not there yet; where all room is taken, another is forgotten. */
struct hs_port_block *hs_port_pool_store(struct hs_port_pool *pool, const struct hs_port_block *made);
/* Forgets it. */
void hs_port_pool_drop(struct hs_port_pool *pool, struct hs_port_block *block);

/* Where a refusal towards the tuple's destination is remembered. */
struct hs_refusal *hs_port_pool_refusal(struct hs_port_pool *pool, const struct hs_tuple *reply);

#endif
