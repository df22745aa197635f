#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

#include "core/checksum.h"
#include "core/gateway.h"

enum { FRAGMENTATION_NEEDED = 4, QUOTED_MAX = 548, OUR_TTL = 64 }; /* RFC 1812 4.3.2.3: 576 bytes in all */

static const struct hs_vnet plain;

static void set_ip_checksum(struct hs_ipv4 *ip)
{
    ip->checksum = 0;
    ip->checksum = (uint16_t)~hs_checksum_sum(ip, (ip->version_ihl & 15u) * 4);
}

/* Back to where the frame came from, the way it came. */
static void return_frame(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t length)
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
    return_frame(g, side, p, hs_packet_frame_length(p));
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
    if (p->ip->ttl <= 1) {
        g->counters.drop_ttl++;
        return;
    }
    inner = found.flow->tuple[!found.direction];
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

void hs_gateway_send_too_big(struct hs_gateway *g, int side, struct hs_packet *p, uint32_t mtu)
{
    uint32_t quoted = hs_packet_frame_length(p) - (uint32_t)sizeof(struct hs_ethernet);
    struct hs_icmp *icmp = (struct hs_icmp *)(p->ip + 1);
    /* The sender must find its own packet in the quotation: the untranslated one. */
    struct hs_tuple inverted = hs_tuple_invert(&p->tuple), sender;
    struct hs_found found = hs_flow_table_find(g->table, &inverted);
    struct hs_ipv4 *ip = p->ip;

    if (!found.flow || p->inner) /* RFC 1122 3.2.2: no error about an error */
        return;
    sender = found.flow->tuple[!found.direction];
    hs_packet_rewrite(p, &sender);
    quoted = quoted < QUOTED_MAX ? quoted : QUOTED_MAX;
    memmove((uint8_t *)ip + 28, ip, quoted);
    *ip = (struct hs_ipv4){
        .version_ihl = 0x45,
        .total_length = htons((uint16_t)(28 + quoted)),
        .ttl = OUR_TTL,
        .proto = HS_ICMP,
        .src_addr = sender.dst_addr,
        .dst_addr = sender.src_addr,
    };
    set_ip_checksum(ip);
    *icmp = (struct hs_icmp){
        .type = HS_UNREACHABLE, .code = FRAGMENTATION_NEEDED, .sequence = htons((uint16_t)mtu)};
    icmp->checksum = (uint16_t)~hs_checksum_sum(icmp, 8 + quoted);
    g->counters.fragmentation_needed_sent++;
    return_frame(g, side, p, (uint32_t)sizeof(struct hs_ethernet) + 28 + quoted);
}
