#include "core/ipv6.h"

#include <stddef.h>

#include "core/checksum.h"
#include "core/tcp_state.h"

/* Behind a fragment header: reserved bits and "more" beside the offset. */
enum { FRAGMENT_SIZE = 8, FRAGMENT_OFFSET = 0xfff8, FRAGMENT_MORE = 1, LEAST_QUOTED = 8 };

/* How far the chain of headers was followed. */
struct chain {
    uint8_t *at;
    uint32_t left;
    uint8_t next;
    uint8_t *fragment; /* NULL: none was passed */
    bool quoted;       /* of a packet in an error: long sent, only to be recognised */
};

static uint16_t load16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, 2);
    return value;
}

static bool is_extension(uint8_t next)
{
    return next == HS_HOP_BY_HOP || next == HS_ROUTING || next == HS_FRAGMENT || next == HS_DESTINATION_OPTIONS;
}

/* A source route still to be followed hides the destination; type 0 is deprecated altogether (RFC 5095). */
static bool is_harmless_routing(const uint8_t *header)
{
    return header[2] != 0 && header[3] == 0;
}

/* Goes on to the layer-4 header, or to the end of a fragment header that is not alone. HS_PACKET_FLOW: there. */
static enum hs_packet_kind follow(struct chain *c, bool first)
{
    for (int headers = 0; is_extension(c->next); headers++, first = false) {
        uint32_t size = FRAGMENT_SIZE;

        if (c->left < 8)
            return HS_PACKET_MALFORMED;
        if (c->next != HS_FRAGMENT)
            size = (c->at[1] + 1u) * 8;
        if (c->left < size)
            return HS_PACKET_MALFORMED;
        if (headers == HS_EXTENSION_HEADERS_MAX || (c->next == HS_HOP_BY_HOP && !first) ||
            (c->next == HS_ROUTING && !c->quoted && !is_harmless_routing(c->at)) ||
            (c->next == HS_FRAGMENT && c->fragment))
            return HS_PACKET_EXTENSION;
        if (c->next == HS_FRAGMENT)
            c->fragment = c->at;
        c->next = c->at[0];
        c->at += size;
        c->left -= size;
        if (c->fragment == c->at - size && ntohs(load16(c->fragment + 2)) & (FRAGMENT_OFFSET | FRAGMENT_MORE))
            return HS_PACKET_FRAGMENT;
    }
    return HS_PACKET_FLOW;
}

/* Ports, or the echo's identifier. False: another protocol. */
static bool read_tuple(struct hs_tuple *t, struct hs_seed seed, const struct hs_ends6 *ends, uint8_t proto,
                       const uint8_t *l4, uint32_t length)
{
    if (length < LEAST_QUOTED)
        return false;
    if (proto == HS_ICMPV6) {
        *t = hs_tuple6(seed, ends, load16(l4 + offsetof(struct hs_icmp, id)), 0, HS_ICMP);
        return l4[0] == HS_ECHO_REQUEST6 || l4[0] == HS_ECHO_REPLY6;
    }
    if (proto != HS_TCP && proto != HS_UDP)
        return false;
    *t = hs_tuple6(seed, ends, load16(l4), load16(l4 + 2), proto);
    return true;
}

/* The quoted packet of an error: as much of it as its sender let be quoted. */
static enum hs_packet_kind parse_error(struct hs_packet *p, struct hs_seed seed)
{
    struct hs_ipv6 *inner = (struct hs_ipv6 *)(p->l4 + sizeof(struct hs_icmp));
    uint32_t length = p->l4_length - (uint32_t)sizeof(struct hs_icmp);
    struct chain chain;
    enum hs_packet_kind kind;

    if (length < sizeof *inner || ntohl(inner->version_class_label) >> 28 != 6)
        return HS_PACKET_MALFORMED;
    chain = (struct chain){(uint8_t *)(inner + 1), length - (uint32_t)sizeof *inner, inner->next_header, NULL, true};
    kind = follow(&chain, true);
    if (kind == HS_PACKET_FRAGMENT) {
        if (ntohs(load16(chain.fragment + 2)) & FRAGMENT_OFFSET)
            return HS_PACKET_OTHER; /* not a first fragment: it names no ports */
        kind = follow(&chain, false);
    }
    if (kind != HS_PACKET_FLOW)
        return kind;
    p->inner6 = inner;
    p->inner6_l4 = chain.at;
    return read_tuple(&p->tuple, seed, &inner->ends, chain.next, chain.at, chain.left) ? HS_PACKET_ICMP_ERROR
                                                                                       : HS_PACKET_OTHER;
}

static enum hs_packet_kind parse_icmp6(struct hs_packet *p, struct hs_seed seed)
{
    uint8_t type;

    if (p->l4_length < sizeof(struct hs_icmp))
        return HS_PACKET_MALFORMED;
    type = p->l4[0];
    if (type == HS_ECHO_REQUEST6 || type == HS_ECHO_REPLY6) {
        p->icmp_type = type == HS_ECHO_REQUEST6 ? HS_ECHO_REQUEST : HS_ECHO_REPLY;
        return read_tuple(&p->tuple, seed, &p->ip6->ends, HS_ICMPV6, p->l4, p->l4_length) ? HS_PACKET_FLOW
                                                                                           : HS_PACKET_OTHER;
    }
    p->icmp_type = type;
    if (type >= HS_UNREACHABLE6 && type <= HS_PARAMETER_PROBLEM6)
        return parse_error(p, seed);
    return type >= HS_ROUTER_SOLICITATION && type <= HS_REDIRECT ? HS_PACKET_NEIGHBOUR : HS_PACKET_OTHER;
}

/* `whole`: the packet ends here, and so a datagram's length can be judged. */
static enum hs_packet_kind parse_layer4(struct hs_packet *p, struct hs_seed seed, uint8_t proto, bool whole)
{
    const uint8_t *l4 = p->l4;

    if (proto == HS_ICMPV6)
        return parse_icmp6(p, seed);
    if (proto == HS_TCP) {
        if (p->l4_length < 20 || (l4[12] >> 4) * 4u > p->l4_length || l4[12] >> 4 < 5)
            return HS_PACKET_MALFORMED;
        p->tcp_flags = l4[13];
    } else if (proto == HS_UDP) {
        if (p->l4_length < 8 || ntohs(load16(l4 + 4)) < 8 || (whole && ntohs(load16(l4 + 4)) > p->l4_length))
            return HS_PACKET_MALFORMED;
    }
    return read_tuple(&p->tuple, seed, &p->ip6->ends, proto, l4, p->l4_length) ? HS_PACKET_FLOW : HS_PACKET_OTHER;
}

enum hs_packet_kind hs_packet6_parse(struct hs_packet *p, struct hs_seed seed, struct hs_vnet *vnet, uint8_t *frame,
                                     uint32_t length)
{
    const struct hs_ethernet *ethernet = (const struct hs_ethernet *)frame;
    enum hs_packet_kind kind;
    struct chain chain;
    uint32_t payload;

    *p = (struct hs_packet){.frame = frame, .vnet = vnet};
    if (length < sizeof *ethernet + sizeof *p->ip6 || ethernet->type != htons(HS_ETHERTYPE_IPV6))
        return HS_PACKET_MALFORMED;
    p->ip6 = (struct hs_ipv6 *)(frame + sizeof *ethernet);
    payload = ntohs(p->ip6->payload_length);
    if (ntohl(p->ip6->version_class_label) >> 28 != 6 || length - sizeof *ethernet - sizeof *p->ip6 < payload)
        return HS_PACKET_MALFORMED;
    if (!payload && p->ip6->next_header == HS_HOP_BY_HOP)
        return HS_PACKET_EXTENSION; /* a jumbogram (RFC 2675), if anything */
    chain = (struct chain){(uint8_t *)(p->ip6 + 1), payload, p->ip6->next_header, NULL, false};
    kind = follow(&chain, true);
    p->l4 = chain.at;
    p->l4_length = chain.left;
    if (kind == HS_PACKET_FRAGMENT)
        p->fragment6 = chain.fragment;
    return kind == HS_PACKET_FLOW ? parse_layer4(p, seed, chain.next, true) : kind;
}

uint32_t hs_packet6_fragment_offset(const struct hs_packet *p)
{
    return ntohs(load16(p->fragment6 + 2)) & FRAGMENT_OFFSET;
}

bool hs_packet6_has_more_fragments(const struct hs_packet *p)
{
    return ntohs(load16(p->fragment6 + 2)) & FRAGMENT_MORE;
}

uint32_t hs_packet6_fragment_id(const struct hs_packet *p)
{
    uint32_t id;

    memcpy(&id, p->fragment6 + 4, 4);
    return id;
}

bool hs_packet6_parse_first_fragment(struct hs_packet *p, struct hs_seed seed)
{
    struct chain chain = {p->l4, p->l4_length, p->fragment6[0], p->fragment6, false};

    if (follow(&chain, false) != HS_PACKET_FLOW)
        return false;
    p->l4 = chain.at;
    p->l4_length = chain.left;
    return parse_layer4(p, seed, chain.next, false) == HS_PACKET_FLOW;
}

uint32_t hs_ends6_checksum_delta(const struct hs_ends6 *old, const struct hs_ends6 *new)
{
    uint32_t delta = 0, was, is;

    for (size_t at = 0; at < sizeof *old; at += 4) {
        memcpy(&was, (const uint8_t *)old + at, 4);
        memcpy(&is, (const uint8_t *)new + at, 4);
        delta += hs_checksum_delta32(was, is);
    }
    return delta;
}

void hs_packet6_rewrite(struct hs_packet *p, const struct hs_tuple *to, const struct hs_ends6 *ends)
{
    const struct hs_tuple *from = &p->tuple;
    uint32_t addresses, ports = hs_checksum_delta16(from->src_port, to->src_port);

    if (hs_tuple_equal(from, to) && memcmp(&p->ip6->ends, ends, sizeof *ends) == 0)
        return;
    addresses = hs_ends6_checksum_delta(&p->ip6->ends, ends);
    p->ip6->ends = *ends;
    if (to->proto == HS_ICMP) {
        memcpy(p->l4 + offsetof(struct hs_icmp, id), &to->src_port, 2);
    } else {
        ports += hs_checksum_delta16(from->dst_port, to->dst_port);
        memcpy(p->l4, &to->src_port, 2);
        memcpy(p->l4 + 2, &to->dst_port, 2);
    }
    hs_packet_fix_checksum(p, addresses, ports);
    p->tuple = *to;
}

uint16_t hs_icmp6_sum(const struct hs_ends6 *ends, const void *message, uint32_t length)
{
    uint64_t sum = hs_checksum_sum(ends, sizeof *ends);

    sum += htons((uint16_t)length) + (uint32_t)htons(HS_ICMPV6);
    return hs_checksum_fold(sum + hs_checksum_sum(message, length));
}
