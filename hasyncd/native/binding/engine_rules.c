#include <arpa/inet.h>
#include <stdlib.h>

#include "binding/engine.h"

int hs_parse_address(PyObject *value, uint32_t *address)
{
    unsigned long number = PyLong_AsUnsignedLong(value);

    if (PyErr_Occurred())
        return -1;
    if (number > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "an IPv4 address is below 2**32");
        return -1;
    }
    *address = htonl((uint32_t)number);
    return 0;
}

/* The mask of a prefix length; -1 with an exception where there is no such length. */
static int parse_mask(int prefix_length, uint32_t *mask)
{
    if (prefix_length < 0 || prefix_length > 32) {
        PyErr_SetString(PyExc_ValueError, "a prefix has 0 to 32 bits");
        return -1;
    }
    *mask = prefix_length ? htonl(UINT32_MAX << (32 - prefix_length)) : 0;
    return 0;
}

static int check_side(int side)
{
    if (side >= 0 && side < HS_SIDES)
        return 0;
    PyErr_SetString(PyExc_ValueError, "side 0 or 1");
    return -1;
}

static bool is_plain(PyObject *object)
{
    return PyList_Check(object) || PyTuple_Check(object);
}

/* Lists and tuples only: they hold what "O" and "S" borrow, where another sequence may make its items as it is
 * asked. */
int hs_parse_item(PyObject *sequence, Py_ssize_t index, const char *format, ...)
{
    PyObject *item = is_plain(sequence) ? PySequence_GetItem(sequence, index) : NULL;
    PyObject *tuple = item && is_plain(item) ? PySequence_Tuple(item) : NULL;
    va_list outputs;
    int parsed;

    va_start(outputs, format);
    parsed = tuple ? PyArg_VaParse(tuple, format, outputs) : 0;
    va_end(outputs);
    if (!tuple && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "a list of tuples");
    Py_XDECREF(tuple);
    Py_XDECREF(item);
    return parsed ? 0 : -1;
}

Py_ssize_t hs_checked_size(PyObject *sequence, Py_ssize_t maximum, const char *what)
{
    Py_ssize_t size = PySequence_Size(sequence);

    if (size > maximum) {
        PyErr_Format(PyExc_ValueError, "at most %zd %s", maximum, what);
        return -1;
    }
    return size;
}

int hs_parse_prefixes(PyObject *value, struct hs_prefixes *prefixes)
{
    Py_ssize_t count = hs_checked_size(value, HS_PREFIXES_MAX, "prefixes");

    if (count < 0)
        return -1;
    prefixes->count = (uint32_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned int address;
        int length;

        if (hs_parse_item(value, i, "Ii", &address, &length) ||
            parse_mask(length, &prefixes->list[i].mask))
            return -1;
        prefixes->list[i].address = htonl(address) & prefixes->list[i].mask;
    }
    return 0;
}

PyObject *hs_engine_set_vips(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    struct hs_vip parsed[HS_VIPS_MAX];
    PyObject *vips;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &vips) ||
        (count = hs_checked_size(vips, HS_VIPS_MAX, "VIPs")) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned int address;
        unsigned char side;

        if (hs_parse_item(vips, i, "bI", &side, &address) || check_side(side))
            return NULL;
        parsed[i] = (struct hs_vip){htonl(address), side};
    }
    if (count)
        memcpy(rules->vips, parsed, (size_t)count * sizeof *parsed);
    rules->vip_count = (uint32_t)count;
    Py_RETURN_NONE;
}

PyObject *hs_engine_set_service(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    unsigned int index, vip;
    unsigned short port;
    unsigned char protocol;
    struct hs_service *service;
    PyObject *allow;

    if (!PyArg_ParseTuple(arguments, "IIHbO", &index, &vip, &port, &protocol, &allow))
        return NULL;
    if (index > rules->service_count || index >= HS_SERVICES_MAX) {
        PyErr_SetString(PyExc_ValueError, "services are declared in order");
        return NULL;
    }
    service = &rules->services[index];
    if (index == rules->service_count) {
        *service = (struct hs_service){.backends = calloc(HS_BACKENDS_MAX, sizeof *service->backends)};
        if (!service->backends)
            return PyErr_NoMemory();
        rules->service_count++;
    }
    service->vip = htonl(vip);
    service->port = htons(port);
    service->proto = protocol;
    hs_nat_rules_changed(&gateway_of(self)->nat, rules);
    if (hs_parse_prefixes(allow, &service->allow))
        return NULL;
    Py_RETURN_NONE;
}

static struct hs_service *find_service(PyObject *self, unsigned int index)
{
    struct hs_rules *rules = &gateway_of(self)->rules;

    if (index < rules->service_count)
        return &rules->services[index];
    PyErr_SetString(PyExc_IndexError, "no such service");
    return NULL;
}

PyObject *hs_engine_publish_ring(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"index", "backends", "generation", "vnodes", NULL};
    static struct hs_backend backends[HS_BACKENDS_MAX];
    unsigned int index, generation, vnodes = 160;
    struct hs_service *service;
    PyObject *list;
    Py_ssize_t count;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "IOI|I", names, &index, &list,
                                     &generation, &vnodes) ||
        !(service = find_service(self, index)) ||
        (count = hs_checked_size(list, HS_BACKENDS_MAX, "backends")) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned int server_id, address;
        unsigned short port, weight;

        if (hs_parse_item(list, i, "IIHH", &server_id, &address, &port, &weight))
            return NULL;
        backends[i] = (struct hs_backend){
            .server_id = server_id, .address = htonl(address), .port = htons(port), .weight = weight};
    }
    if (hs_service_publish(service, backends, (uint32_t)count, generation, vnodes)) {
        PyErr_SetString(PyExc_ValueError, "more backends or vnodes than one service can hold");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *hs_engine_ring(PyObject *self, PyObject *arguments)
{
    struct hs_service *service;
    unsigned int index;
    PyObject *list;

    if (!PyArg_ParseTuple(arguments, "I", &index) || !(service = find_service(self, index)))
        return NULL;
    list = PyList_New(0);
    for (uint32_t i = 0; list && service->ring && i < service->ring->count; i++) {
        const struct hs_vnode *v = &service->ring->vnodes[i];
        PyObject *vnode = Py_BuildValue("IIHI", v->point, v->server_id, v->weight, v->generation);

        if (!vnode || PyList_Append(list, vnode))
            Py_CLEAR(list);
        Py_XDECREF(vnode);
    }
    return list;
}

PyObject *hs_engine_set_routes(PyObject *self, PyObject *arguments)
{
    struct hs_next_hops *hops = &gateway_of(self)->hops;
    struct hs_route *routes;
    PyObject *list;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &list) ||
        (count = hs_checked_size(list, HS_ROUTES_MAX, "routes")) < 0)
        return NULL;
    routes = calloc((size_t)count + 1, sizeof *routes);
    if (!routes)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned int prefix, gateway;
        int length;
        unsigned char side;

        if (hs_parse_item(list, i, "IibI", &prefix, &length, &side, &gateway) ||
            check_side(side) || parse_mask(length, &routes[i].mask)) {
            free(routes);
            return NULL;
        }
        routes[i].prefix = htonl(prefix) & routes[i].mask;
        routes[i].gateway = htonl(gateway);
        routes[i].side = side;
    }
    hs_next_hops_set_routes(hops, routes, (uint32_t)count);
    free(routes);
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
        unsigned char side;
        unsigned int address;
        PyObject *mac;

        if (hs_parse_item(list, i, "bIS", &side, &address, &mac) || check_side(side))
            return NULL;
        entry = hs_next_hops_neighbour(&g->hops, side, htonl(address));
        if (!entry)
            continue; /* the mirror is full: the packet is counted where it finds no neighbour */
        entry->known = PyBytes_Size(mac) == 6;
        if (entry->known)
            memcpy(entry->mac, PyBytes_AsString(mac), 6);
    }
    hs_gateway_retry_unresolved(g, hs_boottime_ns());
    Py_RETURN_NONE;
}

/* (side, address) of the neighbours for which `take` says so. */
static PyObject *list_neighbours(PyObject *self, bool (*take)(struct hs_neighbour *, uint64_t))
{
    struct hs_next_hops *hops = &gateway_of(self)->hops;
    uint64_t now_ns = hs_boottime_ns();
    PyObject *list = PyList_New(0);

    for (uint32_t i = 0; list && i < HS_NEIGHBOURS; i++) {
        struct hs_neighbour *entry = &hops->neighbours[i];
        PyObject *pair;

        if (!entry->address || !take(entry, now_ns))
            continue;
        pair = Py_BuildValue("iI", entry->side, ntohl(entry->address));
        if (!pair || PyList_Append(list, pair))
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
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
    return list;
}
