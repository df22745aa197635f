#include "core/tcp_sequence.h"

#include <arpa/inet.h>

static uint32_t field(const struct hs_packet *p, int offset)
{
    uint32_t value;

    memcpy(&value, p->l4 + offset, 4);
    return ntohl(value);
}

static bool is_known(const struct hs_flow *flow, enum hs_direction direction)
{
    return flow->local & (direction == HS_REPLY ? HS_LOCAL_SEQUENCE_REPLY : HS_LOCAL_SEQUENCE);
}

void hs_tcp_note_sequence(struct hs_flow *flow, enum hs_direction direction, const struct hs_packet *p)
{
    uint32_t end = hs_packet_sequence_end(p), ahead = end - flow->sequence[direction];

    if (p->tcp_flags & HS_RST)
        return;
    if (is_known(flow, direction) && (!ahead || ahead > HS_SEQUENCE_LEAP))
        return;
    flow->sequence[direction] = end;
    flow->local |= direction == HS_REPLY ? HS_LOCAL_SEQUENCE_REPLY : HS_LOCAL_SEQUENCE;
}

bool hs_tcp_reset_is_plausible(const struct hs_flow *flow, enum hs_direction direction, const struct hs_packet *p)
{
    uint32_t off = field(p, 4) - flow->sequence[direction] + HS_RESET_NEAR;

    if (is_known(flow, direction))
        return off <= 2 * HS_RESET_NEAR;
    /* Refused before it began: the reset must acknowledge the SYN (RFC 9293 §3.10.7.3). */
    if (flow->state == HS_TCP_SYN_SENT && direction == HS_REPLY && is_known(flow, HS_ORIGINAL))
        return p->tcp_flags & HS_ACK && flow->sequence[HS_ORIGINAL] - field(p, 8) <= HS_RESET_NEAR;
    return true;
}
