/* What the rules make of a flow's first packet, before anything is made of it.
 *
 * To decide counts drops, and tells a sender that is refused where a rule says so; it changes neither table nor log. So
 * core/explain.c can ask the very code that decides for packets.
 */
#ifndef HS_DECISION_H
#define HS_DECISION_H

#include "core/gateway.h"

struct hs_decision {
    struct hs_opening opening;
    const struct hs_forward *in;  /* the way in that it uses, or NULL */
    const struct hs_forward *own; /* its source's own public address, or NULL */
    struct hs_tuple onward;       /* IPv4: the packet with its destination translated */
    const struct hs_pass *pass;   /* IPv6, or NULL */
    bool exempt;                  /* from its NAT rule's translation */
    struct hs_flow *closing;      /* a connection that is over and makes room for it, or NULL */
    const struct hs_flow *instead; /* given: the flow with this very tuple, which is not in its way; or NULL */
};

/* False: the packet is dropped, and it is counted why; `p` may be an error's now. `decision` is zero but for `instead`. */
bool hs_gateway_decide(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *decision, uint64_t now_ns);
bool hs_gateway_decide6(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *decision,
                        uint64_t now_ns);

#endif
