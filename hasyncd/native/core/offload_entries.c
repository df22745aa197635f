#include "core/checksum.h"
#include "core/gateway.h"
#include "core/offload.h"

/* Where a direction's packets go: false where no entry can say it. */
static bool find_way4(const struct hs_gateway *g, uint32_t destination, uint8_t *side, uint32_t *next_hop)
{
    const struct hs_route *route = hs_next_hops_route(&g->hops, destination);

    if (!route)
        return false;
    *side = route->side;
    *next_hop = route->gateway ? route->gateway : destination;
    return true;
}

static uint32_t sum_of(const void *from, const void *to, size_t bytes)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < bytes; i += 2) {
        uint16_t old, new;

        memcpy(&old, (const uint8_t *)from + i, 2);
        memcpy(&new, (const uint8_t *)to + i, 2);
        sum += old == new ? 0 : hs_checksum_delta16(old, new);
    }
    return hs_checksum_fold(sum);
}

static uint32_t gate_of(const struct hs_gateway *g, const struct hs_flow *flow)
{
    return hs_gateway_backend_of(g, flow) ? (uint32_t)flow->rule * HS_BACKENDS_MAX + flow->backend : HS_CACHE_GATES;
}

static struct hs_cache_way make_way(const struct hs_gateway *g, const struct hs_flow *flow, int direction, uint8_t side,
                                    const struct hs_tuple *to)
{
    const struct hs_offload *o = &g->offload;
    const struct hs_tuple *from = &flow->tuple[direction];

    return (struct hs_cache_way){
        .comes_by = o->ifindex[!side],
        .leaves_by = o->ifindex[side],
        .mtu = (uint16_t)(g->ports[side].mtu < UINT16_MAX ? g->ports[side].mtu : UINT16_MAX),
        .side = !side,
        .use = (uint32_t)direction * o->capacity + hs_flow_slot(g->table, flow),
        .epoch = o->control->epoch,
        .gate = gate_of(g, flow),
        .ports_sum = sum_of(&from->src_port, &to->src_port, 4),
        .src_port = to->src_port,
        .dst_port = to->dst_port,
    };
}

static bool describe4(const struct hs_gateway *g, const struct hs_flow *flow, struct hs_offload_change *change)
{
    uint8_t sides[2];

    for (int direction = 0; direction < 2; direction++) {
        struct hs_tuple to = hs_tuple_invert(&flow->tuple[!direction]);
        struct hs_cache_entry *entry = &change->entries[direction].v4;
        uint32_t next_hop;

        if (!find_way4(g, to.dst_addr, &sides[direction], &next_hop))
            return false;
        *entry = (struct hs_cache_entry){
            .way = make_way(g, flow, direction, sides[direction], &to),
            .src_addr = to.src_addr,
            .dst_addr = to.dst_addr,
            .next_hop = next_hop,
        };
        entry->way.addresses_sum = sum_of(&flow->tuple[direction].src_addr, &to.src_addr, 8);
    }
    return sides[0] != sides[1];
}

static bool describe6(const struct hs_gateway *g, const struct hs_flow *flow, struct hs_offload_change *change)
{
    uint8_t sides[2];

    for (int direction = 0; direction < 2; direction++) {
        struct hs_ends6 from = hs_flow_ends6(g->table, flow, (enum hs_direction)direction);
        struct hs_ends6 back = hs_flow_ends6(g->table, flow, (enum hs_direction)!direction);
        struct hs_ends6 to = hs_ends6_invert(&back);
        struct hs_tuple ports = hs_tuple_invert(&flow->tuple[!direction]);
        const struct hs_route6 *route = hs_next_hops6_route(&g->hops6, &to.dst);
        struct hs_cache_entry6 *entry = &change->entries[direction].v6;

        if (!route)
            return false;
        sides[direction] = route->side;
        *entry = (struct hs_cache_entry6){.way = make_way(g, flow, direction, route->side, &ports)};
        entry->way.addresses_sum = sum_of(&from, &to, sizeof from);
        memcpy(entry->src_addr, &to.src, 16);
        memcpy(entry->dst_addr, &to.dst, 16);
        memcpy(entry->next_hop, hs_address6_is_zero(&route->gateway) ? &to.dst : &route->gateway, 16);
    }
    return sides[0] != sides[1];
}

bool hs_offload_describe(const struct hs_gateway *g, const struct hs_flow *flow, struct hs_offload_change *change)
{
    return change->is6 ? describe6(g, flow, change) : describe4(g, flow, change);
}

bool hs_offload_name(const struct hs_gateway *g, const struct hs_flow *flow, union hs_offload_key keys[2])
{
    bool is6 = flow->tuple[HS_ORIGINAL].family == HS_IPV6;

    memset(keys, 0, 2 * sizeof *keys);
    for (int direction = 0; direction < 2; direction++) {
        const struct hs_tuple *t = &flow->tuple[direction];
        struct hs_ends6 ends;

        if (!is6) {
            memcpy(&keys[direction].v4, t, sizeof *t);
            continue;
        }
        ends = hs_flow_ends6(g->table, flow, (enum hs_direction)direction);
        memcpy(keys[direction].v6.src_addr, &ends.src, 16);
        memcpy(keys[direction].v6.dst_addr, &ends.dst, 16);
        keys[direction].v6.src_port = t->src_port;
        keys[direction].v6.dst_port = t->dst_port;
        keys[direction].v6.proto = t->proto;
    }
    return is6;
}
