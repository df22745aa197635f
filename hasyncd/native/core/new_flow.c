#include "core/gateway.h"

#include <arpa/inet.h>

#include "core/backend_flows.h"
#include "core/decision.h"
#include "core/nat.h"

static uint8_t protocol_flags(uint8_t proto)
{
    return proto == HS_UDP ? HS_FLOW_UDP : proto == HS_ICMP ? HS_FLOW_ICMP : 0;
}

static bool is_inbound(const struct hs_decision *d)
{
    return d->opening.service >= 0 || d->in;
}

/* The backend of a service's first packet; the client's source is kept. */
static bool choose_backend(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *d, uint64_t now_ns)
{
    struct hs_service *service = &g->rules.services[d->opening.service];
    uint32_t key = hs_service_key(service, g->table->seed, &d->onward);
    int backend;

    if (!hs_prefixes_match(&service->allow, d->onward.src_addr)) {
        g->counters.drop_not_allowed++;
        return false;
    }
    backend = d->opening.picked_up ? hs_service_select_again(service, key, now_ns) : hs_service_select(service, key);
    if (backend < 0) {
        hs_gateway_refuse(g, side, p, service, now_ns);
        return false;
    }
    d->opening.backend = (uint16_t)backend;
    d->onward.dst_addr = service->backends[backend].address;
    d->onward.dst_port = service->backends[backend].port;
    return true;
}

static bool choose_inside_host(struct hs_gateway *g, struct hs_decision *d)
{
    if (!hs_prefixes_match(&d->in->allow, d->onward.src_addr)) {
        g->counters.drop_not_allowed++;
        return false;
    }
    d->onward.dst_addr = d->in->inside;
    if (d->in->proto)
        d->onward.dst_port = d->in->inside_port;
    return true;
}

/* Whether another flow of the source would be one too many, by the rule's quota. */
static bool is_over_quota(struct hs_gateway *g, const struct hs_nat_rule *rule, const struct hs_decision *d)
{
    uint32_t leaves = d->instead ? 1 : 0; /* it is the same source's */
    const struct hs_source *source;

    if (!rule->max_flows_per_source)
        return false;
    source = hs_sources_find(&g->sources, g->table->seed, d->onward.src_addr);
    return source ? source->flows >= rule->max_flows_per_source + leaves : hs_sources_are_full(&g->sources);
}

/* RFC 5508 REQ-8: a sender that gets no port is told "administratively prohibited", where the rule wants it. */
static void complain(struct hs_gateway *g, int side, struct hs_packet *p, const struct hs_nat_rule *rule,
                     uint64_t now_ns)
{
    if (rule->icmp_on_exhaustion)
        g->counters.unreachable_sent += hs_gateway_send_error(g, side, p, HS_UNREACHABLE, HS_PROHIBITED, now_ns);
}

/* A public address and port from the NAT rule's pool. */
static bool choose_public(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *d,
                          uint64_t now_ns)
{
    struct hs_nat_request request = {
        .table = g->table,
        .rules = &g->rules,
        .rule = &g->rules.nat[d->opening.rule],
        .original = &d->onward,
        .now_s = now_ns / 1000000000,
        .instead = d->instead,
    };
    uint32_t probes;
    bool found;

    if (!p->hairpin && hs_prefixes_match(&request.rule->exempt, d->onward.dst_addr)) {
        d->exempt = true; /* its own address and port are what the other end sees */
        return true;
    }
    if (is_over_quota(g, request.rule, d)) {
        g->counters.drop_nat_quota++;
        complain(g, side, p, request.rule, now_ns);
        return false;
    }
    found = hs_nat_allocate(&g->nat, &request, &d->opening.tuple[HS_REPLY], &probes);
    g->counters.nat_port_probes += probes;
    if (!found && p->tuple.proto == HS_TCP) {
        d->closing = hs_nat_find_closing(&g->nat, &request, hs_packet_sequence_end(p) - 1,
                                         &d->opening.tuple[HS_REPLY]);
        found = d->closing;
    }
    if (!found) {
        g->counters.drop_nat_exhausted++;
        complain(g, side, p, request.rule, now_ns);
    }
    return found;
}

bool hs_gateway_has_way_back(struct hs_gateway *g, int side, int route_side)
{
    if (route_side == side)
        return true;
    if (route_side != HS_NO_SIDE)
        g->counters.drop_not_allowed++;
    else
        g->counters.drop_no_route++;
    return false;
}

/* RFC 2644: everybody's address on a network that we are on. */
static bool is_directed_broadcast(const struct hs_route *route, uint32_t address)
{
    return !route->gateway && ntohl(~route->mask) > 1 && address == (route->prefix | ~route->mask);
}

/* Which rules speak of a first packet; false: none. */
static bool find_rules(struct hs_gateway *g, int side, const struct hs_tuple *t, struct hs_decision *d)
{
    d->opening = (struct hs_opening){.tuple[HS_ORIGINAL] = *t, .service = -1, .rule = -1};
    d->onward = *t;
    if (t->proto != HS_ICMP)
        d->opening.service = hs_rules_find_service(&g->rules, t->dst_addr, t->dst_port, t->proto);
    if (d->opening.service < 0)
        d->in = hs_rules_find_forward(&g->rules, t->dst_addr, t->dst_port, t->proto);
    if (side == HS_INSIDE && (is_inbound(d) || !hs_rules_is_vip(&g->rules, t->dst_addr))) {
        d->own = hs_rules_find_own_public(&g->rules, t->src_addr);
        d->opening.rule = hs_rules_find_nat(&g->rules, t);
    }
    return is_inbound(d) || d->own || d->opening.rule >= 0;
}

bool hs_gateway_may_open(struct hs_gateway *g, uint32_t address)
{
    const struct hs_source *source;

    if (g->table->half_open >= g->table->capacity / HS_HALF_OPEN_DIVISOR) {
        g->counters.drop_half_open_limit++;
        return false;
    }
    if (!g->policy.half_open_per_source)
        return true;
    source = hs_sources_find(&g->sources, g->table->seed, address);
    if (!source || source->half_open < g->policy.half_open_per_source)
        return true;
    g->counters.drop_half_open_source++;
    return false;
}

/* Loose pick-up: a connection under way whose flow is unknown, where the rules lead it to where it was. A pool would
 * give it another port, and its server would reset it. */
static bool may_pick_up(const struct hs_gateway *g, const struct hs_packet *p, const struct hs_decision *d)
{
    if (!g->policy.loose || !hs_packet_may_be_picked_up(p))
        return false;
    return is_inbound(d) || d->own ||
           hs_prefixes_match(&g->rules.nat[d->opening.rule].exempt, d->onward.dst_addr);
}

/* False: nothing may pass, and it is counted. */
static bool admit(struct hs_gateway *g, int side, const struct hs_packet *p, struct hs_decision *d)
{
    const struct hs_tuple *t = &p->tuple;
    const struct hs_route *route;

    /* Nobody else speaks for our own addresses. */
    if (!find_rules(g, side, t, d) || hs_rules_is_own(&g->rules, t->src_addr)) {
        g->counters.drop_no_rule++;
        return false;
    }
    d->opening.picked_up = !hs_packet_is_first(p);
    if (d->opening.picked_up && !may_pick_up(g, p, d)) {
        g->counters.drop_no_flow++;
        return false;
    }
    if (t->proto == HS_TCP && !d->opening.picked_up && !hs_gateway_may_open(g, t->src_addr))
        return false;
    route = hs_next_hops_route(&g->hops, t->src_addr);
    return hs_gateway_has_way_back(g, side, route ? route->side : HS_NO_SIDE);
}

/* Destination first, then the source: kept, an own public address, or one from a pool. */
static bool translate(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *d,
                      uint64_t now_ns)
{
    const struct hs_flow *in_its_way;
    const struct hs_route *route;
    bool keeps_source;

    if ((d->opening.service >= 0 && !choose_backend(g, side, p, d, now_ns)) || (d->in && !choose_inside_host(g, d)))
        return false;
    /* From inside to inside by a public address: the other end must answer through us (RFC 4787 REQ-9). */
    route = hs_next_hops_route(&g->hops, d->onward.dst_addr);
    p->hairpin = side == HS_INSIDE && is_inbound(d) && route && route->side == side &&
                 (d->own || d->opening.rule >= 0);
    if (route && is_directed_broadcast(route, d->onward.dst_addr)) {
        g->counters.drop_scope++;
        return false;
    }
    /* Before there is a flow: one whose packets cannot leave would only fill the table. */
    if (!hs_gateway_may_leave(g, side, route ? route->side : HS_NO_SIDE, p->hairpin))
        return false;
    d->opening.tuple[HS_REPLY] = hs_tuple_invert(&d->onward);
    keeps_source = is_inbound(d) && !p->hairpin;
    if (!keeps_source && d->own)
        d->opening.tuple[HS_REPLY].dst_addr = d->own->public;
    else if (!keeps_source && !choose_public(g, side, p, d, now_ns))
        return false;
    if (hs_tuple_equal(&d->opening.tuple[HS_REPLY], &p->tuple)) { /* a 1:1 host to itself: both ways alike */
        g->counters.drop_same_side++;
        return false;
    }
    in_its_way = hs_flow_table_find(g->table, &d->opening.tuple[HS_REPLY]).flow;
    if (in_its_way && in_its_way != d->closing && in_its_way != d->instead) {
        /* The other end talks from that port to this one already. */
        *(is_inbound(d) ? &g->counters.drop_no_backend : &g->counters.drop_nat_exhausted) += 1;
        return false;
    }
    return true;
}

/* Makes room in a full table: a flow that nobody answered, or that is over. Never one that is in use. */
static void drop_early(struct hs_gateway *g, uint64_t now_ns)
{
    for (uint32_t i = 0; i < HS_EARLY_DROP_PROBES && i < g->table->capacity; i++) {
        uint32_t slot = g->early_drop_slot++ % g->table->capacity;
        struct hs_flow *flow = &g->table->flows[slot];
        bool tcp = !(flow->flags & (HS_FLOW_UDP | HS_FLOW_ICMP));
        bool over = tcp && (flow->state == HS_TCP_LAST_ACK || flow->state == HS_TCP_TIME_WAIT ||
                            flow->state == HS_TCP_CLOSE);

        if (!hs_flow_table_holds(g->table, slot) || (flow->flags & HS_FLOW_BOTH_SEEN && !over))
            continue;
        g->counters.flows_early_dropped++;
        hs_gateway_delete(g, flow, HS_DEL_REPLACED, now_ns);
        return;
    }
}

/* Whoever was picked up proves by another packet that he is there. */
static uint32_t first_timeout_s(const struct hs_gateway *g, const struct hs_flow *flow, bool picked_up)
{
    return picked_up ? HS_TCP_TRANSITORY_S : hs_gateway_timeout_s(g, flow);
}

struct hs_flow *hs_gateway_open(struct hs_gateway *g, const struct hs_opening *opening, uint64_t now_ns)
{
    uint8_t flags = protocol_flags(opening->tuple[HS_ORIGINAL].proto);
    struct hs_flow *flow;

    if (opening->inbound)
        flags |= HS_FLOW_DNAT;
    if (opening->picked_up)
        flags |= HS_FLOW_LIBERAL;
    if (g->table->count == g->table->capacity && g->policy.early_drop)
        drop_early(g, now_ns);
    flow = hs_flow_table_add(g->table, opening->tuple, opening->picked_up ? HS_TCP_ESTABLISHED : 1, flags,
                             now_ns / 1000000); /* 1: SYN_SENT or UNREPLIED */
    if (!flow) {
        g->counters.drop_table_full++;
        return NULL;
    }
    if (opening->ends6)
        hs_flow_set_ends6(g->table, flow, opening->ends6, &opening->reply_src6);
    hs_flow_set_expiry(g->table, flow,
                       now_ns / 1000000 + (uint64_t)first_timeout_s(g, flow, opening->picked_up) * 1000);
    flow->rule = (int16_t)(opening->inbound ? opening->service : opening->rule);
    flow->backend = opening->backend;
    hs_gateway_account(g, flow);
    if (opening->service >= 0) {
        hs_service_add_flow(&g->rules.services[opening->service], opening->backend);
        g->rules.services[opening->service].backends[opening->backend].counts.new_flows++;
    }
    hs_gateway_begin_commit(g, flow, opening->commit);
    g->counters.flows_created++;
    g->counters.flows_picked_up += opening->picked_up;
    hs_gateway_log_flow(g, flow, HS_ADD, true, now_ns);
    hs_gateway_log_mapping(g, "made", flow, now_ns);
    flow->add_sequence = flow->risk_sequence;
    return flow;
}

/* The mode of the rule that lets the flow in, or else of the one that gives its source a public address. */
static enum hs_commit commit_of(const struct hs_gateway *g, const struct hs_decision *d)
{
    if (d->opening.service >= 0)
        return g->rules.services[d->opening.service].commit;
    if (d->in || d->own)
        return (d->in ? d->in : d->own)->commit;
    return g->rules.nat[d->opening.rule].commit;
}

bool hs_gateway_decide(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_decision *d, uint64_t now_ns)
{
    if (!admit(g, side, p, d) || !translate(g, side, p, d, now_ns))
        return false;
    d->opening.commit = commit_of(g, d);
    d->opening.inbound = is_inbound(d);
    if (d->own)
        d->opening.rule = -1;
    return true;
}

struct hs_flow *hs_gateway_new_flow(struct hs_gateway *g, int side, struct hs_packet *p,
                                    uint64_t now_ns)
{
    struct hs_decision decision = {0};

    if (!hs_gateway_decide(g, side, p, &decision, now_ns))
        return NULL;
    g->counters.nat_hairpin_flows += p->hairpin;
    g->counters.nat_exempt_flows += decision.exempt;
    if (decision.closing) {
        g->counters.nat_evicted_closing++;
        hs_gateway_delete(g, decision.closing, HS_DEL_REPLACED, now_ns);
    }
    return hs_gateway_open(g, &decision.opening, now_ns);
}
