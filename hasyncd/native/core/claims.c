/* Who else says that a VIP is his (proto/pair.md §4c): heard armed or not, and told to whoever decides. */
#include <arpa/inet.h>
#include <string.h>

#include "core/gateway.h"
#include "core/ipv6.h"

enum { ARP_SENDER_MAC = 22, ARP_SENDER = 28 };

static void note(const struct hs_gateway *g, int side, struct hs_claim *claim, const uint8_t mac[6], uint64_t now_ns)
{
    if (mac[0] & 1 || memcmp(mac, g->ports[side].mac, 6) == 0)
        return;
    memcpy(claim->mac, mac, 6);
    claim->heard_ns = now_ns;
}

/* Request or reply alike (RFC 5227 §2.1.1): whoever sends from the address has it. */
static void note_arp(struct hs_gateway *g, int side, const uint8_t *frame, uint64_t now_ns)
{
    uint32_t sender;

    memcpy(&sender, frame + ARP_SENDER, 4);
    for (uint32_t i = 0; i < g->rules.vip_count; i++)
        if (g->rules.vips[i].address == sender && g->rules.vips[i].side == side)
            note(g, side, &g->claims[i], frame + ARP_SENDER_MAC, now_ns);
}

static void note_advertisement(struct hs_gateway *g, int side, const struct hs_received *r, uint64_t now_ns)
{
    struct hs_address6 target;
    struct hs_packet p;
    uint8_t mac[6];

    if (hs_gateway_parse(g, &p, r->vnet, r->frame, r->length) != HS_PACKET_NEIGHBOUR ||
        !hs_gateway_is_owners_advertisement(g, side, &p, mac))
        return;
    memcpy(&target, r->frame + HS_ADVERTISED, sizeof target);
    for (uint32_t i = 0; i < g->rules.vip6_count; i++)
        if (hs_address6_equal(&g->rules.vips6[i].address, &target) && g->rules.vips6[i].side == side)
            note(g, side, &g->claims6[i], mac, now_ns);
}

void hs_gateway_note_claim(struct hs_gateway *g, int side, const struct hs_received *r, uint64_t now_ns)
{
    const struct hs_ethernet *ethernet = (const struct hs_ethernet *)r->frame;

    if (r->length < HS_ARP_FRAME)
        return;
    if (ethernet->type == htons(HS_ETHERTYPE_ARP))
        note_arp(g, side, r->frame, now_ns);
    else if (g->rules.vip6_count && ethernet->type == htons(HS_ETHERTYPE_IPV6) &&
             r->length >= HS_ADVERTISED + sizeof(struct hs_address6) &&
             r->frame[HS_ADVERTISED - 8] == HS_NEIGHBOUR_ADVERTISEMENT)
        note_advertisement(g, side, r, now_ns);
}
