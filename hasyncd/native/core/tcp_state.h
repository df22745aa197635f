/* TCP tracking after Linux's table (net/netfilter/nf_conntrack_proto_tcp.c: tcp_conntracks). */
#ifndef HS_TCP_STATE_H
#define HS_TCP_STATE_H

#include <stdint.h>

#include "core/tuple.h"

/* proto/sync.md §3.1. 0 is an empty slot. */
enum hs_tcp_state {
    HS_TCP_NONE = 0,
    HS_TCP_SYN_SENT,
    HS_TCP_SYN_RECV,
    HS_TCP_ESTABLISHED,
    HS_TCP_FIN_WAIT,
    HS_TCP_CLOSE_WAIT,
    HS_TCP_LAST_ACK,
    HS_TCP_TIME_WAIT,
    HS_TCP_CLOSE,
    HS_TCP_SYN_SENT2,
    HS_TCP_STATES,
    HS_TCP_IGNORE,  /* pass the packet, change nothing */
    HS_TCP_INVALID, /* no such packet belongs to a flow in this state */
};

enum hs_tcp_class {
    HS_CLASS_SYN,
    HS_CLASS_SYNACK,
    HS_CLASS_FIN,
    HS_CLASS_ACK,
    HS_CLASS_RST,
    HS_CLASS_NONE,
    HS_TCP_CLASSES,
};

enum hs_tcp_flags { HS_FIN = 0x01, HS_SYN = 0x02, HS_RST = 0x04, HS_ACK = 0x10, HS_URG = 0x20 };

enum hs_tcp_class hs_tcp_classify(uint8_t flags);

/* The state after a packet: a state, HS_TCP_IGNORE or HS_TCP_INVALID. */
enum hs_tcp_state hs_tcp_next(enum hs_direction direction, enum hs_tcp_class class,
                              enum hs_tcp_state state);

/* The same for a flow whose peer node may have seen packets that were never told to us: a segment
 * that proves progress moves the state forward, nothing that a TCP sends is invalid (proto/pair.md §4 step 4). */
enum hs_tcp_state hs_tcp_next_liberal(enum hs_direction direction, enum hs_tcp_class class,
                                      enum hs_tcp_state state);

#endif
