#include "core/gateway.h"

static void attribute6(struct hs_gateway *g, struct hs_flow *flow)
{
    struct hs_ends6 ends = hs_flow_ends6(g->table, flow, HS_ORIGINAL);
    struct hs_backend there = {.port = flow->tuple[HS_REPLY].src_port,
                               .address6 = hs_flow_ends6(g->table, flow, HS_REPLY).src};
    int service = -1, backend = -1;

    if (flow->flags & HS_FLOW_DNAT)
        service = hs_rules6_find_service(&g->rules, &ends.dst, flow->tuple[HS_ORIGINAL].dst_port,
                                         flow->tuple[HS_ORIGINAL].proto);
    if (service >= 0)
        backend = hs_service_adopt(&g->rules.services[service], &there);
    flow->rule = (int16_t)(backend < 0 ? -1 : service);
    if (backend < 0)
        return;
    flow->backend = (uint16_t)backend;
    hs_service_add_flow(&g->rules.services[service], (uint32_t)backend);
}

void hs_gateway_attribute(struct hs_gateway *g, struct hs_flow *flow)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];
    struct hs_backend there = {.address = reply->src_addr, .port = reply->src_port};
    int backend;

    if (original->family == HS_IPV6) {
        attribute6(g, flow);
        return;
    }
    flow->rule = -1;
    if (!(flow->flags & HS_FLOW_DNAT)) {
        if (!hs_rules_find_own_public(&g->rules, original->src_addr))
            flow->rule = (int16_t)hs_rules_find_nat(&g->rules, original);
        return;
    }
    flow->rule = (int16_t)hs_rules_find_service(&g->rules, original->dst_addr, original->dst_port,
                                                original->proto);
    if (flow->rule < 0)
        return;
    backend = hs_service_adopt(&g->rules.services[flow->rule], &there);
    if (backend < 0) {
        flow->rule = -1; /* no place left for a backend that we do not know: it forwards all the same */
        return;
    }
    flow->backend = (uint16_t)backend;
    hs_service_add_flow(&g->rules.services[flow->rule], (uint32_t)backend);
}

struct hs_backend *hs_gateway_backend_of(const struct hs_gateway *g, const struct hs_flow *flow)
{
    const struct hs_service *service;

    if (!(flow->flags & HS_FLOW_DNAT) || (uint32_t)flow->rule >= g->rules.service_count)
        return NULL;
    service = &g->rules.services[flow->rule];
    return flow->backend < service->backend_count ? &service->backends[flow->backend] : NULL;
}

/* Whether the flow occupies a public port for its source. */
static bool is_source_translated(const struct hs_flow *flow)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];

    return reply->dst_addr != original->src_addr;
}

/* Whose flow it is: an IPv4 address, or what stands for the /64 of an IPv6 one. */
static uint32_t source_of(const struct hs_gateway *g, const struct hs_flow *flow)
{
    struct hs_ends6 ends;

    if (flow->tuple[HS_ORIGINAL].family == HS_IPV4)
        return flow->tuple[HS_ORIGINAL].src_addr;
    ends = hs_flow_ends6(g->table, flow, HS_ORIGINAL);
    return hs_address6_fold_source(g->table->seed, &ends.src);
}

void hs_gateway_account(struct hs_gateway *g, struct hs_flow *flow)
{
    bool counted = is_source_translated(flow);
    bool half_open = hs_flow_is_half_open(flow->state, flow->flags);
    struct hs_source *source;

    hs_port_pool_take(&g->nat.pool, &flow->tuple[HS_REPLY]);
    if (!counted && !half_open)
        return;
    source = hs_sources_get(&g->sources, g->table->seed, source_of(g, flow));
    if (!source) {
        g->counters.sources_untracked++;
        return;
    }
    flow->local = (uint8_t)(counted * HS_LOCAL_COUNTED | half_open * HS_LOCAL_HALF_OPEN);
    source->flows += counted;
    source->half_open += half_open;
}

void hs_gateway_log_mapping(struct hs_gateway *g, const char *event, const struct hs_flow *flow, uint64_t now_ns)
{
    if (!g->mappings.bytes || flow->flags & HS_FLOW_DNAT || (uint32_t)flow->rule >= g->rules.nat_count ||
        !g->rules.nat[flow->rule].log || !is_source_translated(flow))
        return;
    hs_mapping_log_write(&g->mappings, event, flow, now_ns);
}

void hs_gateway_hold_down(struct hs_gateway *g, const struct hs_flow *flow, uint8_t reason, uint64_t now_s)
{
    bool tcp = !(flow->flags & (HS_FLOW_UDP | HS_FLOW_ICMP));

    /* Closed in both directions: nothing late is to be feared that the ends do not sort out themselves. */
    if (reason == HS_DEL_REPLACED || (tcp && flow->state == HS_TCP_TIME_WAIT) || !is_source_translated(flow))
        return;
    hs_hold_down_add(&g->nat.holds, g->table->seed, &flow->tuple[HS_REPLY], &flow->tuple[HS_ORIGINAL], now_s);
}

/* Takes the flow out of some of its source's counts. */
static void discount(struct hs_gateway *g, struct hs_flow *flow, uint8_t counts)
{
    struct hs_source *source;

    counts &= flow->local;
    if (!counts)
        return;
    flow->local &= (uint8_t)~counts;
    source = hs_sources_find(&g->sources, g->table->seed, source_of(g, flow));
    if (!source)
        return;
    source->flows -= counts & HS_LOCAL_COUNTED && source->flows;
    source->half_open -= counts & HS_LOCAL_HALF_OPEN && source->half_open;
    hs_sources_settle(&g->sources, g->table->seed, source);
}

void hs_gateway_settle_half_open(struct hs_gateway *g, struct hs_flow *flow)
{
    if (!hs_flow_is_half_open(flow->state, flow->flags))
        discount(g, flow, HS_LOCAL_HALF_OPEN);
}

uint32_t hs_gateway_timeout_s(const struct hs_gateway *g, const struct hs_flow *flow)
{
    uint32_t pressure = g->table->capacity / HS_HALF_OPEN_DIVISOR / 2;

    if (hs_flow_is_half_open(flow->state, flow->flags) && g->table->half_open > pressure)
        return HS_TCP_HALF_OPEN_S;
    return hs_flow_timeout_s(flow);
}

void hs_gateway_forget(struct hs_gateway *g, struct hs_flow *flow)
{
    if (hs_gateway_backend_of(g, flow))
        hs_service_remove_flow(&g->rules.services[flow->rule], flow->backend);
    if (flow->flags & HS_FLOW_AT_RISK && g->at_risk)
        g->at_risk--;
    hs_port_pool_release(&g->nat.pool, &flow->tuple[HS_REPLY]);
    discount(g, flow, HS_LOCAL_COUNTED | HS_LOCAL_HALF_OPEN);
    hs_offload_gone(g, flow);
    hs_flow_table_remove(g->table, flow);
}

void hs_gateway_delete(struct hs_gateway *g, struct hs_flow *flow, enum hs_del_reason reason,
                       uint64_t now_ns)
{
    hs_record_pack_del(hs_delta_log_append(&g->log, now_ns)->record, g->table, flow, reason);
    g->counters.flows_closed++;
    hs_gateway_log_mapping(g, "ended", flow, now_ns);
    hs_gateway_hold_down(g, flow, (uint8_t)reason, now_ns / 1000000000);
    hs_gateway_forget(g, flow);
    hs_delta_log_tell(&g->log, g->at_risk, g->table->count);
}
