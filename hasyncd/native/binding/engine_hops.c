#include <stdlib.h>

#include "binding/engine.h"

/* Routes of both families as they are read. */
struct tables {
    struct hs_route *routes;
    struct hs_route6 *routes6;
    uint32_t count, count6;
};

static int parse_route(PyObject *list, Py_ssize_t index, struct tables *tables)
{
    struct hs_either_prefix prefix;
    struct hs_either gateway;
    PyObject *address, *via;
    unsigned char side;
    int length;

    if (hs_parse_item(list, index, "OibO", &address, &length, &side, &via) || hs_check_side(side) ||
        hs_parse_prefix(address, length, &prefix) || hs_parse_either(via, &gateway))
        return -1;
    if (prefix.family == HS_IPV4 && gateway.family == HS_IPV4) {
        tables->routes[tables->count++] =
            (struct hs_route){prefix.v4.address, prefix.v4.mask, gateway.v4, side};
        return 0;
    }
    if (prefix.family == HS_IPV4 || gateway.v4) { /* 0: on link, in either family */
        PyErr_SetString(PyExc_ValueError, "a gateway is of its route's family");
        return -1;
    }
    tables->routes6[tables->count6++] = (struct hs_route6){prefix.v6, gateway.v6, (uint8_t)length, side};
    return 0;
}

PyObject *hs_engine_set_routes(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    struct tables tables = {0};
    PyObject *list;
    Py_ssize_t count, read = 0;

    if (!PyArg_ParseTuple(arguments, "O", &list) ||
        (count = hs_checked_size(list, HS_ROUTES_MAX, "routes")) < 0)
        return NULL;
    tables.routes = calloc((size_t)count + 1, sizeof *tables.routes);
    tables.routes6 = calloc((size_t)count + 1, sizeof *tables.routes6);
    if (!tables.routes || !tables.routes6)
        PyErr_NoMemory();
    else
        while (read < count && !parse_route(list, read, &tables))
            read++;
    if (!PyErr_Occurred()) {
        hs_next_hops_set_routes(&g->hops, tables.routes, tables.count);
        hs_next_hops6_set_routes(&g->hops6, tables.routes6, tables.count6);
        hs_offload_reroute(g);
    }
    free(tables.routes);
    free(tables.routes6);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

PyObject *hs_engine_set_neighbours(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    PyObject *list;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &list) || (count = PySequence_Size(list)) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        struct hs_neighbour *entry;
        struct hs_either address;
        unsigned char side;
        PyObject *mac, *value;

        if (hs_parse_item(list, i, "bOS", &side, &value, &mac) || hs_check_side(side) ||
            hs_parse_either(value, &address))
            return NULL;
        entry = address.family == HS_IPV6 ? hs_next_hops6_neighbour(&g->hops6, side, &address.v6)
                                          : hs_next_hops_neighbour(&g->hops, side, address.v4);
        if (!entry)
            continue; /* the mirror is full: the packet is counted where it finds no neighbour */
        entry->known = PyBytes_Size(mac) == 6;
        if (entry->known)
            memcpy(entry->mac, PyBytes_AsString(mac), 6);
    }
    hs_gateway_retry_unresolved(g, hs_boottime_ns());
    Py_RETURN_NONE;
}

/* Appends (side, address), whose reference it takes; false with an exception. */
static bool append_pair(PyObject *list, int side, PyObject *address)
{
    PyObject *pair = address ? Py_BuildValue("iN", side, address) : NULL;
    bool appended = pair && PyList_Append(list, pair) == 0;

    Py_XDECREF(pair);
    return appended;
}

/* (side, address) of the neighbours of both families for which `take` says so. */
static PyObject *list_neighbours(PyObject *self, bool (*take)(struct hs_neighbour *, uint64_t))
{
    struct hs_gateway *g = gateway_of(self);
    uint64_t now_ns = hs_boottime_ns();
    PyObject *list = PyList_New(0);
    bool good = list;

    for (uint32_t i = 0; good && i < HS_NEIGHBOURS; i++) {
        struct hs_neighbour *entry = &g->hops.neighbours[i];

        if (entry->address && take(entry, now_ns))
            good = append_pair(list, entry->side, hs_wrap_address(entry->address));
    }
    for (uint32_t i = 0; good && g->hops6.neighbour_count && i < HS_NEIGHBOURS; i++) {
        struct hs_neighbour6 *slot = &g->hops6.neighbours[i];

        if (slot->entry.address && take(&slot->entry, now_ns))
            good = append_pair(list, slot->entry.side, hs_wrap_address6(&slot->address));
    }
    if (!good)
        Py_CLEAR(list);
    return list;
}

static bool take_wanted(struct hs_neighbour *entry, uint64_t now_ns)
{
    if (!entry->wanted || entry->known ||
        (entry->asked_ns && now_ns - entry->asked_ns < 1000000000u))
        return false;
    entry->asked_ns = now_ns;
    entry->wanted = false;
    return true;
}

static bool take_used(struct hs_neighbour *entry, uint64_t now_ns)
{
    bool used = entry->used && entry->known;

    (void)now_ns;
    entry->used = false;
    return used;
}

PyObject *hs_engine_wanted_neighbours(PyObject *self, PyObject *unused)
{
    (void)unused;
    return list_neighbours(self, take_wanted);
}

PyObject *hs_engine_used_neighbours(PyObject *self, PyObject *unused)
{
    PyObject *list = list_neighbours(self, take_used);

    (void)unused;
    hs_next_hops_forget_unused(&gateway_of(self)->hops);
    hs_next_hops6_forget_unused(&gateway_of(self)->hops6);
    return list;
}
