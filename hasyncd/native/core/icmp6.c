/* ICMPv6 (RFC 4443): echoes to VIPs, errors translated in both directions, errors of our own. */
#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

#include "core/backend_flows.h"
#include "core/checksum.h"
#include "core/ipv6.h"

enum { OUR_HOP_LIMIT = 64, HEADERS = 40 + 8, QUOTED_MAX = HS_IPV6_MTU_MIN - HEADERS };

static void set_checksum(struct hs_ipv6 *ip, struct hs_icmp *icmp, uint32_t length)
{
    icmp->checksum = 0;
    icmp->checksum = (uint16_t)~hs_icmp6_sum(&ip->ends, icmp, length);
}

bool hs_gateway_answer_echo6(struct hs_gateway *g, int side, struct hs_packet *p)
{
    struct hs_icmp *icmp = (struct hs_icmp *)(p->ip6 + 1);
    uint32_t length = p->l4_length;

    if (p->icmp_type != HS_ECHO_REQUEST || !hs_rules6_is_vip(&g->rules, &p->ip6->ends.dst) ||
        hs_address6_is_multicast(&p->ip6->ends.src) || hs_address6_is_zero(&p->ip6->ends.src))
        return false;
    memmove(icmp, p->l4, length); /* extension headers stay behind */
    p->ip6->ends = hs_ends6_invert(&p->ip6->ends);
    p->ip6->next_header = HS_ICMPV6;
    p->ip6->payload_length = htons((uint16_t)length);
    p->ip6->hop_limit = OUR_HOP_LIMIT;
    icmp->type = HS_ECHO_REPLY6;
    icmp->checksum = hs_checksum_apply(
        icmp->checksum, hs_checksum_delta16(htons(HS_ECHO_REQUEST6 << 8), htons(HS_ECHO_REPLY6 << 8)));
    g->counters.echo_answered++;
    hs_gateway_return_frame(g, side, p, hs_packet_frame_length(p));
    return true;
}

/* The packet becomes an error from `source` that quotes it, to where it came from: as much as fits into the least
 * MTU (RFC 4443 §2.4 c). */
static void return_error(struct hs_gateway *g, int side, struct hs_packet *p, const struct hs_address6 *source,
                         uint8_t type, uint8_t code, uint32_t rest)
{
    struct hs_ends6 ends = {*source, p->ip6->ends.src};
    uint32_t quoted = hs_packet_ip_length(p);
    struct hs_ipv6 *ip = p->ip6;
    struct hs_icmp *icmp = (struct hs_icmp *)(ip + 1);

    quoted = quoted < QUOTED_MAX ? quoted : QUOTED_MAX;
    memmove((uint8_t *)ip + HEADERS, ip, quoted);
    *ip = (struct hs_ipv6){
        .version_class_label = htonl(6u << 28),
        .payload_length = htons((uint16_t)(8 + quoted)),
        .next_header = HS_ICMPV6,
        .hop_limit = OUR_HOP_LIMIT,
        .ends = ends,
    };
    rest = htonl(rest);
    icmp->type = type;
    icmp->code = code;
    memcpy(&icmp->id, &rest, 4);
    set_checksum(ip, icmp, 8 + quoted);
    hs_gateway_return_frame(g, side, p, (uint32_t)sizeof(struct hs_ethernet) + HEADERS + quoted);
}

/* RFC 4443 §2.4 e, f: never about an error, nor to what is no single host, and not too often. */
static bool may_complain(struct hs_gateway *g, const struct hs_packet *p, uint64_t now_ns)
{
    return !p->inner6 && hs_address6_is_forwardable(&p->ip6->ends.src) && !(p->frame[0] & 1) &&
           hs_gateway_may_make_error(g, now_ns);
}

bool hs_gateway_send_error6(struct hs_gateway *g, int side, struct hs_packet *p, uint8_t type, uint8_t code,
                            uint64_t now_ns)
{
    const struct hs_address6 *own = hs_rules6_own_address(&g->rules, side);
    struct hs_address6 source = own ? *own : p->ip6->ends.dst;

    if (!may_complain(g, p, now_ns))
        return false;
    return_error(g, side, p, &source, type, code, 0);
    return true;
}

void hs_gateway_send_too_big6(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t mtu, uint64_t now_ns)
{
    /* The sender must find its own packet in the quotation: the untranslated one. */
    struct hs_tuple inverted = hs_tuple_invert(&p->tuple), tuple;
    struct hs_ends6 back = hs_ends6_invert(&p->ip6->ends), ends;
    const struct hs_address6 *own = hs_rules6_own_address(&g->rules, side);
    struct hs_found found;

    if (p->tuple.family != HS_IPV6 || p->inner6)
        return; /* a later fragment, which names no flow, or an error */
    found = hs_flow_table_find6(g->table, &inverted, &back);
    if (!found.flow || !may_complain(g, p, now_ns))
        return;
    tuple = found.flow->tuple[!found.direction];
    ends = hs_flow_ends6(g->table, found.flow, !found.direction);
    hs_packet6_rewrite(p, &tuple, &ends);
    return_error(g, side, p, own ? own : &ends.dst, HS_TOO_BIG6, 0, mtu > HS_IPV6_MTU_MIN ? mtu : HS_IPV6_MTU_MIN);
    g->counters.packet_too_big_sent++;
}

/* The quoted packet gets back the addresses that its sender knows. */
static void translate_inner(struct hs_packet *p, const struct hs_tuple *to, const struct hs_ends6 *ends)
{
    uint32_t left = p->l4_length - (uint32_t)(p->inner6_l4 - p->l4), at;
    uint32_t delta = hs_ends6_checksum_delta(&p->inner6->ends, ends) +
                     hs_checksum_delta16(p->tuple.src_port, to->src_port);
    uint16_t checksum;

    p->inner6->ends = *ends;
    if (to->proto == HS_ICMP) {
        memcpy(p->inner6_l4 + offsetof(struct hs_icmp, id), &to->src_port, 2);
        at = offsetof(struct hs_icmp, checksum);
    } else {
        memcpy(p->inner6_l4, &to->src_port, 2);
        memcpy(p->inner6_l4 + 2, &to->dst_port, 2);
        delta += hs_checksum_delta16(p->tuple.dst_port, to->dst_port);
        at = to->proto == HS_TCP ? 16 : 6;
    }
    if (at + 2 > left)
        return; /* only ports are quoted for sure */
    memcpy(&checksum, p->inner6_l4 + at, 2);
    if (to->proto == HS_UDP && checksum == 0)
        return;
    checksum = hs_checksum_apply(checksum, delta);
    if (to->proto == HS_UDP && checksum == 0)
        checksum = 0xffff;
    memcpy(p->inner6_l4 + at, &checksum, 2);
}

/* A path with less than the least MTU does not exist: who believed it would send fragments for nothing (RFC 8201 §4,
 * RFC 8021). */
static bool is_impossible(const struct hs_packet *p)
{
    uint32_t mtu;

    memcpy(&mtu, p->l4 + 4, 4);
    return p->l4[0] == HS_TOO_BIG6 && ntohl(mtu) < HS_IPV6_MTU_MIN;
}

void hs_gateway_translate_error6(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    struct hs_tuple arriving = hs_tuple_invert(&p->tuple);
    struct hs_ends6 quoted = p->inner6->ends, coming = hs_ends6_invert(&quoted), sender;
    struct hs_found found = hs_flow_table_find6(g->table, &arriving, &coming);
    bool translated;

    /* The quoted packet's sender is whom the error must be for: else somebody quotes what he did not receive. */
    if (!found.flow || !hs_address6_equal(&p->ip6->ends.dst, &quoted.src) || is_impossible(p) ||
        hs_icmp6_sum(&p->ip6->ends, p->l4, p->l4_length) != 0xffff) {
        g->counters.drop_icmp_unrelated++;
        return;
    }
    if (hs_gateway_is_given_up(g, found.flow))
        return;
    if (p->ip6->hop_limit <= 1) {
        g->counters.drop_ttl++;
        return;
    }
    sender = hs_flow_ends6(g->table, found.flow, !found.direction);
    translated = found.flow->flags & HS_FLOW_DNAT;
    /* Nobody outside learns a backend's address, or one behind which it lies. */
    if (translated && (side == HS_INSIDE || hs_address6_equal(&p->ip6->ends.src, &coming.src)))
        p->ip6->ends.src = sender.dst;
    p->ip6->ends.dst = sender.src;
    if (!hs_address6_is_forwardable(&p->ip6->ends.src)) {
        g->counters.drop_scope++;
        return;
    }
    translate_inner(p, &found.flow->tuple[!found.direction], &sender);
    set_checksum(p->ip6, (struct hs_icmp *)p->l4, p->l4_length);
    g->counters.icmp_errors_translated++;
    hs_gateway_forward(g, side, p, NULL, now_ns);
}
