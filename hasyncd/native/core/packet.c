#include "core/packet.h"

#include <stddef.h>

#include "core/checksum.h"
#include "core/tcp_state.h"

enum { FRAGMENT_MASK = 0x3fff, TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 };
enum { OPTION_END = 0, OPTION_NONE = 1, OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137 };

static uint16_t load16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, 2);
    return value;
}

/* Ports (or the echo identifier) of a header of which `length` bytes are there. */
static bool read_tuple(struct hs_tuple *t, const struct hs_ipv4 *ip, const uint8_t *l4, uint32_t length)
{
    *t = (struct hs_tuple){.src_addr = ip->src_addr, .dst_addr = ip->dst_addr, .proto = ip->proto};
    if (length < 8)
        return false;
    if (ip->proto == HS_ICMP) {
        t->src_port = load16(l4 + offsetof(struct hs_icmp, id));
        return l4[0] == HS_ECHO_REQUEST || l4[0] == HS_ECHO_REPLY;
    }
    t->src_port = load16(l4);
    t->dst_port = load16(l4 + 2);
    return ip->proto == HS_TCP || ip->proto == HS_UDP;
}

/* Options are carried along, but not those by which a sender chooses the way (RFC 7126 §4.3, §4.4). */
static bool has_bad_options(const struct hs_ipv4 *ip, uint32_t header)
{
    const uint8_t *at = (const uint8_t *)(ip + 1), *end = (const uint8_t *)ip + header;

    while (at < end && *at != OPTION_END) {
        if (*at == OPTION_NONE) {
            at++;
            continue;
        }
        if (end - at < 2 || at[1] < 2 || at[1] > end - at || *at == OPTION_LOOSE_ROUTE || *at == OPTION_STRICT_ROUTE)
            return true;
        at += at[1];
    }
    return false;
}

static enum hs_packet_kind parse_icmp(struct hs_packet *p)
{
    struct hs_ipv4 *inner;
    uint32_t inner_length, header;

    if (p->l4_length < sizeof(struct hs_icmp))
        return HS_PACKET_MALFORMED;
    p->icmp_type = p->l4[0];
    if (p->icmp_type == HS_ECHO_REQUEST || p->icmp_type == HS_ECHO_REPLY)
        return read_tuple(&p->tuple, p->ip, p->l4, p->l4_length) ? HS_PACKET_FLOW : HS_PACKET_OTHER;
    if (p->icmp_type != HS_UNREACHABLE && p->icmp_type != HS_TIME_EXCEEDED &&
        p->icmp_type != HS_PARAMETER_PROBLEM)
        return HS_PACKET_OTHER;
    inner = (struct hs_ipv4 *)(p->l4 + sizeof(struct hs_icmp));
    inner_length = p->l4_length - (uint32_t)sizeof(struct hs_icmp);
    if (inner_length < sizeof *inner || inner->version_ihl >> 4 != 4)
        return HS_PACKET_MALFORMED;
    header = (inner->version_ihl & 15u) * 4;
    if (header < sizeof *inner || inner_length < header)
        return HS_PACKET_MALFORMED;
    if (ntohs(inner->fragment) & 0x1fff)
        return HS_PACKET_OTHER; /* not a first fragment: it names no ports */
    p->inner = inner;
    return read_tuple(&p->tuple, inner, (uint8_t *)inner + header, inner_length - header)
               ? HS_PACKET_ICMP_ERROR
               : HS_PACKET_OTHER;
}

enum hs_packet_kind hs_packet_parse(struct hs_packet *p, struct hs_vnet *vnet, uint8_t *frame,
                                    uint32_t length)
{
    const struct hs_ethernet *ethernet = (const struct hs_ethernet *)frame;
    uint32_t header, total;

    *p = (struct hs_packet){.frame = frame, .vnet = vnet};
    if (length < sizeof *ethernet + sizeof *p->ip || ethernet->type != htons(HS_ETHERTYPE_IPV4))
        return HS_PACKET_MALFORMED;
    p->ip = (struct hs_ipv4 *)(frame + sizeof *ethernet);
    header = (p->ip->version_ihl & 15u) * 4;
    total = ntohs(p->ip->total_length);
    if (p->ip->version_ihl >> 4 != 4 || header < sizeof *p->ip || total < header ||
        length - sizeof *ethernet < total)
        return HS_PACKET_MALFORMED;
    /* RFC 1812 5.2.2: also with offloads, this sum is always complete. */
    if (hs_checksum_sum(p->ip, header) != 0xffff || (header > sizeof *p->ip && has_bad_options(p->ip, header)))
        return HS_PACKET_MALFORMED;
    p->l4 = (uint8_t *)p->ip + header;
    p->l4_length = total - header;
    if (ntohs(p->ip->fragment) & FRAGMENT_MASK)
        return HS_PACKET_FRAGMENT;
    switch (p->ip->proto) {
    case HS_ICMP:
        return parse_icmp(p);
    case HS_TCP:
        if (p->l4_length < 20 || (p->l4[12] >> 4) * 4u > p->l4_length || p->l4[12] >> 4 < 5)
            return HS_PACKET_MALFORMED;
        p->tcp_flags = p->l4[13];
        break;
    case HS_UDP:
        if (p->l4_length < 8 || ntohs(load16(p->l4 + 4)) < 8 || ntohs(load16(p->l4 + 4)) > p->l4_length)
            return HS_PACKET_MALFORMED;
        break;
    default:
        return HS_PACKET_OTHER;
    }
    return read_tuple(&p->tuple, p->ip, p->l4, p->l4_length) ? HS_PACKET_FLOW : HS_PACKET_OTHER;
}

bool hs_packet_parse_first_fragment(struct hs_packet *p)
{
    uint32_t least = p->ip->proto == HS_TCP ? 20 : 8;

    if (p->l4_length < least)
        return false;
    if (p->ip->proto == HS_TCP && ((p->l4[12] >> 4) * 4u > p->l4_length || p->l4[12] >> 4 < 5))
        return false;
    if (p->ip->proto == HS_TCP)
        p->tcp_flags = p->l4[13];
    if (p->ip->proto == HS_ICMP)
        p->icmp_type = p->l4[0];
    return read_tuple(&p->tuple, p->ip, p->l4, p->l4_length);
}

void hs_packet_rewrite_addresses(struct hs_packet *p, uint32_t src_addr, uint32_t dst_addr)
{
    uint32_t addresses =
        hs_checksum_delta32(p->ip->src_addr, src_addr) + hs_checksum_delta32(p->ip->dst_addr, dst_addr);

    p->ip->src_addr = src_addr;
    p->ip->dst_addr = dst_addr;
    p->ip->checksum = hs_checksum_apply(p->ip->checksum, addresses);
}

void hs_packet_fix_checksum(struct hs_packet *p, uint32_t addresses, uint32_t ports)
{
    uint8_t proto = p->tuple.proto;
    bool partial = p->vnet && p->vnet->flags & HS_VNET_NEEDS_CSUM;
    uint8_t *at;
    uint16_t checksum;

    if (proto == HS_ICMP) { /* IPv4's has no pseudo-header: only the identifier counts */
        at = p->l4 + offsetof(struct hs_icmp, checksum);
        checksum = hs_checksum_apply(load16(at), p->ip ? ports : ports + addresses);
        memcpy(at, &checksum, 2);
        /* RFC 1624 §3: of an echo reply that is now all zero the checksum is the other zero. */
        if (checksum == 0 && hs_checksum_sum(p->l4, p->l4_length) == 0)
            memset(at, 0xff, 2);
        return;
    }
    at = p->l4 + (proto == HS_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
    checksum = load16(at);
    if (partial) {
        /* Ports are summed by whoever completes it. */
        checksum = hs_checksum_apply_partial(checksum, addresses);
    } else if (proto == HS_TCP || checksum != 0) { /* UDP 0: the sender made none */
        checksum = hs_checksum_apply(checksum, addresses + ports);
        if (proto == HS_UDP && checksum == 0)
            checksum = 0xffff;
    }
    memcpy(at, &checksum, 2);
}

void hs_packet_rewrite(struct hs_packet *p, const struct hs_tuple *to)
{
    const struct hs_tuple *from = &p->tuple;
    uint32_t addresses = hs_checksum_delta32(from->src_addr, to->src_addr) +
                         hs_checksum_delta32(from->dst_addr, to->dst_addr);
    uint32_t ports = hs_checksum_delta16(from->src_port, to->src_port);

    p->ip->src_addr = to->src_addr;
    p->ip->dst_addr = to->dst_addr;
    p->ip->checksum = hs_checksum_apply(p->ip->checksum, addresses);
    if (p->ip->proto == HS_ICMP) {
        memcpy(p->l4 + offsetof(struct hs_icmp, id), &to->src_port, 2);
    } else {
        ports += hs_checksum_delta16(from->dst_port, to->dst_port);
        memcpy(p->l4, &to->src_port, 2);
        memcpy(p->l4 + 2, &to->dst_port, 2);
    }
    hs_packet_fix_checksum(p, addresses, ports);
    p->tuple = *to;
}

bool hs_packet_is_first(const struct hs_packet *p)
{
    if (p->tuple.proto == HS_TCP)
        return hs_tcp_classify(p->tcp_flags) == HS_CLASS_SYN;
    return p->tuple.proto != HS_ICMP || p->icmp_type == HS_ECHO_REQUEST;
}

bool hs_packet_may_be_picked_up(const struct hs_packet *p)
{
    return p->tuple.proto == HS_TCP && hs_tcp_classify(p->tcp_flags) == HS_CLASS_ACK;
}

uint32_t hs_packet_sequence_end(const struct hs_packet *p)
{
    uint32_t sequence;

    memcpy(&sequence, p->l4 + 4, 4);
    return ntohl(sequence) + p->l4_length - (p->l4[12] >> 4) * 4u + !!(p->tcp_flags & HS_SYN) +
           !!(p->tcp_flags & HS_FIN);
}

static void set_ttl(struct hs_packet *p, uint8_t ttl)
{
    /* TTL and protocol share a word; the TTL is its first byte. */
    uint16_t old, new;

    memcpy(&old, &p->ip->ttl, 2);
    p->ip->ttl = ttl;
    memcpy(&new, &p->ip->ttl, 2);
    p->ip->checksum = hs_checksum_apply(p->ip->checksum, hs_checksum_delta16(old, new));
}

void hs_packet_decrement_ttl(struct hs_packet *p)
{
    set_ttl(p, p->ip->ttl - 1);
}

void hs_packet_restore_ttl(struct hs_packet *p)
{
    set_ttl(p, p->ip->ttl + 1);
}
