#include "core/gateway.h"

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

/* Sends now, or lets the packet wait for its neighbour. */
static void send_or_wait(struct hs_gateway *g, const struct hs_queued *q, uint64_t now_ns)
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

/* Packets wait for no delta up to this sequence. */
static uint64_t committed(const struct hs_gateway *g)
{
    uint64_t sequence = g->commit == HS_COMMIT_ACK ? g->log.acknowledged : g->emitted;

    return sequence > g->failed_open ? sequence : g->failed_open;
}

/* The ADD that a flow's packets wait for; later records of the flow hold nothing back (proto/sync.md §6). */
static uint64_t add_sequence(const struct hs_gateway *g, const struct hs_flow *flow)
{
    return g->log.next - ((uint32_t)g->log.next - flow->add_sequence);
}

static bool is_uncommitted(const struct hs_gateway *g, const struct hs_flow *flow)
{
    return flow && g->commit != HS_COMMIT_NONE && flow->flags & HS_FLOW_UNCOMMITTED &&
           add_sequence(g, flow) > committed(g);
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
    if (p->vnet)
        packet.vnet = *p->vnet;
    packet.vnet.flags &= (uint8_t)~HS_VNET_DATA_VALID; /* the kernel refuses it on transmit */
    if (!is_uncommitted(g, flow)) {
        send_or_wait(g, &packet, now_ns);
        return;
    }
    packet.sequence = add_sequence(g, flow);
    packet.deadline_ns = now_ns + g->commit_timeout_ns;
    if (hs_packet_queue_push(&g->held, &packet)) {
        g->counters.held_packets++;
        return;
    }
    if (!g->fail_open) {
        g->counters.fail_closed_dropped++;
        return;
    }
    g->counters.fail_open_released++;
    send_or_wait(g, &packet, now_ns);
}

uint32_t hs_gateway_release(struct hs_gateway *g, uint64_t now_ns)
{
    uint32_t released = 0;
    struct hs_queued *packet;

    if (!hs_gateway_armed(g, now_ns))
        return 0;
    while ((packet = hs_packet_queue_front(&g->held)) &&
           (g->commit == HS_COMMIT_NONE || packet->sequence <= committed(g))) {
        send_or_wait(g, packet, now_ns);
        hs_packet_queue_pop(&g->held);
        released++;
    }
    return released;
}

void hs_gateway_expire_held(struct hs_gateway *g, uint64_t now_ns)
{
    struct hs_queued *packet;

    while ((packet = hs_packet_queue_front(&g->held)) && packet->deadline_ns <= now_ns) {
        if (!hs_gateway_armed(g, now_ns)) {
            g->counters.drop_no_lease++;
        } else if (g->fail_open) {
            g->counters.fail_open_released++;
            if (packet->sequence > g->failed_open)
                g->failed_open = packet->sequence;
            send_or_wait(g, packet, now_ns);
        } else {
            g->counters.fail_closed_dropped++;
        }
        hs_packet_queue_pop(&g->held);
    }
}

void hs_gateway_retry_unresolved(struct hs_gateway *g, uint64_t now_ns)
{
    for (uint32_t left = g->unresolved.count; left; left--) {
        struct hs_queued packet = *hs_packet_queue_front(&g->unresolved);
        struct hs_neighbour *neighbour = resolve(g, &packet);

        hs_packet_queue_pop(&g->unresolved);
        if (packet.deadline_ns <= now_ns || !hs_gateway_armed(g, now_ns))
            g->counters.drop_unresolved++;
        else if (neighbour)
            send_to(g, neighbour, packet.side, &packet.vnet, packet.frame, packet.length);
        else if (!hs_packet_queue_push(&g->unresolved, &packet))
            g->counters.drop_unresolved++;
    }
}

void hs_gateway_set_commit(struct hs_gateway *g, enum hs_commit commit, uint64_t timeout_ns,
                           bool fail_open, uint64_t now_ns)
{
    uint32_t released;

    g->commit = commit;
    g->log.head->commit = commit;
    g->commit_timeout_ns = timeout_ns;
    g->fail_open = fail_open;
    released = hs_gateway_release(g, now_ns);
    /* What still waits when holding ends was not confirmed by anybody. */
    if (commit == HS_COMMIT_NONE)
        g->counters.fail_open_released += released;
}
