/* After a hand-over: what still arrives here goes to the node that answers for the VIPs now (proto/pair.md §5a).
 *
 * Until that node has announced itself frames wait; its gratuitous ARP or unsolicited neighbour advertisement, of any
 * VIP, names the MAC to send them to. */
#include <arpa/inet.h>
#include <string.h>

#include "core/gateway.h"

enum { ARP_SENDER_MAC = 22, ARP_SENDER = 28 };

void hs_gateway_begin_relay(struct hs_gateway *g, uint64_t until_ns)
{
    g->relay_until_ns = until_ns;
    memset(g->relay_known, 0, sizeof g->relay_known);
}

void hs_gateway_end_relay(struct hs_gateway *g)
{
    if (!g->relay_until_ns)
        return;
    g->relay_until_ns = 0;
    g->counters.drop_hold_lost += hs_gateway_drop_held(g);
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
    return hs_flow_table_find(g->table, &tuple).flow || hs_rules_is_vip(&g->rules, tuple.dst_addr) ||
           (side == HS_INSIDE && hs_rules_find_nat(&g->rules, &tuple) >= 0);
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
    if ((kind != HS_PACKET_FLOW && kind != HS_PACKET_ICMP_ERROR) || !is_for_the_pair(g, side, &parsed))
        return false;
    packet.vnet.flags &= (uint8_t)~HS_VNET_DATA_VALID;
    packet.length = hs_packet_frame_length(&parsed);
    if (g->relay_known[side])
        send_on(g, side, &packet.vnet, frame, packet.length);
    else if (!hs_packet_queue_push(queue_of(g, side), &packet))
        g->counters.drop_hold_lost++;
    return true;
}
