/* Source NAT: a public address and port for a flow (net/netfilter/nf_nat_core.c: get_unique_tuple).
 *
 * The reply tuple is what must be unique, so one port serves many destinations. Each public address in turn, the
 * host's own first: the port that the tuple's hash prefers and its neighbours; then every other port, in blocks, from
 * the preferred one's on (core/port_pool.h). So a flow is refused only when every eligible port of every address is
 * taken towards its destination or held down.
 *
 * What that costs does not grow with the table, nor with what is taken: HS_NAT_PROBES tuples, HS_BLOCK_PROBES in a
 * block without a bitmap, and bitmaps for those that are full. A bitmap costs 512 lookups when its block has filled
 * up, and as many in each second in which one of its ports is to come out of hold-down.
 *
 * A node that is alone has the ports of `half` first, on every address, and the others only when those are gone: its
 * peer may be giving out the others at the same time (proto/pair.md §7a).
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
    struct hs_seed seed;
    uint32_t closing_place; /* where the next search for a closing connection begins */
    uint64_t held_down;     /* ports passed over because they were another's a moment ago */
    enum hs_port_half half; /* what may be given out while any of it is left */
    uint64_t other_half;    /* ports given out of the other one, because nothing was */
};

struct hs_nat_request {
    const struct hs_flow_table *table;
    const struct hs_rules *rules;
    const struct hs_nat_rule *rule;
    const struct hs_tuple *original;
    uint64_t now_s;
    const struct hs_flow *instead; /* its port counts as free: the answer to "what if it were made now"; or NULL */
};

bool hs_nat_init(struct hs_nat *nat, uint32_t capacity, struct hs_seed seed);
void hs_nat_free(struct hs_nat *nat);

/* Watches the public addresses of all rules: an address that it does not watch is not searched. False: no memory. */
bool hs_nat_configure(struct hs_nat *nat, const struct hs_rules *rules);
/* The ways in or the options of rules changed. */
void hs_nat_rules_changed(struct hs_nat *nat, const struct hs_rules *rules);
/* The table was emptied and has another seed. */
void hs_nat_reset(struct hs_nat *nat, struct hs_seed seed);

/* The place that a tuple's hash prefers among `count`: every one equally often. */
uint32_t hs_nat_preferred_place(uint32_t hash, uint32_t count);

/* The ports that a flow from `port` (host order) may get. */
struct hs_eligible hs_nat_eligible(const struct hs_nat_rule *rule, uint8_t proto, uint16_t port);

uint32_t hs_eligible_last(const struct hs_eligible *eligible);

/* Whether a rule may give a port out: nobody listens there and none of its reserved ranges has it. */
bool hs_nat_may_give(const struct hs_public_ports *public, const struct hs_nat_rule *rule, uint8_t proto,
                     uint32_t port);

/* port_search.c. Fills `reply` with a reply tuple that no flow uses. `*probes` counts the tuples that were tried one by one. False: every
 * eligible port of every public address is taken or held down. */
bool hs_nat_allocate(struct hs_nat *nat, const struct hs_nat_request *request, struct hs_tuple *reply,
                     uint32_t *probes);

/* The reply tuple that it would have in an empty table: the host's own public address, the port of its hash. */
void hs_nat_preference(const struct hs_nat_request *request, struct hs_tuple *reply);

/* When nothing is free: a TCP connection that is over, by FINs or RST, and that a SYN with this sequence number may
 * follow on the same ports (net/netfilter/nf_nat_core.c: nf_nat_used_tuple_harder). Bounded; the next call looks
 * further. `reply` is its reply tuple then. NULL: none was seen. */
struct hs_flow *hs_nat_find_closing(struct hs_nat *nat, const struct hs_nat_request *request,
                                    uint32_t sequence, struct hs_tuple *reply);

#endif
