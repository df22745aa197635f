/* How far each end of a TCP connection has come, as far as this node saw it: enough to tell a reset that belongs to
 * the connection from one that somebody guessed (RFC 5961 §3), and a new connection on the same ports from an old one's
 * packet. No windows: data and acknowledgements pass whatever their numbers.
 *
 * Of each direction the end of the data that was seen, once something was; after a takeover that is unknown until the
 * direction's first packet, and every reset is believed.
 */
#ifndef HS_TCP_SEQUENCE_H
#define HS_TCP_SEQUENCE_H

#include "core/flow_table.h"
#include "core/packet.h"

enum {
    /* A reset is believed this near to where its sender's data ended: bytes, either way. Whoever guesses needs 32,768
     * tries on the average. */
    HS_RESET_NEAR = 65535,
    /* Data this far ahead is not taken for the sender's own: else two packets would move the mark and reset. */
    HS_SEQUENCE_LEAP = 1 << 20,
};

/* A packet that passes; a reset moves nothing. */
void hs_tcp_note_sequence(struct hs_flow *flow, enum hs_direction direction, const struct hs_packet *p);

/* Whether a reset may be its sender's. One that may not passes and changes nothing: the receiver knows best, and asks
 * for an exact one by a challenge ACK. */
bool hs_tcp_reset_is_plausible(const struct hs_flow *flow, enum hs_direction direction, const struct hs_packet *p);

#endif
