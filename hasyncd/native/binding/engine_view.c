#include <arpa/inet.h>

#include "binding/engine.h"

int hs_set_count(PyObject *dict, const char *name, uint64_t value)
{
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    int failed = !number || PyDict_SetItemString(dict, name, number);

    Py_XDECREF(number);
    return failed;
}

PyObject *hs_engine_counters(PyObject *self, PyObject *unused)
{
    const struct engine *engine = (struct engine *)self;
    const struct hs_gateway *g = engine->gateway;
    struct hs_counters counters = g->counters;
    PyObject *dict = PyDict_New();
    int failed = !dict || hs_engine_count_cache(engine, &counters, dict);

    (void)unused;
#define SET(name) failed = failed || hs_set_count(dict, #name, counters.name);
    HS_COUNTERS_LIST(SET)
#undef SET
    failed = failed || hs_set_count(dict, "poll_calls", engine->calls) ||
             hs_set_count(dict, "receive_dropped", hs_packet_io_dropped(engine->io)) ||
             hs_set_count(dict, "half_open_flows", g->table->half_open) ||
             hs_set_count(dict, "held_packets_now", g->held[0].count + g->held[1].count) ||
             hs_set_count(dict, "commit_now", g->commit) ||
             hs_set_count(dict, "commit_suspended_now", g->suspended[0] || g->suspended[1]) ||
             hs_set_count(dict, "nat_held_down", g->nat.held_down) ||
             hs_set_count(dict, "nat_other_half", g->nat.other_half) ||
             hs_set_count(dict, "hold_down_forgotten", g->nat.holds.forgotten) ||
             hs_set_count(dict, "nat_blocks_built", g->nat.pool.blocks_built) ||
             hs_set_count(dict, "nat_blocks", g->nat.pool.live) ||
             hs_set_count(dict, "mapping_lines_lost", g->mappings.lost);
    for (int i = HS_ACCEPTED + 1; i < HS_REJECTIONS && !failed; i++) {
        char name[64];

        PyOS_snprintf(name, sizeof name, "rejected_%s", hs_rejection_name((enum hs_rejection)i));
        failed = hs_set_count(dict, name, g->rejections[i]);
    }
    if (failed)
        Py_CLEAR(dict);
    return dict;
}

PyObject *hs_engine_flow_counts(PyObject *self, PyObject *unused)
{
    const struct hs_flow_table *t = gateway_of(self)->table;

    (void)unused;
    return Py_BuildValue("IIII", t->count, t->by_protocol[0], t->by_protocol[1], t->by_protocol[2]);
}

/* Of all places with this id: it may have moved to another address, or be one that nobody here knows (0). */
static uint32_t flows_of(const struct hs_service *service, uint32_t server_id)
{
    uint32_t flows = 0;

    for (uint32_t i = 0; i < service->backend_count; i++)
        if (service->backends[i].server_id == server_id)
            flows += service->backends[i].flows;
    return flows;
}

PyObject *hs_engine_backend_flow_counts(PyObject *self, PyObject *arguments)
{
    const struct hs_rules *rules = &gateway_of(self)->rules;
    unsigned int index;
    PyObject *dict;

    if (!PyArg_ParseTuple(arguments, "I", &index))
        return NULL;
    if (index >= rules->service_count) {
        PyErr_SetString(PyExc_IndexError, "no such service");
        return NULL;
    }
    dict = PyDict_New();
    for (uint32_t i = 0; dict && i < rules->services[index].backend_count; i++) {
        const struct hs_backend *backend = &rules->services[index].backends[i];
        PyObject *key = PyLong_FromUnsignedLong(backend->server_id);
        PyObject *flows = PyLong_FromUnsignedLong(flows_of(&rules->services[index], backend->server_id));

        if (!key || !flows || PyDict_SetItem(dict, key, flows))
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(flows);
    }
    return dict;
}

static PyObject *describe_flow(const struct hs_gateway *g, const struct hs_flow *flow,
                               uint64_t now_ms)
{
    const struct hs_tuple *o = &flow->tuple[HS_ORIGINAL], *r = &flow->tuple[HS_REPLY];
    bool is6 = o->family == HS_IPV6;
    struct hs_ends6 there = {0}, back = {0};
    const struct hs_backend *backend = hs_gateway_backend_of(g, flow);
    uint64_t left_ms = flow->expires_ms > now_ms ? flow->expires_ms - now_ms : 0;

    if (is6) {
        there = hs_flow_ends6(g->table, flow, HS_ORIGINAL);
        back = hs_flow_ends6(g->table, flow, HS_REPLY);
    }
    return Py_BuildValue("iNiNiNiNiiIiIiN", is6 && o->proto == HS_ICMP ? HS_ICMPV6 : o->proto,
                         is6 ? hs_wrap_address6(&there.src) : hs_wrap_address(o->src_addr), ntohs(o->src_port),
                         is6 ? hs_wrap_address6(&there.dst) : hs_wrap_address(o->dst_addr), ntohs(o->dst_port),
                         is6 ? hs_wrap_address6(&back.src) : hs_wrap_address(r->src_addr), ntohs(r->src_port),
                         is6 ? hs_wrap_address6(&back.dst) : hs_wrap_address(r->dst_addr), ntohs(r->dst_port),
                         flow->state,
                         (unsigned int)(left_ms / 1000), backend ? flow->rule : -1, backend ? backend->server_id : 0,
                         flow->flags & HS_FLOW_DNAT ? -1 : flow->rule,
                         PyBool_FromLong(flow->flags & HS_FLOW_AT_RISK));
}

PyObject *hs_engine_list_flows(PyObject *self, PyObject *arguments)
{
    const struct hs_gateway *g = gateway_of(self);
    const struct hs_flow_table *t = g->table;
    unsigned int count;
    unsigned long long now_ns;
    long long slot;
    PyObject *list;

    if (!PyArg_ParseTuple(arguments, "LIK", &slot, &count, &now_ns))
        return NULL;
    list = PyList_New(0);
    for (; list && slot >= 0 && slot < t->capacity && count; slot++) {
        PyObject *described;

        if (!(t->used[slot / 64] >> slot % 64)) {
            slot |= 63; /* nothing more in this word */
            continue;
        }
        if (!hs_flow_table_holds(t, (uint32_t)slot))
            continue;
        described = describe_flow(g, &t->flows[slot], now_ns / 1000000);
        if (!described || PyList_Append(list, described))
            Py_CLEAR(list);
        Py_XDECREF(described);
        count--;
    }
    return list ? Py_BuildValue("LN", slot < t->capacity ? slot : -1, list) : NULL;
}

static int append_vip(PyObject *list, int side, PyObject *address, const struct hs_claim *claim, uint64_t seen_ns)
{
    PyObject *vip = address ? Py_BuildValue("iNy#KK", side, address, claim->mac, (Py_ssize_t)sizeof claim->mac,
                                            (unsigned long long)claim->heard_ns, (unsigned long long)seen_ns)
                            : NULL;
    int error = !vip || PyList_Append(list, vip);

    Py_XDECREF(vip);
    return error ? -1 : 0;
}

PyObject *hs_engine_vip_states(PyObject *self, PyObject *unused)
{
    const struct hs_gateway *g = gateway_of(self);
    PyObject *list = PyList_New(0);

    (void)unused;
    for (uint32_t i = 0; list && i < g->rules.vip_count; i++) {
        const struct hs_vip *vip = &g->rules.vips[i];

        if (append_vip(list, vip->side, hs_wrap_address(vip->address), &g->claims[i], g->seen_ns[vip->side][0]))
            Py_CLEAR(list);
    }
    for (uint32_t i = 0; list && i < g->rules.vip6_count; i++) {
        const struct hs_vip6 *vip = &g->rules.vips6[i];

        if (append_vip(list, vip->side, hs_wrap_address6(&vip->address), &g->claims6[i], g->seen_ns[vip->side][1]))
            Py_CLEAR(list);
    }
    return list;
}
