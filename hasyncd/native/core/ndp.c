/* Neighbour discovery for our VIPs (RFC 4861; net/ipv6/ndisc.c: ndisc_recv_ns, ndisc_send_unsol_na). Whatever else is
 * said about neighbours, routers and redirects is the kernel's business and never forwarded. */
#include <arpa/inet.h>
#include <string.h>

#include "core/gateway.h"
#include "core/ipv6.h"

enum { HOP_LIMIT = 255, SOURCE_OPTION = 1, TARGET_OPTION = 2 };
enum na_flags { ROUTER = 0x80, SOLICITED = 0x40, OVERRIDE = 0x20 };

/* A solicitation or advertisement with one link-layer option. */
struct neighbour_message {
    struct hs_ethernet ethernet;
    struct hs_ipv6 ip;
    uint8_t type, code;
    uint16_t checksum;
    uint8_t flags, reserved[3];
    struct hs_address6 target;
    uint8_t option, option_length, mac[6];
} __attribute__((packed));

_Static_assert(sizeof(struct neighbour_message) == HS_ADVERTISEMENT_FRAME, "RFC 4861 over Ethernet");

enum { MESSAGE = 32, FIXED_PART = 24, BEFORE_MESSAGE = 14 + 40 };

static const struct hs_vnet plain; /* no offload */
static const struct hs_address6 all_nodes = {{0xff, 2, [15] = 1}};
static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};

/* The MAC of an option of this kind, or NULL; `*sound` false: the options are broken (RFC 4861 §7.1.1). */
static const uint8_t *find_option(const struct hs_packet *p, uint8_t kind, bool *sound)
{
    const uint8_t *found = NULL;

    *sound = true;
    for (uint32_t at = FIXED_PART, size; at < p->l4_length; at += size) {
        size = p->l4_length - at < 8 ? 0 : p->l4[at + 1] * 8u;
        if (!size || size > p->l4_length - at) {
            *sound = false;
            return NULL;
        }
        if (p->l4[at] == kind && size == 8)
            found = p->l4 + at + 2;
    }
    return found;
}

/* What holds for a solicitation and an advertisement alike (§7.1.1, §7.1.2): no router passed it on. */
static bool is_genuine(const struct hs_packet *p)
{
    return p->ip6->hop_limit == HOP_LIMIT && p->l4[1] == 0 && p->l4 == (uint8_t *)(p->ip6 + 1) &&
           !hs_address6_is_multicast(&p->ip6->ends.src) &&
           hs_icmp6_sum(&p->ip6->ends, p->l4, p->l4_length) == 0xffff;
}

static void make_advertisement(struct neighbour_message *m, const uint8_t mac[6], const struct hs_address6 *vip,
                               const struct hs_address6 *to, uint8_t flags)
{
    memcpy(m->ethernet.src, mac, 6);
    m->ethernet.type = htons(HS_ETHERTYPE_IPV6);
    m->ip = (struct hs_ipv6){
        .version_class_label = htonl(6u << 28),
        .payload_length = htons(MESSAGE),
        .next_header = HS_ICMPV6,
        .hop_limit = HOP_LIMIT,
        .ends = {*vip, *to},
    };
    m->type = HS_NEIGHBOUR_ADVERTISEMENT;
    m->code = 0;
    m->checksum = 0;
    m->flags = flags;
    memset(m->reserved, 0, sizeof m->reserved);
    m->target = *vip;
    m->option = TARGET_OPTION;
    m->option_length = 1;
    memcpy(m->mac, mac, 6);
    m->checksum = (uint16_t)~hs_icmp6_sum(&m->ip.ends, (const uint8_t *)m + BEFORE_MESSAGE, MESSAGE);
}

/* §7.2.4. A probe of duplicate address detection has no sender: all nodes hear the answer. */
static void answer(struct hs_gateway *g, int side, struct hs_packet *p, const uint8_t *mac)
{
    struct neighbour_message *m = (struct neighbour_message *)p->frame;
    struct hs_address6 vip = m->target, asker = p->ip6->ends.src;

    if (hs_address6_is_zero(&asker)) {
        memcpy(m->ethernet.dst, all_nodes_mac, 6);
        make_advertisement(m, g->ports[side].mac, &vip, &all_nodes, ROUTER | OVERRIDE);
    } else {
        memmove(m->ethernet.dst, mac ? mac : m->ethernet.src, 6);
        make_advertisement(m, g->ports[side].mac, &vip, &asker, ROUTER | SOLICITED | OVERRIDE);
    }
    g->counters.ndp_answered++;
    g->output.send(g->output.context, side, &plain, p->frame, sizeof *m);
}

void hs_gateway_receive_ndp(struct hs_gateway *g, int side, struct hs_packet *p)
{
    const struct neighbour_message *m = (const struct neighbour_message *)p->frame;
    const uint8_t *mac;
    bool sound;

    if (p->icmp_type != HS_NEIGHBOUR_SOLICITATION)
        return;
    if (p->l4_length < FIXED_PART || !is_genuine(p)) {
        g->counters.drop_malformed++;
        return;
    }
    if (!hs_rules6_is_vip_on(&g->rules, &m->target, side) || hs_address6_equal(&p->ip6->ends.src, &m->target))
        return; /* the kernel's business, or somebody who has our address */
    mac = find_option(p, SOURCE_OPTION, &sound);
    if (!sound || (hs_address6_is_zero(&p->ip6->ends.src) &&
                   (mac || !hs_address6_is_solicited_node(&p->ip6->ends.dst, &m->target)))) {
        g->counters.drop_malformed++;
        return;
    }
    answer(g, side, p, mac);
}

bool hs_gateway_is_owners_advertisement(const struct hs_gateway *g, int side, const struct hs_packet *p, uint8_t mac[6])
{
    const struct neighbour_message *m = (const struct neighbour_message *)p->frame;
    const uint8_t *option, *found;
    bool sound;

    if (p->icmp_type != HS_NEIGHBOUR_ADVERTISEMENT || p->l4_length < FIXED_PART || !is_genuine(p) ||
        !hs_rules6_is_vip_on(&g->rules, &m->target, side))
        return false;
    option = find_option(p, TARGET_OPTION, &sound);
    found = option ? option : m->ethernet.src;
    if (!sound || found[0] & 1 || memcmp(found, g->ports[side].mac, 6) == 0)
        return false;
    memcpy(mac, found, 6);
    return true;
}

uint32_t hs_gateway_announce6(struct hs_gateway *g, uint8_t *scratch)
{
    struct neighbour_message *frames = (struct neighbour_message *)scratch;

    for (uint32_t i = 0; i < g->rules.vip6_count; i++) {
        const struct hs_vip6 *vip = &g->rules.vips6[i];

        memcpy(frames[i].ethernet.dst, all_nodes_mac, 6);
        make_advertisement(&frames[i], g->ports[vip->side].mac, &vip->address, &all_nodes, ROUTER | OVERRIDE);
        g->counters.ndp_announced++;
        g->output.send(g->output.context, vip->side, &plain, (uint8_t *)&frames[i], sizeof frames[i]);
    }
    return g->rules.vip6_count;
}

/* To the group of the address, from nobody: so asks who is about to take it. */
static void make_solicitation(struct neighbour_message *m, const uint8_t mac[6], const struct hs_address6 *vip)
{
    struct hs_address6 group = {{0xff, 2, [11] = 1, [12] = 0xff}};

    memcpy(&group.bytes[13], &vip->bytes[13], 3);
    memcpy(m->ethernet.dst, (const uint8_t[2]){0x33, 0x33}, 2);
    memcpy(m->ethernet.dst + 2, &group.bytes[12], 4);
    memcpy(m->ethernet.src, mac, 6);
    m->ethernet.type = htons(HS_ETHERTYPE_IPV6);
    m->ip = (struct hs_ipv6){
        .version_class_label = htonl(6u << 28),
        .payload_length = htons(FIXED_PART),
        .next_header = HS_ICMPV6,
        .hop_limit = HOP_LIMIT,
        .ends = {.dst = group},
    };
    m->type = HS_NEIGHBOUR_SOLICITATION;
    m->code = 0;
    m->checksum = 0;
    m->flags = 0;
    memset(m->reserved, 0, sizeof m->reserved);
    m->target = *vip;
    m->checksum = (uint16_t)~hs_icmp6_sum(&m->ip.ends, (const uint8_t *)m + BEFORE_MESSAGE, FIXED_PART);
}

uint32_t hs_gateway_probe6(struct hs_gateway *g, uint8_t *scratch)
{
    struct neighbour_message *frames = (struct neighbour_message *)scratch;

    for (uint32_t i = 0; i < g->rules.vip6_count; i++) {
        const struct hs_vip6 *vip = &g->rules.vips6[i];

        make_solicitation(&frames[i], g->ports[vip->side].mac, &vip->address);
        g->counters.vip_probes_sent++;
        g->output.send(g->output.context, vip->side, &plain, (uint8_t *)&frames[i], HS_SOLICITATION_FRAME);
    }
    return g->rules.vip6_count;
}
