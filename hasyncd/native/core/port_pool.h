/* Which public ports are taken: what makes the search for a port exhaustive and its cost flat.
 *
 * For each public address and protocol a bitmap of the ports that any flow uses, with a count of flows behind each
 * bit; and for the few destinations towards which ports run short a page: a bitmap of the ports that are taken
 * towards this one address and port, for reuse that depends on the endpoint. A page costs a lookup for each
 * port that anybody uses (64,512 take some 5 to 20 ms), once. Memory goes with the public addresses
 * (792 KiB each, untouched pages free), never with the flows.
 */
#ifndef HS_PORT_POOL_H
#define HS_PORT_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/flow_table.h"

enum { HS_PORT_WORDS = 65536 / 64, HS_PAGE_SETS = 16, HS_PAGE_WAYS = 4 };

/* Ports first, first + step, …, `count` of them: what one flow may be given. Host order. */
struct hs_eligible {
    uint16_t first, step;
    uint32_t count;
};

struct hs_public_ports {
    uint32_t address;
    uint32_t *flows[3]; /* by protocol: flows on each port */
    uint64_t *used[3];  /* a bit a port: flows > 0 */
};

struct hs_port_page {
    uint32_t public, remote;
    uint16_t remote_port;
    uint8_t proto; /* 0: an empty page */
    uint64_t used_at;
    uint64_t failed_s; /* every port of `failed` was refused in this second, and none was freed since; 0: no */
    struct hs_eligible failed;
    uint64_t *taken;
};

struct hs_port_pool {
    struct hs_public_ports *publics; /* sorted by address */
    uint32_t public_count;
    struct hs_port_page pages[HS_PAGE_SETS][HS_PAGE_WAYS];
    uint64_t lookups; /* the pages' clock */
    uint64_t pages_built;
};

bool hs_port_pool_init(struct hs_port_pool *pool);
void hs_port_pool_free(struct hs_port_pool *pool);

/* Watches these addresses from now on and counts the flows of `table`. False: no memory; nothing is watched. */
bool hs_port_pool_configure(struct hs_port_pool *pool, const uint32_t *addresses, uint32_t count,
                            const struct hs_flow_table *table);
/* Counts the table's flows anew. */
void hs_port_pool_recount(struct hs_port_pool *pool, const struct hs_flow_table *table);

/* A flow with this reply tuple came, or went. Addresses that are not watched are passed over. */
void hs_port_pool_take(struct hs_port_pool *pool, const struct hs_tuple *reply);
void hs_port_pool_release(struct hs_port_pool *pool, const struct hs_tuple *reply);

/* The bitmap of ports that anybody uses, or NULL where the address is not watched. */
const uint64_t *hs_port_pool_used(const struct hs_port_pool *pool, uint32_t address, uint8_t proto);

/* The page of a reply tuple's destination, or NULL; `build` makes it where there is none. */
struct hs_port_page *hs_port_pool_page(struct hs_port_pool *pool, const struct hs_flow_table *table,
                                       const struct hs_tuple *reply, bool build);

/* The lowest port of [low, high] of the eligible parity whose bit is clear, or -1. */
int32_t hs_port_bitmap_find(const uint64_t *bitmap, const struct hs_eligible *eligible, uint32_t low,
                            uint32_t high);

#endif
