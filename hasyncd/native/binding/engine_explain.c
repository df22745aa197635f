/* Engine.explain: core/explain.h as nested dictionaries. */
#include <arpa/inet.h>

#include "binding/engine.h"
#include "core/explain.h"

static PyObject *wrap_end(bool is6, uint32_t address, const struct hs_address6 *address6)
{
    return is6 ? hs_wrap_address6(address6) : hs_wrap_address(address);
}

/* (src, sport, dst, dport) */
static PyObject *wrap_ends(const struct hs_tuple *t, const struct hs_ends6 *ends6)
{
    bool is6 = t->family == HS_IPV6;

    return Py_BuildValue("(NiNi)", wrap_end(is6, t->src_addr, &ends6->src), ntohs(t->src_port),
                         wrap_end(is6, t->dst_addr, &ends6->dst), ntohs(t->dst_port));
}

static PyObject *wrap_backend(const struct hs_service *service, int place)
{
    const struct hs_backend *b;

    if (place < 0)
        Py_RETURN_NONE;
    b = &service->backends[place];
    return Py_BuildValue("{s:I,s:N,s:i,s:i,s:i,s:N,s:I}", "id", b->server_id, "address",
                         wrap_end(service->family == HS_IPV6, b->address, &b->address6), "port", ntohs(b->port),
                         "weight", b->weight, "state", b->state, "in_table", PyBool_FromLong(b->in_table), "flows",
                         b->flows);
}

static PyObject *wrap_flow(const struct hs_gateway *g, const struct hs_explanation *e, uint64_t now_ms)
{
    const struct hs_flow *flow = e->live.flow;
    struct hs_ends6 there = {0}, back = {0};
    const struct hs_backend *backend;

    if (!flow)
        Py_RETURN_NONE;
    if (flow->tuple[HS_ORIGINAL].family == HS_IPV6) {
        there = hs_flow_ends6(g->table, flow, HS_ORIGINAL);
        back = hs_flow_ends6(g->table, flow, HS_REPLY);
    }
    backend = hs_gateway_backend_of(g, flow);
    return Py_BuildValue("{s:N,s:N,s:N,s:i,s:K,s:i,s:i,s:N,s:N,s:N}", "is_reply",
                         PyBool_FromLong(e->live.direction == HS_REPLY), "original",
                         wrap_ends(&flow->tuple[HS_ORIGINAL], &there), "reply",
                         wrap_ends(&flow->tuple[HS_REPLY], &back), "state", flow->state, "left_ms",
                         (unsigned long long)(flow->expires_ms > now_ms ? flow->expires_ms - now_ms : 0), "service",
                         backend ? flow->rule : -1, "nat_rule", flow->flags & HS_FLOW_DNAT ? -1 : flow->rule,
                         "backend",
                         backend ? wrap_backend(&g->rules.services[flow->rule],
                                                (int)(backend - g->rules.services[flow->rule].backends))
                                 : Py_NewRef(Py_None),
                         "begins_anew", PyBool_FromLong(e->begins_anew), "given_up", PyBool_FromLong(e->given_up));
}

static PyObject *wrap_choice(const struct hs_gateway *g, const struct hs_explanation *e)
{
    const struct hs_opening *o = &e->decision.opening;
    const struct hs_choice *c = &e->choice;
    const struct hs_service *service;

    if (o->service < 0)
        Py_RETURN_NONE;
    service = &g->rules.services[o->service];
    return Py_BuildValue("{s:i,s:I,s:I,s:K,s:I,s:I,s:I,s:N,s:N,s:N}", "service", o->service, "key", c->key,
                         "generation", c->table ? c->table->generation : 0, "digest",
                         (unsigned long long)(c->table ? c->table->digest : 0), "place", c->place, "places",
                         !c->table ? 0 : c->table->ring ? c->table->ring->count : c->table->slot_count, "point",
                         c->point, "owner", wrap_backend(service, c->owner), "backend",
                         wrap_backend(service, e->passes ? o->backend : -1), "before",
                         wrap_backend(service, c->before));
}

static PyObject *wrap_decision(const struct hs_gateway *g, const struct hs_explanation *e)
{
    const struct hs_decision *d = &e->decision;

    return Py_BuildValue("{s:N,s:z,s:N,s:N,s:i,s:i,s:N,s:i,s:N,s:N,s:N}", "passes", PyBool_FromLong(e->passes),
                         "dropped", e->dropped, "answered", PyBool_FromLong(e->answered), "told",
                         PyBool_FromLong(e->told), "forward",
                         d->in ? (int)(d->in - g->rules.forwards) : -1, "own", d->own ? (int)(d->own - g->rules.forwards) : -1,
                         "exempt", PyBool_FromLong(d->exempt), "nat_rule", d->opening.rule, "pass",
                         d->pass ? PyLong_FromLong((long)(d->pass - g->rules.passes)) : Py_NewRef(Py_None), "reply",
                         e->passes ? wrap_ends(&d->opening.tuple[HS_REPLY], &e->reply6) : Py_NewRef(Py_None),
                         "preference",
                         e->pooled ? wrap_ends(&e->preference, &e->reply6) : Py_NewRef(Py_None));
}

static int parse_question(PyObject *arguments, struct hs_question *q, unsigned long long *now_ns)
{
    unsigned short src_port, dst_port;
    struct hs_either src, dst;
    PyObject *from, *to;
    unsigned char proto;

    if (!PyArg_ParseTuple(arguments, "bOHOHK", &proto, &from, &src_port, &to, &dst_port, now_ns) ||
        hs_parse_either(from, &src) || hs_parse_either(to, &dst))
        return -1;
    if (src.family != dst.family) {
        PyErr_SetString(PyExc_ValueError, "both ends are of one family");
        return -1;
    }
    if (proto != HS_TCP && proto != HS_UDP && proto != (src.family == HS_IPV6 ? HS_ICMPV6 : HS_ICMP)) {
        PyErr_SetString(PyExc_ValueError, "TCP (6), UDP (17), or the family's ICMP (1, 58)");
        return -1;
    }
    *q = (struct hs_question){.family = src.family,
                              .proto = proto == HS_ICMPV6 ? HS_ICMP : proto,
                              .src = src.v4,
                              .dst = dst.v4,
                              .ends6 = {src.v6, dst.v6},
                              .src_port = htons(src_port),
                              .dst_port = htons(dst_port)};
    return 0;
}

PyObject *hs_engine_explain(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    struct hs_explanation explanation;
    struct hs_question question;
    unsigned long long now_ns;

    if (parse_question(arguments, &question, &now_ns))
        return NULL;
    if (hs_gateway_explain(g, &question, &explanation, now_ns)) {
        PyErr_SetString(PyExc_ValueError, "no packet has such ends");
        return NULL;
    }
    return Py_BuildValue("{s:i,s:N,s:N,s:N,s:N}", "side", explanation.side, "armed",
                         PyBool_FromLong(explanation.armed), "flow", wrap_flow(g, &explanation, now_ns / 1000000),
                         "decision", wrap_decision(g, &explanation), "choice", wrap_choice(g, &explanation));
}
