/* After a hand-over: what still arrives here goes to the node that answers for the VIPs now (proto/pair.md §5a).
 *
 * Until that node has announced itself frames wait; its gratuitous ARP or unsolicited neighbour advertisement, of any
 * VIP, names the MAC to send them to. */
#include <arpa/inet.h>
#include <string.h>

#include "core/gateway.h"
#include "core/ipv6.h"

enum { ARP_SENDER_MAC = 22, ARP_SENDER = 28 };

void hs_gateway_end_relay(struct hs_gateway *g)
{
    if (!g->relay_until_ns)
        return;
    g->relay_until_ns = 0;
    g->counters.drop_hold_lost += hs_gateway_drop_held(g);
}

void hs_gateway_take_back(struct hs_gateway *g, uint64_t now_ns)
{
    uint32_t counts[HS_SIDES] = {g->held[0].count, g->held[1].count};

    if (!g->relay_until_ns || !hs_gateway_armed(g, now_ns)) {
        hs_gateway_end_relay(g);
        return;
    }
    g->relay_until_ns = 0;
    /* Packets of new flows join the same queues, behind: they wait for their commit. */
    for (int side = 0; side < HS_SIDES; side++)
        for (; counts[side]; counts[side]--) {
            struct hs_queued *straggler = hs_packet_queue_front(&g->held[side]);

            hs_gateway_receive(g, side, &straggler->vnet, straggler->frame, straggler->length, now_ns);
            hs_packet_queue_pop(&g->held[side]);
        }
}

static void send_on(struct hs_gateway *g, int side, const struct hs_vnet *vnet, uint8_t *frame,
                    uint32_t length)
{
    struct hs_ethernet *ethernet = (struct hs_ethernet *)frame;

    memcpy(ethernet->dst, g->relay_mac[side], 6);
    memcpy(ethernet->src, g->ports[side].mac, 6);
    g->counters.relayed_packets++;
    g->output.send(g->output.context, side, vnet, frame, length);
}

/* A queue a side: once a side's owner is known nothing is put into its queue any more, so that frames sent from
 * there lie still until the batch has left. */
static struct hs_packet_queue *queue_of(struct hs_gateway *g, int side)
{
    return &g->held[side];
}

/* A rewritten packet, its TTL decremented, becomes what came in. */
static void restore(struct hs_gateway *g, struct hs_packet *p, const struct hs_flow *flow,
                    enum hs_direction direction, bool later_fragment)
{
    const struct hs_tuple *from = &flow->tuple[direction];
    struct hs_ends6 ends;

    if (p->ip6) {
        ends = hs_flow_ends6(g->table, flow, direction);
        p->ip6->hop_limit++;
        if (later_fragment)
            p->ip6->ends = ends;
        else
            hs_packet6_rewrite(p, from, &ends);
        return;
    }
    hs_packet_restore_ttl(p);
    if (later_fragment)
        hs_packet_rewrite_addresses(p, from->src_addr, from->dst_addr);
    else
        hs_packet_rewrite(p, from);
}

/* Gives a packet that is ready to leave the addresses and ports back with which it came: its new owner translates it
 * himself, should he have the flow or not. False: it cannot be undone. */
static bool undo(struct hs_gateway *g, struct hs_queued *q)
{
    const struct hs_flow *flow;
    enum hs_packet_kind kind;
    struct hs_packet p;

    if (q->slot == HS_NOTHING || !hs_flow_table_holds(g->table, q->slot))
        return false; /* an error that we translated, or a flow that has ended */
    flow = &g->table->flows[q->slot];
    kind = hs_gateway_parse(g, &p, &q->vnet, q->frame, q->length);
    if (flow->version != q->version || (kind != HS_PACKET_FLOW && kind != HS_PACKET_FRAGMENT))
        return false;
    if (kind == HS_PACKET_FRAGMENT && !hs_gateway_fragment_offset(&p) && !hs_gateway_parse_first_fragment(g, &p))
        return false;
    restore(g, &p, flow, (enum hs_direction)q->direction,
            kind == HS_PACKET_FRAGMENT && hs_gateway_fragment_offset(&p));
    return true;
}

/* Moves what waits in a queue to where stragglers wait. `raw`: nothing was done to it yet. */
static void keep_waiting(struct hs_gateway *g, struct hs_packet_queue *queue, uint32_t count, bool raw)
{
    for (; count; count--) {
        struct hs_queued packet = *hs_packet_queue_front(queue);
        bool done_with = raw && packet.sequence == HS_FRAGMENT_DONE_WITH, good = raw || undo(g, &packet);

        hs_packet_queue_pop(queue);
        if (!raw)
            packet.side = packet.came_by;
        if (!done_with && (!good || !hs_packet_queue_push(queue_of(g, packet.side), &packet)))
            g->counters.drop_hold_lost++;
    }
}

void hs_gateway_begin_relay(struct hs_gateway *g, uint64_t until_ns)
{
    uint32_t emit = g->held[0].count, ack = g->held[1].count;

    g->relay_until_ns = until_ns;
    memset(g->relay_known, 0, sizeof g->relay_known);
    keep_waiting(g, &g->held[0], emit, false);
    keep_waiting(g, &g->held[1], ack, false);
    keep_waiting(g, &g->unresolved, g->unresolved.count, false);
    keep_waiting(g, &g->fragments.waiting, g->fragments.waiting.count, true);
}

static void flush_side(struct hs_gateway *g, int side)
{
    struct hs_packet_queue *queue = queue_of(g, side);
    struct hs_queued *packet;

    while ((packet = hs_packet_queue_front(queue))) {
        send_on(g, side, &packet->vnet, packet->frame, packet->length);
        hs_packet_queue_pop(queue);
    }
}

/* An announcement of one of our VIPs from another MAC: that is the new owner. */
static void learn_owner6(struct hs_gateway *g, int side, const struct hs_packet *p)
{
    if (!hs_gateway_is_owners_advertisement(g, side, p, g->relay_mac[side]))
        return;
    g->relay_known[side] = true;
    flush_side(g, side);
}

static void learn_owner(struct hs_gateway *g, int side, const uint8_t *frame, uint32_t length)
{
    uint32_t sender;

    if (length < HS_ARP_FRAME)
        return;
    memcpy(&sender, frame + ARP_SENDER, 4);
    if (!hs_rules_is_vip_on(&g->rules, sender, side) ||
        memcmp(frame + ARP_SENDER_MAC, g->ports[side].mac, 6) == 0)
        return;
    memcpy(g->relay_mac[side], frame + ARP_SENDER_MAC, 6);
    g->relay_known[side] = true;
    flush_side(g, side);
}

/* A fragment names no flow. What leads through this node is the pair's: the new owner's rules decide. */
static bool leads_through(const struct hs_gateway *g, int side, const struct hs_packet *p)
{
    const struct hs_route *route;
    const struct hs_route6 *route6;

    if (p->ip6) {
        route6 = hs_next_hops6_route(&g->hops6, &p->ip6->ends.dst);
        return hs_rules6_is_vip(&g->rules, &p->ip6->ends.dst) || (route6 && route6->side != side);
    }
    route = hs_next_hops_route(&g->hops, p->ip->dst_addr);
    return hs_rules_is_own(&g->rules, p->ip->dst_addr) || (route && route->side != side);
}

/* Only what the data path would have taken: the machine's own traffic comes by the same tap. */
static bool is_for_the_pair6(const struct hs_gateway *g, int side, const struct hs_packet *p)
{
    struct hs_ends6 ends = hs_packet6_ends(p);
    struct hs_tuple tuple = p->tuple;

    if (p->inner6) {
        ends = hs_ends6_invert(&ends);
        tuple = hs_tuple_invert(&tuple);
    }
    return hs_flow_table_find6(g->table, &tuple, &ends).flow || hs_rules6_is_vip(&g->rules, &ends.dst) ||
           hs_rules6_find_pass(&g->rules, &ends, side);
}

static bool is_for_the_pair(const struct hs_gateway *g, int side, const struct hs_packet *p)
{
    struct hs_tuple tuple = p->inner ? hs_tuple_invert(&p->tuple) : p->tuple;

    if (p->ip6)
        return is_for_the_pair6(g, side, p);
    return hs_flow_table_find(g->table, &tuple).flow || hs_rules_is_own(&g->rules, tuple.dst_addr) ||
           (side == HS_INSIDE && (hs_rules_find_nat(&g->rules, &tuple) >= 0 ||
                                  hs_rules_find_own_public(&g->rules, tuple.src_addr)));
}

bool hs_gateway_relay(struct hs_gateway *g, int side, struct hs_vnet *vnet, uint8_t *frame,
                      uint32_t length)
{
    struct hs_queued packet = {.vnet = *vnet, .frame = frame, .length = length, .side = (uint8_t)side};
    enum hs_packet_kind kind;
    struct hs_packet parsed;

    if (length >= sizeof(struct hs_ethernet) &&
        ((struct hs_ethernet *)frame)->type == htons(HS_ETHERTYPE_ARP)) {
        learn_owner(g, side, frame, length);
        return true;
    }
    kind = hs_gateway_parse(g, &parsed, vnet, frame, length);
    if (kind == HS_PACKET_NEIGHBOUR) {
        learn_owner6(g, side, &parsed);
        return true;
    }
    if (kind == HS_PACKET_FRAGMENT ? !leads_through(g, side, &parsed)
                                   : (kind != HS_PACKET_FLOW && kind != HS_PACKET_ICMP_ERROR) ||
                                         !is_for_the_pair(g, side, &parsed))
        return false;
    packet.vnet.flags &= (uint8_t)~HS_VNET_DATA_VALID;
    packet.length = hs_packet_frame_length(&parsed);
    if (g->relay_known[side])
        send_on(g, side, &packet.vnet, frame, packet.length);
    else if (!hs_packet_queue_push(queue_of(g, side), &packet))
        g->counters.drop_hold_lost++;
    return true;
}
