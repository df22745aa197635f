/* Resets of our own making (RFC 9293 §3.10.7). */
#ifndef HS_RESET_H
#define HS_RESET_H

#include "core/gateway.h"

/* The packet becomes the reset that answers it, back to its sender; options and extension headers are left away. False:
 * it is a reset itself. */
bool hs_reset_return(struct hs_gateway *g, int side, struct hs_packet *p);

/* To the end that sends in `direction`, as from its counterpart. False: where that one's data ended is not known, or
 * there is no way to it. */
bool hs_reset_send(struct hs_gateway *g, const struct hs_flow *flow, enum hs_direction direction, uint64_t now_ns);

#endif
