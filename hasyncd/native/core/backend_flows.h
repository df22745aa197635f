/* What becomes of a service's flows with their backends, and what the flows tell of them.
 *
 * | backend | its flows | a SYN on one's tuple | a packet of an unknown connection |
 * |---|---|---|---|
 * | up | go on | is one more packet of it | the table of now, or before |
 * | draining, foreign | go on | begins anew elsewhere, unless it is a late copy of the flow's own | may still go there |
 * | down | go on | as above | goes elsewhere |
 * | removed | dropped, both ways (`drop_backend_removed`) | begins anew elsewhere | goes elsewhere |
 *
 * Beginning anew is the end of a flow (DEL) and another one (ADD), which waits for its commit like any. Whoever wants to
 * end flows of a backend that is not up does so by hs_gateway_end_backend_flows, a bite at a time.
 */
#ifndef HS_BACKEND_FLOWS_H
#define HS_BACKEND_FLOWS_H

#include "core/gateway.h"

/* How the flows of a backend end. */
enum hs_backend_end {
    /* The peer is told, the ends are not. */
    HS_END_SILENTLY,
    /* TCP: each end gets a reset, as from the other one, if data of that other one was seen here (its sequence number is
     * where that ended, so it is exact but for what is on its way); whoever sends something later gets an exact one in
     * answer (core/closed.c, HS_CLOSED_S). So nobody is told by guessing: after a takeover, an end whose counterpart was
     * silent hears with its next packet. UDP: silently. The client's next datagram makes a new flow to a live backend;
     * an ICMP error would have failed its socket instead. */
    HS_END_BY_RESET,
    /* UDP flows are at once another backend's, under the table of now; where there is none, or the flow's source is
     * translated (a hairpin), silently. TCP flows are left alone. */
    HS_END_RESELECTED,
    HS_ENDS
};

/* Ends flows of the backends with this id that are not up (those of one that is up are never touched, so a bite that
 * comes too late harms nobody), in `count` slots from `*slot` on; it stops early where it has done enough for one bite.
 * `*slot` is where to go on, or -1 after the last. Only the node that writes the table ends anything. How many ended. */
uint32_t hs_gateway_end_backend_flows(struct hs_gateway *g, uint32_t service, uint32_t server_id,
                                      enum hs_backend_end how, int64_t *slot, uint32_t count, uint64_t now_ns);

/* Whether a first packet that meets a flow is the beginning of another (RFC 1122 4.2.2.13): what it meets is over, or
 * its backend gets no new flows. */
bool hs_gateway_begins_anew(const struct hs_gateway *g, int side, const struct hs_found *found,
                            const struct hs_packet *p);
/* That flow makes room. */
void hs_gateway_make_way(struct hs_gateway *g, struct hs_flow *flow, uint64_t now_ns);

/* Nothing of such a flow may pass. */
bool hs_gateway_backend_is_removed(const struct hs_gateway *g, const struct hs_flow *flow);
/* The same, and it is counted. */
bool hs_gateway_is_given_up(struct hs_gateway *g, const struct hs_flow *flow);
/* A packet that waited is of a flow that has ended meanwhile, or was given up. It is counted. */
bool hs_gateway_waited_in_vain(struct hs_gateway *g, const struct hs_queued *packet);

/* What a packet of the flow, that passes, says of its backend; before the flow's state changes. `ignored`: it changes none. */
void hs_backend_note_packet(struct hs_gateway *g, struct hs_flow *flow, enum hs_direction direction,
                            const struct hs_packet *p, bool ignored);
/* The packet that made the flow. */
void hs_backend_note_first(struct hs_gateway *g, const struct hs_flow *flow, const struct hs_packet *p);
/* A flow ends that may have waited for its backend in vain. */
void hs_backend_note_end(struct hs_gateway *g, struct hs_flow *flow);

/* A first packet, or one under way, for which its service has no backend: dropped, and its sender told where the
 * service says so: TCP by a reset, UDP by port unreachable at a bounded rate. */
void hs_gateway_refuse(struct hs_gateway *g, int side, struct hs_packet *p, const struct hs_service *service,
                       uint64_t now_ns);

#endif
