/* Source NAT: a public address and port for a flow (net/netfilter/nf_nat_core.c: get_unique_tuple). */
#ifndef HS_NAT_H
#define HS_NAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/flow_table.h"
#include "core/rules.h"

/* The port that a tuple's hash prefers: every port of [first, last] equally often. */
uint16_t hs_nat_preferred_port(uint32_t hash, uint16_t first, uint16_t last);

/* Fills `reply` with a reply tuple that no flow uses: the preferred port first, then every other port of every
 * public address. `*probes` counts what was tried. False: every one is taken. */
bool hs_nat_allocate(const struct hs_flow_table *table, const struct hs_rules *rules,
                     const struct hs_nat_rule *rule, const struct hs_tuple *original,
                     struct hs_tuple *reply, uint32_t *probes);

#endif
