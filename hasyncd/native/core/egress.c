#include "core/backend_flows.h"

#include <arpa/inet.h>
#include <string.h>

static void send_to(struct hs_gateway *g, const struct hs_neighbour *neighbour, int side,
                    const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    struct hs_ethernet *ethernet = (struct hs_ethernet *)frame;

    memcpy(ethernet->dst, neighbour->mac, 6);
    memcpy(ethernet->src, g->ports[side].mac, 6);
    g->counters.sent_packets++;
    g->counters.sent_bytes += length;
    g->output.send(g->output.context, side, vnet, frame, length);
}

static struct hs_neighbour *resolve(struct hs_gateway *g, const struct hs_queued *q)
{
    if (q->next_hop)
        return hs_next_hops_resolve(&g->hops, q->side, q->next_hop);
    return hs_next_hops6_resolve(&g->hops6, q->side, &q->next_hop6);
}

void hs_gateway_send_or_wait(struct hs_gateway *g, const struct hs_queued *q, uint64_t now_ns)
{
    struct hs_neighbour *neighbour = resolve(g, q);
    struct hs_queued waiting = *q;

    if (neighbour) {
        send_to(g, neighbour, q->side, &q->vnet, q->frame, q->length);
        return;
    }
    waiting.deadline_ns = now_ns + HS_UNRESOLVED_MS * 1000000ull;
    if (!hs_packet_queue_push(&g->unresolved, &waiting))
        g->counters.drop_unresolved++;
}

bool hs_gateway_fits(const struct hs_packet *p, uint32_t mtu)
{
    uint32_t headers = (uint32_t)(p->l4 - p->frame - (long)sizeof(struct hs_ethernet));

    if (p->vnet && p->vnet->gso_type) {
        headers += p->tuple.proto == HS_TCP ? (p->l4[12] >> 4) * 4u : 8;
        return headers + p->vnet->gso_size <= mtu;
    }
    return hs_packet_ip_length(p) <= mtu;
}

bool hs_gateway_may_leave(struct hs_gateway *g, int side, int route_side, bool hairpin)
{
    if (route_side != HS_NO_SIDE && (route_side != side) != hairpin)
        return true;
    if (route_side != HS_NO_SIDE)
        g->counters.drop_same_side++;
    else
        g->counters.drop_no_route++;
    return false;
}

static const struct hs_route *choose_route(struct hs_gateway *g, int side, struct hs_packet *p)
{
    const struct hs_route *route = hs_next_hops_route(&g->hops, p->ip->dst_addr);

    if (!hs_gateway_may_leave(g, side, route ? route->side : HS_NO_SIDE, p->hairpin))
        return NULL;
    if (hs_gateway_fits(p, g->ports[route->side].mtu))
        return route;
    if (p->ip->fragment & htons(0x4000))
        hs_gateway_send_too_big(g, side, p, g->ports[route->side].mtu);
    g->counters.drop_too_big++;
    return NULL;
}

/* Where the packet leaves, its TTL decremented; false: nowhere, and it is counted. */
static bool direct(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_queued *packet)
{
    const struct hs_route *route = choose_route(g, side, p);

    if (!route)
        return false;
    hs_packet_decrement_ttl(p);
    *packet = (struct hs_queued){
        .frame = p->frame,
        .length = hs_packet_frame_length(p),
        .next_hop = route->gateway ? route->gateway : p->ip->dst_addr,
        .side = route->side,
    };
    return true;
}

void hs_gateway_forward(struct hs_gateway *g, int side, struct hs_packet *p,
                        const struct hs_flow *flow, uint64_t now_ns)
{
    struct hs_queued packet;

    if (!(p->ip ? direct(g, side, p, &packet) : hs_gateway_direct6(g, side, p, &packet, now_ns)))
        return;
    packet.came_by = (uint8_t)side;
    packet.slot = flow ? hs_flow_slot(g->table, flow) : HS_NOTHING;
    packet.version = flow ? flow->version : 0;
    packet.direction = p->direction;
    if (p->vnet)
        packet.vnet = *p->vnet;
    packet.vnet.flags &= (uint8_t)~HS_VNET_DATA_VALID; /* the kernel refuses it on transmit */
    if (flow && hs_gateway_is_uncommitted(g, flow))
        hs_gateway_hold(g, flow, &packet, now_ns);
    else
        hs_gateway_send_or_wait(g, &packet, now_ns);
}

void hs_gateway_retry_unresolved(struct hs_gateway *g, uint64_t now_ns)
{
    for (uint32_t left = g->unresolved.count; left; left--) {
        struct hs_queued packet = *hs_packet_queue_front(&g->unresolved);
        struct hs_neighbour *neighbour = resolve(g, &packet);

        hs_packet_queue_pop(&g->unresolved);
        if (packet.deadline_ns <= now_ns || !hs_gateway_armed(g, now_ns))
            g->counters.drop_unresolved++;
        else if (hs_gateway_waited_in_vain(g, &packet))
            continue;
        else if (neighbour)
            send_to(g, neighbour, packet.side, &packet.vnet, packet.frame, packet.length);
        else if (!hs_packet_queue_push(&g->unresolved, &packet))
            g->counters.drop_unresolved++;
    }
}
