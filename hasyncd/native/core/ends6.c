#include "core/ends6.h"

#include "core/pages.h"

enum { ICMPV6 = 58 };

bool hs_ends6_reserve(struct hs_flow_table *t)
{
    if (!t->ends6)
        t->ends6 = hs_pages_alloc(t->capacity * sizeof *t->ends6);
    return t->ends6;
}

struct hs_ends6 hs_flow_ends6(const struct hs_flow_table *t, const struct hs_flow *flow, enum hs_direction direction)
{
    const struct hs_long_ends *ends;

    if (!t->ends6) /* corrupted memory alone says that there are IPv6 flows */
        return (struct hs_ends6){0};
    ends = &t->ends6[hs_flow_slot(t, flow)];
    if (direction == HS_ORIGINAL)
        return (struct hs_ends6){ends->src, ends->dst};
    return (struct hs_ends6){ends->reply_src, ends->src};
}

struct hs_tuple hs_tuple6(struct hs_seed seed, const struct hs_ends6 *ends, uint16_t src_port, uint16_t dst_port,
                          uint8_t proto)
{
    return (struct hs_tuple){
        .src_addr = hs_address6_fold(seed, &ends->src),
        .dst_addr = hs_address6_fold(seed, &ends->dst),
        .src_port = src_port,
        .dst_port = dst_port,
        .proto = proto,
        .family = HS_IPV6,
    };
}

void hs_flow_set_ends6(struct hs_flow_table *t, struct hs_flow *flow, const struct hs_ends6 *original,
                       const struct hs_address6 *reply_src)
{
    hs_flow_shift_digest(t, flow, -hs_flow_digest6(t, flow));
    t->ends6[hs_flow_slot(t, flow)] = (struct hs_long_ends){original->src, original->dst, *reply_src};
    hs_flow_shift_digest(t, flow, hs_flow_digest6(t, flow));
}

uint64_t hs_flow_digest6(const struct hs_flow_table *t, const struct hs_flow *flow)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];
    struct hs_ends6 there = hs_flow_ends6(t, flow, HS_ORIGINAL), back = hs_flow_ends6(t, flow, HS_REPLY);
    uint8_t bytes[80] = {0};

    memcpy(bytes, &there, 32);
    memcpy(bytes + 32, &original->src_port, 2);
    memcpy(bytes + 34, &original->dst_port, 2);
    bytes[36] = original->proto == HS_ICMP ? ICMPV6 : original->proto;
    bytes[37] = original->family ^ HS_IPV6; /* 0, unless memory is corrupt */
    memcpy(bytes + 38, original->zero, 2);
    memcpy(bytes + 40, &back, 32);
    memcpy(bytes + 72, &reply->src_port, 2);
    memcpy(bytes + 74, &reply->dst_port, 2);
    hs_flow_digest_tail(t, flow, bytes + 37, bytes + 76);
    return hs_siphash(t->seed, bytes, sizeof bytes);
}
