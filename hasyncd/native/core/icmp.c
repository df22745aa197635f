#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

#include "core/backend_flows.h"
#include "core/checksum.h"

enum { QUOTED_MAX = 548, OUR_TTL = 64 }; /* RFC 1812 4.3.2.3: 576 bytes in all */

static const struct hs_vnet plain;

static void set_ip_checksum(struct hs_ipv4 *ip)
{
    ip->checksum = 0;
    ip->checksum = (uint16_t)~hs_checksum_sum(ip, (ip->version_ihl & 15u) * 4);
}

void hs_gateway_return_frame(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t length)
{
    struct hs_ethernet *ethernet = (struct hs_ethernet *)p->frame;

    memcpy(ethernet->dst, ethernet->src, 6);
    memcpy(ethernet->src, g->ports[side].mac, 6);
    g->output.send(g->output.context, side, &plain, p->frame, length);
}

bool hs_gateway_answer_echo(struct hs_gateway *g, int side, struct hs_packet *p)
{
    struct hs_icmp *icmp = (struct hs_icmp *)p->l4;
    uint32_t vip = p->ip->dst_addr;

    if (p->icmp_type != HS_ECHO_REQUEST || !hs_rules_is_vip(&g->rules, vip))
        return false;
    p->ip->dst_addr = p->ip->src_addr;
    p->ip->src_addr = vip;
    p->ip->ttl = OUR_TTL;
    set_ip_checksum(p->ip);
    icmp->type = HS_ECHO_REPLY;
    icmp->checksum = hs_checksum_apply(
        icmp->checksum, hs_checksum_delta16(htons(HS_ECHO_REQUEST << 8), htons(HS_ECHO_REPLY << 8)));
    g->counters.echo_answered++;
    hs_gateway_return_frame(g, side, p, hs_packet_frame_length(p));
    return true;
}

/* The quoted packet gets back the addresses that its sender knows. */
static void translate_inner(struct hs_ipv4 *inner, uint8_t *l4, uint32_t length,
                            const struct hs_tuple *from, const struct hs_tuple *to)
{
    uint32_t delta = hs_checksum_delta32(from->src_addr, to->src_addr) +
                     hs_checksum_delta32(from->dst_addr, to->dst_addr);
    uint32_t ports = hs_checksum_delta16(from->src_port, to->src_port);
    uint32_t at = 0;
    uint16_t checksum;

    inner->src_addr = to->src_addr;
    inner->dst_addr = to->dst_addr;
    inner->checksum = hs_checksum_apply(inner->checksum, delta);
    if (to->proto == HS_ICMP) {
        memcpy(l4 + offsetof(struct hs_icmp, id), &to->src_port, 2);
        at = offsetof(struct hs_icmp, checksum);
        delta = ports;
    } else {
        memcpy(l4, &to->src_port, 2);
        memcpy(l4 + 2, &to->dst_port, 2);
        delta += ports + hs_checksum_delta16(from->dst_port, to->dst_port);
        at = to->proto == HS_TCP ? 16 : 6;
    }
    if (at + 2 > length)
        return; /* only eight bytes are quoted for sure */
    memcpy(&checksum, l4 + at, 2);
    if (to->proto == HS_UDP && checksum == 0)
        return;
    checksum = hs_checksum_apply(checksum, delta);
    if (to->proto == HS_UDP && checksum == 0)
        checksum = 0xffff;
    memcpy(l4 + at, &checksum, 2);
}

/* RFC 5508 REQ-4, REQ-5: outer destination as the quoted source; from inside, nobody shows a private source. */
void hs_gateway_translate_error(struct hs_gateway *g, int side, struct hs_packet *p,
                                uint64_t now_ns)
{
    struct hs_icmp *icmp = (struct hs_icmp *)p->l4;
    struct hs_tuple arriving = hs_tuple_invert(&p->tuple), inner, outer;
    struct hs_found found = hs_flow_table_find(g->table, &arriving);
    uint32_t header = (p->inner->version_ihl & 15u) * 4;
    uint8_t *inner_l4 = (uint8_t *)p->inner + header;

    /* The quoted packet's sender is whom the error must be for: else somebody quotes what he did not receive. */
    if (!found.flow || p->ip->dst_addr != p->tuple.src_addr ||
        hs_checksum_sum(p->l4, p->l4_length) != 0xffff) {
        g->counters.drop_icmp_unrelated++;
        return;
    }
    if (hs_gateway_is_given_up(g, found.flow))
        return;
    if (p->ip->ttl <= 1) {
        g->counters.drop_ttl++;
        return;
    }
    inner = found.flow->tuple[!found.direction];
    p->hairpin = hs_flow_is_hairpin(found.flow);
    outer = hs_tuple_invert(&inner);
    translate_inner(p->inner, inner_l4, p->l4_length - (uint32_t)(inner_l4 - p->l4), &p->tuple, &inner);
    if (side == HS_INSIDE || p->ip->src_addr == arriving.src_addr)
        p->ip->src_addr = outer.src_addr;
    p->ip->dst_addr = outer.dst_addr;
    set_ip_checksum(p->ip);
    icmp->checksum = 0;
    icmp->checksum = (uint16_t)~hs_checksum_sum(p->l4, p->l4_length);
    g->counters.icmp_errors_translated++;
    /* RFC 4787 REQ-12: an error neither refreshes nor ends a mapping. */
    hs_gateway_forward(g, side, p, NULL, now_ns);
}

/* The packet becomes an error from `source` that quotes it, to where it came from. */
static void return_error(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t source,
                         struct hs_icmp message)
{
    uint32_t quoted = hs_packet_frame_length(p) - (uint32_t)sizeof(struct hs_ethernet);
    struct hs_icmp *icmp = (struct hs_icmp *)(p->ip + 1);
    struct hs_ipv4 *ip = p->ip;
    uint32_t target = ip->src_addr;

    quoted = quoted < QUOTED_MAX ? quoted : QUOTED_MAX;
    memmove((uint8_t *)ip + 28, ip, quoted);
    *ip = (struct hs_ipv4){
        .version_ihl = 0x45,
        .total_length = htons((uint16_t)(28 + quoted)),
        .ttl = OUR_TTL,
        .proto = HS_ICMP,
        .src_addr = source,
        .dst_addr = target,
    };
    set_ip_checksum(ip);
    *icmp = message;
    icmp->checksum = (uint16_t)~hs_checksum_sum(icmp, 8 + quoted);
    hs_gateway_return_frame(g, side, p, (uint32_t)sizeof(struct hs_ethernet) + 28 + quoted);
}

bool hs_gateway_may_make_error(struct hs_gateway *g, uint64_t now_ns)
{
    uint64_t earned = (now_ns - g->icmp_tokens_at_ns) / (1000000000 / HS_ICMP_ERRORS_PER_S);

    if (earned) {
        g->icmp_tokens_at_ns = now_ns;
        g->icmp_tokens = earned + g->icmp_tokens > HS_ICMP_ERRORS_BURST ? HS_ICMP_ERRORS_BURST
                                                                       : g->icmp_tokens + (uint32_t)earned;
    }
    if (!g->icmp_tokens) {
        g->counters.icmp_rate_limited++;
        return false;
    }
    g->icmp_tokens--;
    return true;
}

/* RFC 1122 3.2.2: never about an error, nor to an address that is no single host's. */
static bool may_complain(const struct hs_packet *p)
{
    uint32_t first = ntohl(p->ip->src_addr) >> 24;

    return !p->inner && first != 0 && first != 127 && first < 224 && !(p->frame[0] & 1);
}

bool hs_gateway_send_error(struct hs_gateway *g, int side, struct hs_packet *p, uint8_t type, uint8_t code,
                           uint64_t now_ns)
{
    uint32_t source = p->ip->dst_addr;

    if (!may_complain(p) || !hs_gateway_may_make_error(g, now_ns))
        return false;
    for (uint32_t i = g->rules.vip_count; i--;)
        if (g->rules.vips[i].side == side)
            source = g->rules.vips[i].address; /* the router's own: what traceroute shows */
    return_error(g, side, p, source, (struct hs_icmp){.type = type, .code = code});
    return true;
}

void hs_gateway_send_too_big(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t mtu)
{
    /* The sender must find its own packet in the quotation: the untranslated one. */
    struct hs_tuple inverted = hs_tuple_invert(&p->tuple), sender;
    struct hs_found found = hs_flow_table_find(g->table, &inverted);

    if (!found.flow || p->inner) /* RFC 1122 3.2.2: no error about an error */
        return;
    sender = found.flow->tuple[!found.direction];
    hs_packet_rewrite(p, &sender);
    return_error(g, side, p, sender.dst_addr,
                 (struct hs_icmp){.type = HS_UNREACHABLE,
                                  .code = HS_FRAGMENTATION_NEEDED,
                                  .sequence = htons((uint16_t)mtu)});
    g->counters.fragmentation_needed_sent++;
}
