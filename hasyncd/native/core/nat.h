/* Source NAT: a public address and port for a flow (net/netfilter/nf_nat_core.c: get_unique_tuple). */
#ifndef HS_NAT_H
#define HS_NAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/flow_table.h"
#include "core/rules.h"

/* The port that a tuple's hash prefers: every port of [first, last] equally often. */
uint16_t hs_nat_preferred_port(uint32_t hash, uint16_t first, uint16_t last);

/* Fills `reply` with a reply tuple that no flow uses: the preferred port first, then those behind it, of every public
 * address. `*probes` counts what was tried. False: none was found.
 *
 * A packet looks at HS_NAT_LOOKS_MAX ports at most: a full scan of 64,512 takes 19 ms, and a batch of packets to an
 * exhausted server would outlast the peer's patience. A larger range is looked at in part: half of the looks go behind
 * the preferred port, half go on where the rule's last vain scan ended, so that a free port is met sooner or later. */
bool hs_nat_allocate(const struct hs_flow_table *table, const struct hs_rules *rules,
                     struct hs_nat_rule *rule, const struct hs_tuple *original,
                     struct hs_tuple *reply, uint32_t *probes);

#endif
