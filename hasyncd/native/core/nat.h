/* Source NAT: a public address and port for a flow (net/netfilter/nf_nat_core.c: get_unique_tuple).
 *
 * The reply tuple is what must be unique, so one port serves many destinations. Three steps, each public address in
 * turn, the host's own first: the port that the tuple's hash prefers and its neighbours; then any port that nobody
 * uses, from a bitmap; then any port that is free towards this destination, from its page (core/port_pool.h). Only
 * when the last finds nothing is everything taken.
 *
 * The work of one packet is bounded: it looks at HS_NAT_LOOKS_MAX ports that are only held down, and where more pages
 * are wanted than HS_PAGE_BUILDS_PER_S it looks at as many ports in turn instead.
 */
#ifndef HS_NAT_H
#define HS_NAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/flow_table.h"
#include "core/hold_down.h"
#include "core/port_pool.h"
#include "core/rules.h"

struct hs_nat {
    struct hs_port_pool pool;
    struct hs_hold_down holds;
    uint32_t closing_place; /* where the next search for a closing connection begins */
    uint32_t scan_place;    /* where the next search without a page begins */
    uint32_t builds;        /* pages built in `builds_s` */
    uint64_t builds_s;
    uint64_t held_down; /* ports passed over because they were another's a moment ago */
};

struct hs_nat_request {
    const struct hs_flow_table *table;
    const struct hs_rules *rules;
    const struct hs_nat_rule *rule;
    const struct hs_tuple *original;
    uint64_t now_s;
};

bool hs_nat_init(struct hs_nat *nat, uint32_t capacity);
void hs_nat_free(struct hs_nat *nat);

/* Watches the public addresses of all rules. False: no memory. */
bool hs_nat_configure(struct hs_nat *nat, const struct hs_rules *rules,
                      const struct hs_flow_table *table);

/* The place that a tuple's hash prefers among `count`: every one equally often. */
uint32_t hs_nat_preferred_place(uint32_t hash, uint32_t count);

/* The ports that a flow from `port` (host order) may get. */
struct hs_eligible hs_nat_eligible(const struct hs_nat_rule *rule, uint8_t proto, uint16_t port);

/* Fills `reply` with a reply tuple that no flow uses. `*probes` counts the tuples that were tried. False: every
 * eligible port of every public address is taken. */
bool hs_nat_allocate(struct hs_nat *nat, const struct hs_nat_request *request, struct hs_tuple *reply,
                     uint32_t *probes);

/* When nothing is free: a TCP connection that is over, by FINs or RST, and that a SYN with this sequence number may
 * follow on the same ports (net/netfilter/nf_nat_core.c: nf_nat_used_tuple_harder). Bounded; the next call looks
 * further. `reply` is its reply tuple then. NULL: none was seen. */
struct hs_flow *hs_nat_find_closing(struct hs_nat *nat, const struct hs_nat_request *request,
                                    uint32_t sequence, struct hs_tuple *reply);

#endif
