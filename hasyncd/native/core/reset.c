#include "core/reset.h"

#include <arpa/inet.h>

#include "core/checksum.h"
#include "core/ipv6.h"

enum { OUR_HOPS = 64, TCP_HEADER = 20, IPV4_HEADER = 20, IPV6_HEADER = 40 };

static void put32(uint8_t *at, uint32_t value)
{
    value = htonl(value);
    memcpy(at, &value, 4);
}

/* The reset's TCP header behind `l4`: with the sequence number that its receiver waits for, whatever we knew of the
 * connection (so it is exact, RFC 5961 §3.2). */
static void write_reset(uint8_t *l4, const struct hs_packet *p)
{
    uint8_t header[TCP_HEADER] = {0};
    uint32_t acknowledged;

    memcpy(header, p->l4 + 2, 2);
    memcpy(header + 2, p->l4, 2);
    memcpy(&acknowledged, p->l4 + 8, 4);
    header[12] = TCP_HEADER / 4 << 4;
    header[13] = HS_RST;
    if (p->tcp_flags & HS_ACK) {
        memcpy(header + 4, &acknowledged, 4);
    } else {
        put32(header + 8, hs_packet_sequence_end(p));
        header[13] |= HS_ACK;
    }
    memcpy(l4, header, sizeof header);
}

/* Addresses and header together: `addresses` bytes that end where the header begins. */
static void set_checksum(uint8_t *l4, uint32_t addresses)
{
    uint64_t sum = htons(HS_TCP) + htons(TCP_HEADER);
    uint16_t checksum = (uint16_t)~hs_checksum_fold(sum + hs_checksum_sum(l4 - addresses, addresses + TCP_HEADER));

    memcpy(l4 + 16, &checksum, 2);
}

static void write_ip(uint8_t *at, uint32_t src_addr, uint32_t dst_addr)
{
    struct hs_ipv4 ip = {
        .version_ihl = 0x45,
        .total_length = htons(IPV4_HEADER + TCP_HEADER),
        .fragment = htons(0x4000),
        .ttl = OUR_HOPS,
        .proto = HS_TCP,
        .src_addr = src_addr,
        .dst_addr = dst_addr,
    };

    ip.checksum = (uint16_t)~hs_checksum_sum(&ip, sizeof ip);
    memcpy(at, &ip, sizeof ip);
}

static void write_ip6(uint8_t *at, const struct hs_ends6 *ends)
{
    struct hs_ipv6 ip6 = {
        .version_class_label = htonl(6u << 28),
        .payload_length = htons(TCP_HEADER),
        .next_header = HS_TCP,
        .hop_limit = OUR_HOPS,
        .ends = *ends,
    };

    memcpy(at, &ip6, sizeof ip6);
}

static uint32_t turn_round(struct hs_packet *p)
{
    struct hs_ipv4 *ip = p->ip;
    uint32_t src_addr = ip->src_addr;
    uint8_t *l4 = (uint8_t *)(ip + 1);

    write_reset(l4, p);
    write_ip((uint8_t *)ip, ip->dst_addr, src_addr);
    set_checksum(l4, 8);
    return sizeof *ip + TCP_HEADER;
}

static uint32_t turn_round6(struct hs_packet *p)
{
    struct hs_ipv6 *ip6 = p->ip6;
    struct hs_ends6 ends = ip6->ends;
    uint8_t *l4 = (uint8_t *)(ip6 + 1);

    write_reset(l4, p);
    ends = hs_ends6_invert(&ends);
    write_ip6((uint8_t *)ip6, &ends);
    set_checksum(l4, sizeof ends);
    return sizeof *ip6 + TCP_HEADER;
}

bool hs_reset_return(struct hs_gateway *g, int side, struct hs_packet *p)
{
    if (p->tcp_flags & HS_RST)
        return false;
    hs_gateway_return_frame(g, side, p,
                            (uint32_t)sizeof(struct hs_ethernet) + (p->ip ? turn_round(p) : turn_round6(p)));
    return true;
}

/* --- a reset that nothing of the moment asked for ----------------------------------------------- */

/* The TCP header of what `to` names; false: neither a number that its receiver waits for, nor a SYN of its to refuse. */
static bool write_unasked(uint8_t *l4, const struct hs_flow *flow, enum hs_direction direction,
                          const struct hs_tuple *to)
{
    bool knows_sent = flow->local & (direction == HS_ORIGINAL ? HS_LOCAL_SEQUENCE_REPLY : HS_LOCAL_SEQUENCE);
    bool knows_received = flow->local & (direction == HS_ORIGINAL ? HS_LOCAL_SEQUENCE : HS_LOCAL_SEQUENCE_REPLY);
    bool waits = direction == HS_ORIGINAL && flow->state == HS_TCP_SYN_SENT && knows_received;

    if (!knows_sent && !waits)
        return false;
    memset(l4, 0, TCP_HEADER);
    memcpy(l4, &to->src_port, 2);
    memcpy(l4 + 2, &to->dst_port, 2);
    if (knows_sent)
        put32(l4 + 4, flow->sequence[!direction]);
    if (knows_received)
        put32(l4 + 8, flow->sequence[direction]);
    l4[12] = TCP_HEADER / 4 << 4;
    l4[13] = knows_received ? HS_RST | HS_ACK : HS_RST;
    return true;
}

bool hs_reset_send(struct hs_gateway *g, const struct hs_flow *flow, enum hs_direction direction, uint64_t now_ns)
{
    bool is6 = flow->tuple[HS_ORIGINAL].family == HS_IPV6;
    struct hs_tuple to = hs_tuple_invert(&flow->tuple[direction]);
    uint8_t frame[sizeof(struct hs_ethernet) + IPV6_HEADER + TCP_HEADER];
    uint8_t *ip = frame + sizeof(struct hs_ethernet), *l4 = ip + (is6 ? IPV6_HEADER : IPV4_HEADER);
    struct hs_queued queued = {.frame = frame, .length = (uint32_t)(l4 - frame) + TCP_HEADER, .slot = HS_NOTHING};
    struct hs_ends6 ends = {0};

    if (!write_unasked(l4, flow, direction, &to))
        return false;
    ((struct hs_ethernet *)frame)->type = htons(is6 ? HS_ETHERTYPE_IPV6 : HS_ETHERTYPE_IPV4);
    if (is6) {
        const struct hs_route6 *route;

        ends = hs_flow_ends6(g->table, flow, direction);
        ends = hs_ends6_invert(&ends);
        route = hs_next_hops6_route(&g->hops6, &ends.dst);
        if (!route)
            return false;
        queued.side = route->side;
        queued.next_hop6 = hs_address6_is_zero(&route->gateway) ? ends.dst : route->gateway;
        write_ip6(ip, &ends);
    } else {
        const struct hs_route *route = hs_next_hops_route(&g->hops, to.dst_addr);

        if (!route)
            return false;
        queued.side = route->side;
        queued.next_hop = route->gateway ? route->gateway : to.dst_addr;
        write_ip(ip, to.src_addr, to.dst_addr);
    }
    set_checksum(l4, is6 ? sizeof ends : 8);
    hs_gateway_send_or_wait(g, &queued, now_ns);
    return true;
}
