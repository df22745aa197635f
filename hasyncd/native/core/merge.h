/* After a split (proto/pair.md §7a): what a node did while it was alone, and how the flows of the one that lost become
 * the other's. core/merge.c, core/closed.c.
 *
 * Alone, a node gives out the ports of its half and remembers whose flows it told of in its log, to nobody. When it
 * has lost, those and the flows that no peer had confirmed before are its offer: a cursor over the table, packed as
 * ADDs. The winner installs what collides with nothing, under handles of its own, and closes the rest.
 */
#ifndef HS_MERGE_H
#define HS_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/packet.h"
#include "core/port_pool.h"
#include "core/record.h"

enum {
    HS_CLOSED_WAYS = 4,
    HS_CLOSED_SETS = 1024, /* a power of two; of both: ends of connections that could not be merged */
};

struct hs_gateway;

/* A node that is alone, and its offer afterwards. */
struct hs_solo {
    bool on;
    uint64_t *told; /* a bit a slot: its flow was made, changed or refreshed since */
    uint32_t slot;  /* the next that the offer's cursor looks at */
};

/* An end of a connection that is closed here: its next packet, which looks like `tuple`, is answered by a reset. */
struct hs_closed {
    struct hs_tuple tuple;
    uint64_t until_s; /* 0: none */
};

/* What became of an offer; the sum is what was offered. */
struct hs_merge_findings {
    uint32_t known, merged, collided, refused; /* refused: the table has no room */
    uint32_t closed; /* TCP connections among the last two */
};

/* `half`: the ports that are this node's while it is alone. */
void hs_gateway_set_solo(struct hs_gateway *g, bool solo, enum hs_port_half half);

void hs_gateway_start_offer(struct hs_gateway *g);
/* Packs flows of the offer into `out`, as many as fit `room` bytes, and passes over a bounded number of slots; the bytes
 * used. `*finished`: the last slot is passed. */
uint32_t hs_gateway_offer(struct hs_gateway *g, uint8_t *out, uint32_t room, uint64_t now_ns, uint32_t *count,
                          bool *finished);
/* The winner has all of it: nothing here is at risk any more. */
void hs_gateway_end_offer(struct hs_gateway *g);

/* Adds what was offered to the table, each flow with its ADD in the log. Stops at the first record that is none; how
 * many were looked at. `*findings` grows. */
uint32_t hs_gateway_merge(struct hs_gateway *g, const uint8_t *records, uint32_t length, uint64_t now_ns,
                          struct hs_merge_findings *findings, enum hs_rejection *rejection);

/* An end of a connection, by how its packets look, finds nothing here for so long. */
void hs_gateway_close_end(struct hs_gateway *g, const struct hs_tuple *tuple, uint64_t until_s);
/* A TCP packet without a flow: true where it was answered by a reset (RFC 9293 §3.10.7.1). */
bool hs_gateway_reset_closed(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns);

#endif
