#include <arpa/inet.h>
#include <string.h>

#include "core/gateway.h"

struct arp {
    struct hs_ethernet ethernet;
    uint16_t hardware, protocol;
    uint8_t hardware_length, protocol_length;
    uint16_t operation;
    uint8_t sender_mac[6];
    uint32_t sender;
    uint8_t target_mac[6];
    uint32_t target;
} __attribute__((packed));

_Static_assert(sizeof(struct arp) == HS_ARP_FRAME, "RFC 826 over Ethernet");

enum { REQUEST = 1, REPLY = 2 };

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const struct hs_vnet plain; /* no offload */

void hs_gateway_receive_arp(struct hs_gateway *g, int side, uint8_t *frame, uint32_t length)
{
    struct arp *arp = (struct arp *)frame;

    if (length < sizeof *arp || arp->hardware != htons(1) || arp->protocol != htons(0x0800) ||
        arp->hardware_length != 6 || arp->protocol_length != 4) {
        g->counters.drop_malformed++;
        return;
    }
    if (arp->operation != htons(REQUEST) || !hs_rules_is_vip_on(&g->rules, arp->target, side) ||
        arp->sender == arp->target)
        return; /* the kernel's business, or somebody's announcement */
    memcpy(arp->ethernet.dst, arp->sender_mac, 6);
    memcpy(arp->ethernet.src, g->ports[side].mac, 6);
    memcpy(arp->target_mac, arp->sender_mac, 6);
    memcpy(arp->sender_mac, g->ports[side].mac, 6);
    arp->operation = htons(REPLY);
    uint32_t asked = arp->target;
    arp->target = arp->sender;
    arp->sender = asked;
    g->counters.arp_answered++;
    g->output.send(g->output.context, side, &plain, frame, sizeof *arp);
}

/* A broadcast of ours that names no address yet. */
static void fill(struct arp *arp, const uint8_t mac[6], uint16_t operation)
{
    *arp = (struct arp){
        .ethernet.type = htons(0x0806),
        .hardware = htons(1),
        .protocol = htons(0x0800),
        .hardware_length = 6,
        .protocol_length = 4,
        .operation = htons(operation),
    };
    memcpy(arp->ethernet.dst, broadcast, 6);
    memcpy(arp->ethernet.src, mac, 6);
    memcpy(arp->sender_mac, mac, 6);
}

static void announce(struct hs_gateway *g, struct arp *arp, const struct hs_vip *vip,
                     uint16_t operation)
{
    fill(arp, g->ports[vip->side].mac, operation);
    arp->sender = arp->target = vip->address;
    if (operation == REPLY)
        memcpy(arp->target_mac, broadcast, 6);
    g->counters.arp_announced++;
    g->output.send(g->output.context, vip->side, &plain, (uint8_t *)arp, sizeof *arp);
}

uint32_t hs_gateway_probe(struct hs_gateway *g, uint8_t *scratch)
{
    struct arp *frames = (struct arp *)scratch;

    for (uint32_t i = 0; i < g->rules.vip_count; i++) {
        const struct hs_vip *vip = &g->rules.vips[i];

        fill(&frames[i], g->ports[vip->side].mac, REQUEST);
        frames[i].target = vip->address;
        g->counters.vip_probes_sent++;
        g->output.send(g->output.context, vip->side, &plain, (uint8_t *)&frames[i], sizeof frames[i]);
    }
    return g->rules.vip_count + hs_gateway_probe6(g, (uint8_t *)(frames + g->rules.vip_count));
}

uint32_t hs_gateway_announce(struct hs_gateway *g, uint8_t *scratch)
{
    struct arp *frames = (struct arp *)scratch;
    uint32_t sent = 0;

    for (uint32_t i = 0; i < g->rules.vip_count; i++) {
        announce(g, &frames[sent++], &g->rules.vips[i], REQUEST);
        announce(g, &frames[sent++], &g->rules.vips[i], REPLY);
    }
    return sent + hs_gateway_announce6(g, (uint8_t *)(frames + sent));
}
