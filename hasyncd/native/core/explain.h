/* What would become of a packet, and why: the decisions of the packet path, asked and not made.
 *
 * A packet with the given ends is made up and given to the code that judges real ones (hs_gateway_decide). Nothing is
 * sent, made or counted by it; so the answer is what the next such packet meets, unless something changes before it.
 */
#ifndef HS_EXPLAIN_H
#define HS_EXPLAIN_H

#include "core/decision.h"

/* Who asks; addresses in network order, those of the other family zero. */
struct hs_question {
    uint8_t family, proto; /* enum hs_family, enum hs_protocol: HS_ICMP is ICMPv6's echo too */
    uint32_t src, dst;
    struct hs_ends6 ends6;
    uint16_t src_port, dst_port; /* network order; of an echo, its identifier and 0 */
};

/* Why a key belongs to a backend. */
struct hs_choice {
    uint32_t key;
    const struct hs_backend_table *table; /* of now; NULL: none was published */
    uint32_t point, place; /* the ring's vnode or the slot; a ring's `place` counts its vnodes */
    int owner;  /* place in the service's list of whom the table names; -1: nobody, or all in turn */
    int before; /* of who gets a packet from the middle of an unknown connection; -1: nobody */
};

struct hs_explanation {
    int side;   /* where packets from the source come in; HS_NO_SIDE: no route leads to it */
    bool armed; /* else nothing is forwarded here now */
    struct hs_found live; /* the flow with these ends; what follows is then of its original direction */
    bool given_up;     /* its backend was removed: its packets are dropped */
    bool begins_anew;  /* a SYN would end it, and begin another */
    bool passes;       /* a first packet would make a flow */
    bool answered;     /* by the gateway itself: an echo request for a VIP */
    bool told;         /* its sender would be told that it is dropped */
    const char *dropped; /* the counter that it would count in, or NULL */
    struct hs_decision decision;
    struct hs_ends6 original6, reply6; /* IPv6: of the decision */
    struct hs_choice choice;    /* where a service decides */
    bool pooled;                /* a NAT rule gives the public port; then: */
    struct hs_tuple preference; /* the reply tuple that an empty table would have given */
};

/* -1: no packet can have such ends. */
int hs_gateway_explain(struct hs_gateway *g, const struct hs_question *question, struct hs_explanation *explanation,
                       uint64_t now_ns);

#endif
