#include "core/tcp_state.h"

#define sNO HS_TCP_NONE
#define sSS HS_TCP_SYN_SENT
#define sSR HS_TCP_SYN_RECV
#define sES HS_TCP_ESTABLISHED
#define sFW HS_TCP_FIN_WAIT
#define sCW HS_TCP_CLOSE_WAIT
#define sLA HS_TCP_LAST_ACK
#define sTW HS_TCP_TIME_WAIT
#define sCL HS_TCP_CLOSE
#define sS2 HS_TCP_SYN_SENT2
#define sIG HS_TCP_IGNORE
#define sIV HS_TCP_INVALID

/* Linux's table but for two cells: an ACK without a flow is invalid here (loose pick-up is off), and so is the
 * server's SYN in TIME_WAIT (Linux forgets the flow and asks its rules, which here never let one in). The client's
 * SYN in TIME_WAIT or CLOSE does not come this far: the gateway makes a new flow of it. */
static const uint8_t transitions[2][HS_TCP_CLASSES][HS_TCP_STATES] = {
    [HS_ORIGINAL] = {
        /*              sNO, sSS, sSR, sES, sFW, sCW, sLA, sTW, sCL, sS2 */
        /* syn    */ {sSS, sSS, sIG, sIG, sIG, sIG, sIG, sSS, sSS, sS2},
        /* synack */ {sIV, sIV, sSR, sIV, sIV, sIV, sIV, sIV, sIV, sSR},
        /* fin    */ {sIV, sIV, sFW, sFW, sLA, sLA, sLA, sTW, sCL, sIV},
        /* ack    */ {sIV, sIV, sES, sES, sCW, sCW, sTW, sTW, sCL, sIV},
        /* rst    */ {sIV, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL},
        /* none   */ {sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV},
    },
    [HS_REPLY] = {
        /*              sNO, sSS, sSR, sES, sFW, sCW, sLA, sTW, sCL, sS2 */
        /* syn    */ {sIV, sS2, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sS2},
        /* synack */ {sIV, sSR, sIG, sIG, sIG, sIG, sIG, sIG, sIG, sSR},
        /* fin    */ {sIV, sIV, sFW, sFW, sLA, sLA, sLA, sTW, sCL, sIV},
        /* ack    */ {sIV, sIG, sSR, sES, sCW, sCW, sTW, sTW, sCL, sIG},
        /* rst    */ {sIV, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL},
        /* none   */ {sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV},
    },
};

enum hs_tcp_class hs_tcp_classify(uint8_t flags)
{
    /* Linux's tcp_valid_flags: no other combination leaves a TCP. */
    switch (flags & (HS_FIN | HS_SYN | HS_RST | HS_ACK | HS_URG)) {
    case HS_SYN:
    case HS_SYN | HS_URG:
        return HS_CLASS_SYN;
    case HS_SYN | HS_ACK:
        return HS_CLASS_SYNACK;
    case HS_FIN | HS_ACK:
    case HS_FIN | HS_ACK | HS_URG:
        return HS_CLASS_FIN;
    case HS_ACK:
    case HS_ACK | HS_URG:
        return HS_CLASS_ACK;
    case HS_RST:
    case HS_RST | HS_ACK:
        return HS_CLASS_RST;
    default:
        return HS_CLASS_NONE;
    }
}

enum hs_tcp_state hs_tcp_next(enum hs_direction direction, enum hs_tcp_class class,
                              enum hs_tcp_state state)
{
    if ((unsigned int)state >= HS_TCP_STATES)
        return HS_TCP_INVALID; /* no packet belongs to what corrupted memory says */
    return transitions[direction][class][state];
}

enum hs_tcp_state hs_tcp_next_liberal(enum hs_direction direction, enum hs_tcp_class class,
                                      enum hs_tcp_state state)
{
    enum hs_tcp_state next = hs_tcp_next(direction, class, state);
    int half_open = state == sSS || state == sSR || state == sS2;

    /* The handshake went on without us: data or an ACK of the reply side proves it complete too. */
    if (half_open && class == HS_CLASS_ACK)
        return sES;
    if (half_open && class == HS_CLASS_FIN)
        return sFW;
    return next == sIV && class != HS_CLASS_NONE ? sIG : next;
}
