/* The addresses of IPv6 flows: a side array of the flow table, so that an IPv4 flow does not pay for them.
 *
 * A flow's tuples hold 32-bit folds of its addresses (`family` is HS_IPV6); the addresses themselves are here, under
 * the flow's slot. Without NAT66 the reply's destination is the original source, so three tell all.
 */
#ifndef HS_ENDS6_H
#define HS_ENDS6_H

#include "core/address6.h"
#include "core/flow_table.h"

struct hs_long_ends {
    struct hs_address6 src, dst, reply_src;
};

_Static_assert(sizeof(struct hs_long_ends) == 48, "what an IPv6 flow costs beside its slot");

/* Address space for the addresses of every slot; pages that nobody writes cost nothing. False: no memory. Once. */
bool hs_ends6_reserve(struct hs_flow_table *table);

/* Source and destination of a packet of an IPv6 flow in this direction, before it is translated. */
struct hs_ends6 hs_flow_ends6(const struct hs_flow_table *table, const struct hs_flow *flow,
                              enum hs_direction direction);

/* The tuple of such a packet. */
struct hs_tuple hs_tuple6(struct hs_seed seed, const struct hs_ends6 *ends, uint16_t src_port, uint16_t dst_port,
                          uint8_t proto);

/* As hs_flow_table_find: the folds first, then the addresses, for two addresses may share a fold. */
struct hs_found hs_flow_table_find6_hashed(const struct hs_flow_table *table, const struct hs_tuple *tuple,
                                           const struct hs_ends6 *ends, uint64_t hash);

static inline struct hs_found hs_flow_table_find6(const struct hs_flow_table *table, const struct hs_tuple *tuple,
                                                  const struct hs_ends6 *ends)
{
    return hs_flow_table_find6_hashed(table, tuple, ends, hs_flow_table_hash(table, tuple));
}

/* A flow just added to the table gets its addresses; its share in the digest follows. */
void hs_flow_set_ends6(struct hs_flow_table *table, struct hs_flow *flow, const struct hs_ends6 *original,
                       const struct hs_address6 *reply_src);

/* hs_flow_digest of an IPv6 flow (proto/sync.md §8). */
uint64_t hs_flow_digest6(const struct hs_flow_table *table, const struct hs_flow *flow);

#endif
