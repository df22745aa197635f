/* One IPv6 packet in an Ethernet frame (RFC 8200): what core/packet.h is for IPv4.
 *
 * Its tuple is made of folds (core/ends6.h), echoes have IPv4's ICMP types in `icmp_type`, so that what tracks a flow
 * need not know the family.
 */
#ifndef HS_IPV6_H
#define HS_IPV6_H

#include "core/ends6.h"
#include "core/packet.h"

enum hs_next_header {
    HS_HOP_BY_HOP = 0,
    HS_ROUTING = 43,
    HS_FRAGMENT = 44,
    HS_ICMPV6 = 58,
    HS_DESTINATION_OPTIONS = 60,
};

enum hs_icmp6_type {
    HS_UNREACHABLE6 = 1,
    HS_TOO_BIG6 = 2,
    HS_TIME_EXCEEDED6 = 3,
    HS_PARAMETER_PROBLEM6 = 4,
    HS_ECHO_REQUEST6 = 128,
    HS_ECHO_REPLY6 = 129,
    HS_ROUTER_SOLICITATION = 133,
    HS_NEIGHBOUR_SOLICITATION = 135,
    HS_NEIGHBOUR_ADVERTISEMENT = 136,
    HS_REDIRECT = 137,
};

enum hs_packet_kind hs_packet6_parse(struct hs_packet *p, struct hs_seed seed, struct hs_vnet *vnet, uint8_t *frame,
                                     uint32_t length);

/* The addresses that the tuple stands for: the packet's, or the quoted one's of an error. */
static inline struct hs_ends6 hs_packet6_ends(const struct hs_packet *p)
{
    return p->inner6 ? p->inner6->ends : p->ip6->ends;
}

/* A fragment's place in the packet that it is a part of: bytes, the fragmentable part's first byte is 0. */
uint32_t hs_packet6_fragment_offset(const struct hs_packet *p);
bool hs_packet6_has_more_fragments(const struct hs_packet *p);
/* The packet's name beside its addresses (RFC 8200 §4.5), network order. */
uint32_t hs_packet6_fragment_id(const struct hs_packet *p);
/* Reads the tuple of a first fragment, which holds the whole chain of headers or is refused (RFC 7112). */
bool hs_packet6_parse_first_fragment(struct hs_packet *p, struct hs_seed seed);

/* Makes the packet look like `to` with the addresses `ends`. A packet that looks so already is left as it is. */
void hs_packet6_rewrite(struct hs_packet *p, const struct hs_tuple *to, const struct hs_ends6 *ends);

/* What replacing `old` by `new` adds to a checksum. */
uint32_t hs_ends6_checksum_delta(const struct hs_ends6 *old, const struct hs_ends6 *new);

/* The sum of a whole ICMPv6 message with its pseudo-header: 0xffff where its checksum is right. */
uint16_t hs_icmp6_sum(const struct hs_ends6 *ends, const void *message, uint32_t length);

#endif
