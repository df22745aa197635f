/* The maps of the kernel's flow cache (tc/flow_cache.bpf.c), filled as the core says (core/offload.h). Whoever loaded the
 * program hands in their descriptors; here are bpf(2) and shared memory only. */
#ifndef HS_FLOW_CACHE_H
#define HS_FLOW_CACHE_H

#include <stdint.h>

#include "core/gateway.h"

struct hs_flow_cache;

struct hs_flow_cache_maps {
    int flows, flows6, uses, control, counters;
    uint32_t cpus; /* that the kernel counts with: of `counters` */
};

/* Takes duplicates of the descriptors, so that the caller's stay his. NULL with errno. */
struct hs_flow_cache *hs_flow_cache_open(const struct hs_flow_cache_maps *maps, uint32_t capacity);
/* NULL is nothing. The gateway has forgotten it before (`hs_offload_stop`). */
void hs_flow_cache_close(struct hs_flow_cache *cache);

/* Begins to hold the gateway's flows, which come by these interfaces; 0 or an errno. */
int hs_flow_cache_start(struct hs_flow_cache *cache, struct hs_gateway *g, const uint32_t ifindex[HS_SIDES]);

/* Does what the core has asked for since, a bounded part of it, and makes the gateway's lease the cache's. */
void hs_flow_cache_settle(struct hs_flow_cache *cache, struct hs_gateway *g);

/* What was counted on all CPUs. */
struct hs_cache_counters hs_flow_cache_count(const struct hs_flow_cache *cache);

#endif
