#include "core/explain.h"

#include <arpa/inet.h>
#include <stddef.h>

#include "core/backend_flows.h"
#include "core/checksum.h"
#include "core/ipv6.h"
#include "core/nat.h"

enum { FRAME_ROOM = 1024, TCP_HEADER = 20, UDP_HEADER = 8, OUR_TTL = 64 }; /* room for an error that quotes it */

static const char *const counter_names[] = {
#define NAME(name) #name,
    HS_COUNTERS_LIST(NAME)
#undef NAME
};

/* --- a packet that nobody sent ------------------------------------------------------------------- */

struct made {
    _Alignas(8) uint8_t frame[FRAME_ROOM];
    struct hs_vnet vnet;
    struct hs_packet packet;
    uint64_t hash;
};

static uint32_t write_l4(uint8_t *l4, const struct hs_question *q, uint32_t sequence)
{
    if (q->proto == HS_ICMP) {
        l4[0] = q->family == HS_IPV6 ? HS_ECHO_REQUEST6 : HS_ECHO_REQUEST;
        memcpy(l4 + offsetof(struct hs_icmp, id), &q->src_port, 2);
        return sizeof(struct hs_icmp);
    }
    memcpy(l4, &q->src_port, 2);
    memcpy(l4 + 2, &q->dst_port, 2);
    if (q->proto == HS_UDP) {
        l4[5] = UDP_HEADER;
        return UDP_HEADER;
    }
    sequence = htonl(sequence);
    memcpy(l4 + 4, &sequence, 4);
    l4[12] = TCP_HEADER / 4 << 4;
    l4[13] = HS_SYN;
    return TCP_HEADER;
}

static uint32_t write_ip(uint8_t *at, const struct hs_question *q, uint32_t sequence)
{
    struct hs_ipv4 ip = {.version_ihl = 0x45, .ttl = OUR_TTL, .proto = q->proto, .src_addr = q->src, .dst_addr = q->dst};
    uint32_t length = write_l4(at + sizeof ip, q, sequence);
    uint16_t checksum;

    ip.total_length = htons((uint16_t)(sizeof ip + length));
    ip.checksum = (uint16_t)~hs_checksum_sum(&ip, sizeof ip);
    memcpy(at, &ip, sizeof ip);
    if (q->proto == HS_ICMP) {
        checksum = (uint16_t)~hs_checksum_sum(at + sizeof ip, length);
        memcpy(at + sizeof ip + offsetof(struct hs_icmp, checksum), &checksum, 2);
    }
    return (uint32_t)sizeof ip + length;
}

static uint32_t write_ip6(uint8_t *at, const struct hs_question *q, uint32_t sequence)
{
    struct hs_ipv6 ip = {.version_class_label = htonl(6u << 28), .hop_limit = OUR_TTL, .ends = q->ends6};
    uint32_t length = write_l4(at + sizeof ip, q, sequence);
    uint16_t checksum;

    ip.next_header = q->proto == HS_ICMP ? HS_ICMPV6 : q->proto;
    ip.payload_length = htons((uint16_t)length);
    memcpy(at, &ip, sizeof ip);
    if (q->proto == HS_ICMP) {
        checksum = (uint16_t)~hs_icmp6_sum(&ip.ends, at + sizeof ip, length);
        memcpy(at + sizeof ip + offsetof(struct hs_icmp, checksum), &checksum, 2);
    }
    return (uint32_t)sizeof ip + length;
}

/* False: no host sends that. */
static bool make(const struct hs_gateway *g, const struct hs_question *q, uint32_t sequence, struct made *made)
{
    struct hs_ethernet ethernet = {.type = htons(q->family == HS_IPV6 ? HS_ETHERTYPE_IPV6 : HS_ETHERTYPE_IPV4)};
    uint8_t *at = made->frame + sizeof ethernet;
    uint32_t length;

    memset(made, 0, sizeof *made);
    memcpy(made->frame, &ethernet, sizeof ethernet);
    length = q->family == HS_IPV6 ? write_ip6(at, q, sequence) : write_ip(at, q, sequence);
    if (hs_gateway_parse(g, &made->packet, &made->vnet, made->frame, (uint32_t)sizeof ethernet + length) !=
        HS_PACKET_FLOW)
        return false;
    made->hash = hs_flow_table_hash(g->table, &made->packet.tuple);
    return true;
}

/* What would ask for the original direction of a flow. */
static struct hs_question original_of(const struct hs_gateway *g, const struct hs_flow *flow)
{
    const struct hs_tuple *t = &flow->tuple[HS_ORIGINAL];
    struct hs_question q = {.family = t->family, .proto = t->proto, .src_port = t->src_port, .dst_port = t->dst_port};

    if (t->family == HS_IPV6) {
        q.ends6 = hs_flow_ends6(g->table, flow, HS_ORIGINAL);
        return q;
    }
    q.src = t->src_addr;
    q.dst = t->dst_addr;
    return q;
}

/* --- asking without doing ------------------------------------------------------------------------ */

/* What a decision may leave behind beside what it decides. */
struct kept {
    struct hs_counters counters;
    struct hs_output output;
    uint32_t icmp_tokens, closing_place;
    uint64_t icmp_tokens_at_ns, held_down, other_half;
    struct hs_turns *turns; /* of the service that is asked, or NULL */
    struct hs_turns turns_before;
};

static void send_nothing(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    (void)context, (void)side, (void)vnet, (void)frame, (void)length;
}

static void keep(struct hs_gateway *g, int service, struct kept *kept)
{
    kept->counters = g->counters;
    kept->output = g->output;
    kept->icmp_tokens = g->icmp_tokens;
    kept->icmp_tokens_at_ns = g->icmp_tokens_at_ns;
    kept->closing_place = g->nat.closing_place;
    kept->held_down = g->nat.held_down;
    kept->other_half = g->nat.other_half;
    kept->turns = service < 0 ? NULL : g->rules.services[service].turns;
    if (kept->turns)
        kept->turns_before = *kept->turns;
    g->output.send = send_nothing;
}

static void restore(struct hs_gateway *g, const struct kept *kept)
{
    g->counters = kept->counters;
    g->output = kept->output;
    g->icmp_tokens = kept->icmp_tokens;
    g->icmp_tokens_at_ns = kept->icmp_tokens_at_ns;
    g->nat.closing_place = kept->closing_place;
    g->nat.held_down = kept->held_down;
    g->nat.other_half = kept->other_half;
    if (kept->turns)
        *kept->turns = kept->turns_before;
}

/* The reason for which a packet was dropped since, or NULL. */
static const char *drop_since(const struct hs_gateway *g, const struct hs_counters *before)
{
    const uint64_t *now = (const uint64_t *)&g->counters, *then = (const uint64_t *)before;

    for (size_t i = 0; i < sizeof counter_names / sizeof *counter_names; i++)
        if (now[i] != then[i] && strncmp(counter_names[i], "drop_", 5) == 0)
            return counter_names[i];
    return NULL;
}

static int find_service(const struct hs_gateway *g, const struct hs_packet *p)
{
    if (p->tuple.proto == HS_ICMP)
        return -1;
    if (p->ip)
        return hs_rules_find_service(&g->rules, p->tuple.dst_addr, p->tuple.dst_port, p->tuple.proto);
    return hs_rules6_find_service(&g->rules, &p->ip6->ends.dst, p->tuple.dst_port, p->tuple.proto);
}

static int side_of_source(const struct hs_gateway *g, const struct hs_packet *p)
{
    const struct hs_route6 *route6;
    const struct hs_route *route;

    if (p->ip) {
        route = hs_next_hops_route(&g->hops, p->ip->src_addr);
        return route ? route->side : HS_NO_SIDE;
    }
    route6 = hs_next_hops6_route(&g->hops6, &p->ip6->ends.src);
    return route6 ? route6->side : HS_NO_SIDE;
}

static bool decide(struct hs_gateway *g, struct hs_packet *p, struct hs_explanation *e, uint64_t now_ns)
{
    if (!(p->ip ? hs_gateway_enter(g, e->side, p, now_ns) : hs_gateway_enter6(g, e->side, p, now_ns)))
        return false;
    if (!(p->ip ? hs_gateway_decide(g, e->side, p, &e->decision, now_ns)
                : hs_gateway_decide6(g, e->side, p, &e->decision, now_ns)))
        return false;
    if (g->table->count < g->table->capacity || g->policy.early_drop || e->live.flow || e->decision.closing)
        return true;
    g->counters.drop_table_full++;
    return false;
}

/* --- why -------------------------------------------------------------------------------------------- */

static void explain_choice(struct hs_gateway *g, int index, const struct hs_tuple *original, struct hs_choice *choice,
                           uint64_t now_ns)
{
    struct hs_service *service = &g->rules.services[index];
    const struct hs_backend_table *table = service->now->table;
    const struct hs_vnode *vnode;
    int member;

    choice->key = hs_service_key(service, g->table->seed, original);
    choice->table = table;
    choice->before = hs_service_select_again(service, choice->key, now_ns);
    member = table ? hs_backend_table_find(table, choice->key) : -1;
    if (member < 0)
        return;
    choice->owner = service->now->places[member];
    if (table->ring) {
        vnode = hs_ring_find(table->ring, choice->key);
        choice->point = vnode->point;
        choice->place = (uint32_t)(vnode - table->ring->vnodes);
    } else {
        choice->place = (uint32_t)((uint64_t)choice->key * table->slot_count >> 32);
    }
}

/* Source and destination have no public address of their own. */
static void explain_port(const struct hs_gateway *g, const struct hs_packet *p, struct hs_explanation *e)
{
    const struct hs_decision *d = &e->decision;
    bool keeps_source = (d->opening.service >= 0 || d->in) && !p->hairpin;
    struct hs_nat_request request;

    if (!p->ip || d->own || d->exempt || keeps_source || d->opening.rule < 0)
        return;
    request = (struct hs_nat_request){g->table, &g->rules, &g->rules.nat[d->opening.rule], &d->onward, 0, NULL};
    e->pooled = true;
    hs_nat_preference(&request, &e->preference);
}

static void explain_flow(struct hs_gateway *g, const struct made *made, struct hs_explanation *e)
{
    struct hs_found found = {e->live.flow, HS_ORIGINAL};

    e->decision.instead = e->live.flow;
    e->given_up = hs_gateway_backend_is_removed(g, e->live.flow);
    e->begins_anew = hs_gateway_begins_anew(g, e->side, &found, &made->packet);
}

int hs_gateway_explain(struct hs_gateway *g, const struct hs_question *question, struct hs_explanation *e,
                       uint64_t now_ns)
{
    struct hs_question asked = *question;
    uint32_t sequence = 0;
    struct made made;
    struct kept kept;

    *e = (struct hs_explanation){.armed = hs_gateway_armed(g, now_ns), .choice = {.owner = -1, .before = -1}};
    e->decision.opening = (struct hs_opening){.service = -1, .rule = -1};
    if (!make(g, &asked, sequence, &made))
        return -1;
    e->live = hs_gateway_find(g, &made.packet, made.hash);
    if (e->live.flow) {
        asked = original_of(g, e->live.flow);
        sequence = e->live.flow->sequence[HS_ORIGINAL] + (1u << 30); /* no copy of the SYN that opened it */
        if (!make(g, &asked, sequence, &made))
            return -1;
    }
    e->side = side_of_source(g, &made.packet);
    if (e->live.flow)
        explain_flow(g, &made, e);
    e->original6 = asked.ends6;
    if (e->side == HS_NO_SIDE) {
        e->dropped = "drop_no_route";
        return 0;
    }
    keep(g, find_service(g, &made.packet), &kept);
    e->passes = decide(g, &made.packet, e, now_ns);
    e->dropped = drop_since(g, &kept.counters);
    e->answered = g->counters.echo_answered != kept.counters.echo_answered;
    e->told = g->counters.sent_packets != kept.counters.sent_packets ||
              g->counters.no_backend_refused != kept.counters.no_backend_refused ||
              g->counters.unreachable_sent != kept.counters.unreachable_sent;
    if (e->decision.opening.service >= 0)
        explain_choice(g, e->decision.opening.service, &e->decision.opening.tuple[HS_ORIGINAL], &e->choice, now_ns);
    if (!e->answered)
        explain_port(g, &made.packet, e);
    e->decision.opening.ends6 = NULL; /* it points into the packet */
    e->reply6 = (struct hs_ends6){e->decision.opening.reply_src6, asked.ends6.src};
    restore(g, &kept);
    return 0;
}
