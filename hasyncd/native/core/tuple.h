/* A tuple: one direction of a flow as it looks on the wire (struct nf_conntrack_tuple's essentials).
 *
 * Fields are in network order, as in the packet. ICMP echo keeps its identifier in src_port and 0 in
 * dst_port, in both directions. `zero` is 0, so that tuples compare and hash as 16 bytes.
 *
 * Of an IPv6 packet the addresses are keyed folds (core/ends6.h has the addresses), and HS_ICMP means ICMPv6.
 */
#ifndef HS_TUPLE_H
#define HS_TUPLE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum hs_protocol { HS_ICMP = 1, HS_TCP = 6, HS_UDP = 17 };
enum hs_family { HS_IPV4 = 0, HS_IPV6 = 6 };
enum hs_direction { HS_ORIGINAL = 0, HS_REPLY = 1 };

struct hs_tuple {
    uint32_t src_addr, dst_addr;
    uint16_t src_port, dst_port;
    uint8_t proto, family;
    uint8_t zero[2];
};

_Static_assert(sizeof(struct hs_tuple) == 16, "tuples are hashed as 16 bytes");

static inline bool hs_tuple_equal(const struct hs_tuple *a, const struct hs_tuple *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* The tuple of a packet that travels the other way. */
static inline struct hs_tuple hs_tuple_invert(const struct hs_tuple *t)
{
    struct hs_tuple out = *t;

    out.src_addr = t->dst_addr;
    out.dst_addr = t->src_addr;
    if (t->proto != HS_ICMP) {
        out.src_port = t->dst_port;
        out.dst_port = t->src_port;
    }
    return out;
}

#endif
