#include "core/backend_flows.h"

#include "core/ipv6.h"
#include "core/merge.h"
#include "core/reset.h"

enum { HS_PORT_UNREACHABLE = 3, HS_PORT_UNREACHABLE6 = 4 };

static bool is_tcp(const struct hs_flow *flow)
{
    return flow->tuple[HS_ORIGINAL].proto == HS_TCP;
}

/* --- what packets say of backends ------------------------------------------------------------ */

static void note_unanswered(struct hs_flow *flow, struct hs_backend *backend)
{
    if (!is_tcp(flow) || flow->state != HS_TCP_SYN_SENT || flow->local & HS_LOCAL_UNANSWERED)
        return;
    flow->local |= HS_LOCAL_UNANSWERED;
    backend->counts.syn_unanswered++;
}

void hs_backend_note_packet(struct hs_gateway *g, struct hs_flow *flow, enum hs_direction direction,
                            const struct hs_packet *p, bool ignored)
{
    struct hs_backend *backend = hs_gateway_backend_of(g, flow);

    if (!backend)
        return;
    backend->counts.packets++;
    backend->counts.bytes += hs_packet_ip_length(p);
    if (p->tuple.proto != HS_TCP)
        return;
    if (direction == HS_ORIGINAL && hs_tcp_classify(p->tcp_flags) == HS_CLASS_SYN)
        note_unanswered(flow, backend);
    if (direction == HS_REPLY && p->tcp_flags & HS_RST && !ignored) {
        backend->counts.resets++;
        backend->counts.refused += flow->state == HS_TCP_SYN_SENT;
    }
}

void hs_backend_note_first(struct hs_gateway *g, const struct hs_flow *flow, const struct hs_packet *p)
{
    struct hs_backend *backend = hs_gateway_backend_of(g, flow);

    if (!backend)
        return;
    backend->counts.packets++;
    backend->counts.bytes += hs_packet_ip_length(p);
}

void hs_backend_note_end(struct hs_gateway *g, struct hs_flow *flow)
{
    struct hs_backend *backend = hs_gateway_backend_of(g, flow);

    if (backend)
        note_unanswered(flow, backend);
}

/* --- a flow whose backend is not up ----------------------------------------------------------- */

bool hs_gateway_backend_is_removed(const struct hs_gateway *g, const struct hs_flow *flow)
{
    const struct hs_backend *backend = hs_gateway_backend_of(g, flow);

    return backend && backend->state == HS_BACKEND_REMOVED;
}

bool hs_gateway_is_given_up(struct hs_gateway *g, const struct hs_flow *flow)
{
    bool removed = hs_gateway_backend_is_removed(g, flow);

    g->counters.drop_backend_removed += removed;
    return removed;
}

bool hs_gateway_waited_in_vain(struct hs_gateway *g, const struct hs_queued *packet)
{
    const struct hs_flow *flow;

    if (packet->slot == HS_NOTHING)
        return false;
    flow = &g->table->flows[packet->slot];
    if (hs_flow_table_holds(g->table, packet->slot) && flow->version == packet->version)
        return hs_gateway_is_given_up(g, flow);
    g->counters.drop_flow_ended++;
    return true;
}

/* A copy of the SYN that opened the flow, sent again or late: its number lies just behind what was sent since. */
static bool is_late_copy(const struct hs_flow *flow, const struct hs_packet *p)
{
    return flow->local & HS_LOCAL_SEQUENCE && flow->sequence[HS_ORIGINAL] - hs_packet_sequence_end(p) <= HS_LATE_SYN;
}

/* Answers to the packet's source leave by the side where it came in: else it is forged, and ends nothing. */
static bool is_from_its_side(const struct hs_gateway *g, int side, const struct hs_packet *p)
{
    const struct hs_route6 *route6;
    const struct hs_route *route;

    if (p->ip) {
        route = hs_next_hops_route(&g->hops, p->ip->src_addr);
        return route && route->side == side;
    }
    route6 = hs_next_hops6_route(&g->hops6, &p->ip6->ends.src);
    return route6 && route6->side == side;
}

/* Of a live flow: nobody answered yet, or it is another connection of the same client and port. On a backend that is
 * alive, though not up, a late copy must not cut what it has opened. */
static bool reselects(const struct hs_gateway *g, int side, const struct hs_flow *flow, const struct hs_packet *p)
{
    const struct hs_backend *backend = hs_gateway_backend_of(g, flow);

    if (!backend || hs_backend_is_up(backend) || !is_from_its_side(g, side, p))
        return false;
    return backend->state == HS_BACKEND_REMOVED || flow->state == HS_TCP_SYN_SENT || !is_late_copy(flow, p);
}

bool hs_gateway_begins_anew(const struct hs_gateway *g, int side, const struct hs_found *found,
                            const struct hs_packet *p)
{
    const struct hs_flow *flow = found->flow;

    return found->direction == HS_ORIGINAL && p->tuple.proto == HS_TCP &&
           hs_tcp_classify(p->tcp_flags) == HS_CLASS_SYN &&
           (flow->state == HS_TCP_TIME_WAIT || flow->state == HS_TCP_CLOSE || reselects(g, side, flow, p));
}

void hs_gateway_make_way(struct hs_gateway *g, struct hs_flow *flow, uint64_t now_ns)
{
    hs_backend_note_end(g, flow);
    g->counters.flows_reselected += flow->state != HS_TCP_TIME_WAIT && flow->state != HS_TCP_CLOSE;
    hs_gateway_delete(g, flow, HS_DEL_REPLACED, now_ns);
}

void hs_gateway_refuse(struct hs_gateway *g, int side, struct hs_packet *p, const struct hs_service *service,
                       uint64_t now_ns)
{
    bool told = false;

    g->counters.drop_no_backend++;
    if (!service->refuses)
        return;
    if (p->tuple.proto == HS_TCP)
        told = hs_reset_return(g, side, p);
    else if (p->ip)
        told = hs_gateway_send_error(g, side, p, HS_UNREACHABLE, HS_PORT_UNREACHABLE, now_ns);
    else
        told = hs_gateway_send_error6(g, side, p, HS_UNREACHABLE6, HS_PORT_UNREACHABLE6, now_ns);
    g->counters.no_backend_refused += told;
}

/* --- the end of a backend's flows ------------------------------------------------------------- */

static void tell_ends(struct hs_gateway *g, const struct hs_flow *flow, uint64_t now_ns)
{
    for (int direction = 0; direction < 2; direction++) {
        hs_gateway_close_end(g, &flow->tuple[direction], now_ns / 1000000000 + HS_CLOSED_S);
        if (hs_gateway_armed(g, now_ns))
            g->counters.backend_resets_sent += hs_reset_send(g, flow, (enum hs_direction)direction, now_ns);
    }
}

/* The reply tuple that the flow would have with another backend; false: there is none, or somebody has that tuple. */
static bool move_to(const struct hs_gateway *g, const struct hs_backend *backend, struct hs_opening *opening,
                    struct hs_ends6 *ends6)
{
    struct hs_ends6 back = {backend->address6, ends6->src};

    if (opening->tuple[HS_ORIGINAL].family == HS_IPV6) {
        opening->ends6 = ends6;
        opening->reply_src6 = backend->address6;
        opening->tuple[HS_REPLY] = hs_tuple6(g->table->seed, &back, backend->port,
                                             opening->tuple[HS_ORIGINAL].src_port, opening->tuple[HS_ORIGINAL].proto);
        return !hs_flow_table_find6(g->table, &opening->tuple[HS_REPLY], &back).flow;
    }
    opening->tuple[HS_REPLY] = hs_tuple_invert(&opening->tuple[HS_ORIGINAL]);
    opening->tuple[HS_REPLY].src_addr = backend->address;
    opening->tuple[HS_REPLY].src_port = backend->port;
    return !hs_flow_table_find(g->table, &opening->tuple[HS_REPLY]).flow;
}

/* The same flow, with another backend. */
static void reselect(struct hs_gateway *g, struct hs_flow *flow, uint64_t now_ns)
{
    struct hs_service *service = &g->rules.services[flow->rule];
    int backend = hs_service_select(service, hs_service_key(service, g->table->seed, &flow->tuple[HS_ORIGINAL]));
    struct hs_opening opening = {.tuple[HS_ORIGINAL] = flow->tuple[HS_ORIGINAL], .service = flow->rule, .rule = -1,
                                 .backend = (uint16_t)backend, .commit = service->commit, .inbound = true};
    struct hs_ends6 ends6 = {0};
    bool moves;

    if (flow->tuple[HS_ORIGINAL].family == HS_IPV6)
        ends6 = hs_flow_ends6(g->table, flow, HS_ORIGINAL);
    moves = backend >= 0 && !hs_flow_is_hairpin(flow) && move_to(g, &service->backends[backend], &opening, &ends6);
    hs_gateway_delete(g, flow, HS_DEL_OPERATOR, now_ns);
    if (moves && hs_gateway_open(g, &opening, now_ns))
        g->counters.flows_reselected++;
}

static bool is_meant(const struct hs_gateway *g, const struct hs_flow *flow, int service, uint32_t server_id)
{
    const struct hs_backend *backend = flow->rule == service ? hs_gateway_backend_of(g, flow) : NULL;

    return backend && backend->server_id == server_id && !hs_backend_is_up(backend);
}

static void end(struct hs_gateway *g, struct hs_flow *flow, enum hs_backend_end how, uint64_t now_ns)
{
    if (how == HS_END_RESELECTED) {
        reselect(g, flow, now_ns);
        return;
    }
    if (how == HS_END_BY_RESET && is_tcp(flow))
        tell_ends(g, flow, now_ns);
    hs_gateway_delete(g, flow, HS_DEL_OPERATOR, now_ns);
}

uint32_t hs_gateway_end_backend_flows(struct hs_gateway *g, uint32_t service, uint32_t server_id,
                                      enum hs_backend_end how, int64_t *slot, uint32_t count, uint64_t now_ns)
{
    struct hs_flow_table *t = g->table;
    uint32_t enough = how == HS_END_BY_RESET ? HS_RESET_BITE : HS_END_BITE, ended = 0;
    int64_t at = *slot < 0 ? t->capacity : *slot, last = at + count < t->capacity ? at + count : t->capacity;

    if (!g->active)
        last = at = t->capacity;
    for (; at < last && ended < enough; at++) {
        struct hs_flow *flow = &t->flows[at];

        if (!t->used[at / 64]) {
            at |= 63; /* nothing in this word */
            continue;
        }
        if (!hs_flow_table_holds(t, (uint32_t)at) || !is_meant(g, flow, (int)service, server_id) ||
            (how == HS_END_RESELECTED && is_tcp(flow)))
            continue;
        end(g, flow, how, now_ns);
        ended++;
    }
    g->counters.backend_flows_ended += ended;
    *slot = at < t->capacity ? at : -1;
    return ended;
}
