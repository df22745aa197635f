/* What the rules make of a flow's first packet, in IPv6: to a backend, or on as it is. */
#include "core/backend_flows.h"
#include "core/decision.h"
#include "core/ipv6.h"

bool hs_gateway_enter6(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    if (p->tuple.proto == HS_ICMP && !p->fragment6 && hs_gateway_answer_echo6(g, side, p))
        return false;
    /* What is link-local stays on its link (RFC 4291 §2.5.6); groups are not forwarded at all. */
    if (!hs_address6_is_forwardable(&p->ip6->ends.src) || !hs_address6_is_forwardable(&p->ip6->ends.dst) ||
        p->frame[0] & 1) {
        g->counters.drop_scope++;
        return false;
    }
    if (p->ip6->hop_limit <= 1) {
        g->counters.drop_ttl++;
        g->counters.time_exceeded_sent += hs_gateway_send_error6(g, side, p, HS_TIME_EXCEEDED6, 0, now_ns);
        return false;
    }
    return true;
}

/* False: nothing may pass, and it is counted. */
static bool admit(struct hs_gateway *g, int side, const struct hs_packet *p, struct hs_decision *d)
{
    const struct hs_ends6 *ends = &p->ip6->ends;
    struct hs_opening *opening = &d->opening;
    const struct hs_route6 *route;

    if (p->tuple.proto != HS_ICMP)
        opening->service = hs_rules6_find_service(&g->rules, &ends->dst, p->tuple.dst_port, p->tuple.proto);
    if (opening->service < 0 && !hs_rules6_is_vip(&g->rules, &ends->dst))
        d->pass = hs_rules6_find_pass(&g->rules, ends, side);
    /* Nobody else speaks for a VIP. */
    if (hs_rules6_is_vip(&g->rules, &ends->src) || (opening->service < 0 && !d->pass)) {
        g->counters.drop_no_rule++;
        return false;
    }
    opening->commit = d->pass ? d->pass->commit : g->rules.services[opening->service].commit;
    opening->picked_up = !hs_packet_is_first(p);
    /* Both lead where they led before: the same backend, or the destination itself. */
    if (opening->picked_up && !(g->policy.loose && hs_packet_may_be_picked_up(p))) {
        g->counters.drop_no_flow++;
        return false;
    }
    if (p->tuple.proto == HS_TCP && !opening->picked_up &&
        !hs_gateway_may_open(g, hs_address6_fold_source(g->table->seed, &ends->src)))
        return false;
    route = hs_next_hops6_route(&g->hops6, &ends->src);
    return hs_gateway_has_way_back(g, side, route ? route->side : HS_NO_SIDE);
}

/* The backend of a service's first packet; the client's source is kept. */
static bool choose_backend(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_opening *opening,
                           struct hs_ends6 *onward, uint16_t *port, uint64_t now_ns)
{
    struct hs_service *service = &g->rules.services[opening->service];
    uint32_t key = hs_service_key(service, g->table->seed, &opening->tuple[HS_ORIGINAL]);
    int backend;

    if (!hs_prefixes6_match(&service->allow6, &onward->src)) {
        g->counters.drop_not_allowed++;
        return false;
    }
    backend = opening->picked_up ? hs_service_select_again(service, key, now_ns) : hs_service_select(service, key);
    if (backend < 0) {
        hs_gateway_refuse(g, side, p, service, now_ns);
        return false;
    }
    opening->backend = (uint16_t)backend;
    onward->dst = service->backends[backend].address6;
    *port = service->backends[backend].port;
    return true;
}

/* The packet with its destination translated, and how it will be answered. */
static bool translate(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *d, uint64_t now_ns)
{
    struct hs_opening *opening = &d->opening;
    const struct hs_flow *in_its_way;
    struct hs_ends6 onward = p->ip6->ends, back;
    uint16_t port = p->tuple.dst_port;
    struct hs_tuple out;

    if (opening->service >= 0 && !choose_backend(g, side, p, opening, &onward, &port, now_ns))
        return false;
    if (!hs_gateway_route6(g, side, &onward.dst))
        return false;
    out = hs_tuple6(g->table->seed, &onward, p->tuple.src_port, port, p->tuple.proto);
    back = hs_ends6_invert(&onward);
    opening->tuple[HS_REPLY] = hs_tuple_invert(&out);
    opening->reply_src6 = onward.dst;
    in_its_way = hs_flow_table_find6(g->table, &opening->tuple[HS_REPLY], &back).flow;
    if (in_its_way && in_its_way != d->instead) {
        /* The other end talks from that port to this one already. */
        *(opening->service >= 0 ? &g->counters.drop_no_backend : &g->counters.drop_not_allowed) += 1;
        return false;
    }
    return true;
}

bool hs_gateway_decide6(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *d, uint64_t now_ns)
{
    d->opening = (struct hs_opening){.service = -1, .rule = -1, .tuple[HS_ORIGINAL] = p->tuple};
    d->opening.ends6 = &p->ip6->ends;
    if (!admit(g, side, p, d) || !translate(g, side, p, d, now_ns))
        return false;
    d->opening.inbound = d->opening.service >= 0;
    return true;
}

struct hs_flow *hs_gateway_new_flow6(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    struct hs_decision decision = {0};
    struct hs_flow *flow = NULL;

    if (hs_gateway_decide6(g, side, p, &decision, now_ns))
        flow = hs_gateway_open(g, &decision.opening, now_ns);
    if (flow)
        g->counters.pass_flows += decision.opening.service < 0;
    return flow;
}
