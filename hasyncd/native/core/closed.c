#include <arpa/inet.h>

#include "core/checksum.h"
#include "core/gateway.h"
#include "core/merge.h"

enum { OUR_HOPS = 64, TCP_HEADER = 20 };

static struct hs_closed *set_of(struct hs_gateway *g, const struct hs_tuple *tuple)
{
    uint64_t hash = hs_siphash(g->table->seed, tuple, sizeof *tuple);

    return &g->closed[(hash & (HS_CLOSED_SETS - 1)) * HS_CLOSED_WAYS];
}

/* Where there is no room, the one that would end first is forgotten: its ends find out by their own timeouts. */
void hs_gateway_close_end(struct hs_gateway *g, const struct hs_tuple *tuple, uint64_t until_s)
{
    struct hs_closed *set = set_of(g, tuple), *place = set;

    for (int way = 0; way < HS_CLOSED_WAYS; way++) {
        if (set[way].until_s && hs_tuple_equal(&set[way].tuple, tuple)) {
            place = &set[way];
            break;
        }
        if (set[way].until_s < place->until_s)
            place = &set[way];
    }
    *place = (struct hs_closed){*tuple, until_s};
    if (until_s > g->closed_until_s)
        g->closed_until_s = until_s;
}

static bool is_closed(struct hs_gateway *g, const struct hs_tuple *tuple, uint64_t now_s)
{
    const struct hs_closed *set = set_of(g, tuple);

    for (int way = 0; way < HS_CLOSED_WAYS; way++)
        if (set[way].until_s > now_s && hs_tuple_equal(&set[way].tuple, tuple))
            return true;
    return false;
}

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

/* Options and extension headers are left away. */
static uint32_t turn_round(struct hs_packet *p)
{
    struct hs_ipv4 *ip = p->ip;
    uint32_t src_addr = ip->src_addr;
    uint8_t *l4 = (uint8_t *)(ip + 1);

    write_reset(l4, p);
    *ip = (struct hs_ipv4){
        .version_ihl = 0x45,
        .total_length = htons(sizeof *ip + TCP_HEADER),
        .fragment = htons(0x4000),
        .ttl = OUR_HOPS,
        .proto = HS_TCP,
        .src_addr = ip->dst_addr,
        .dst_addr = src_addr,
    };
    ip->checksum = (uint16_t)~hs_checksum_sum(ip, sizeof *ip);
    set_checksum(l4, 8);
    return sizeof *ip + TCP_HEADER;
}

static uint32_t turn_round6(struct hs_packet *p)
{
    struct hs_ipv6 *ip6 = p->ip6;
    uint8_t *l4 = (uint8_t *)(ip6 + 1);

    write_reset(l4, p);
    ip6->payload_length = htons(TCP_HEADER);
    ip6->next_header = HS_TCP;
    ip6->hop_limit = OUR_HOPS;
    ip6->ends = hs_ends6_invert(&ip6->ends);
    set_checksum(l4, sizeof ip6->ends);
    return sizeof *ip6 + TCP_HEADER;
}

bool hs_gateway_reset_closed(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    uint64_t now_s = now_ns / 1000000000;

    if (now_s >= g->closed_until_s || p->tuple.proto != HS_TCP || p->tcp_flags & HS_RST || hs_packet_is_first(p) ||
        !is_closed(g, &p->tuple, now_s))
        return false;
    hs_gateway_return_frame(g, side, p,
                            (uint32_t)sizeof(struct hs_ethernet) + (p->ip ? turn_round(p) : turn_round6(p)));
    g->counters.closed_resets_sent++;
    return true;
}
