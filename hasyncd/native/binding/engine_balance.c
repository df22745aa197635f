#include <arpa/inet.h>
#include <string.h>

#include "binding/engine.h"

static struct hs_service *find_service(PyObject *self, unsigned int index)
{
    struct hs_rules *rules = &gateway_of(self)->rules;

    if (index < rules->service_count)
        return &rules->services[index];
    PyErr_SetString(PyExc_IndexError, "no such service");
    return NULL;
}

static int parse_backend(PyObject *list, Py_ssize_t index, const struct hs_service *service,
                         struct hs_backend *backend)
{
    unsigned int server_id;
    unsigned short port, weight;
    struct hs_either address;
    PyObject *value;

    if (hs_parse_item(list, index, "IOHH", &server_id, &value, &port, &weight) || hs_parse_either(value, &address))
        return -1;
    if (address.family != service->family) {
        PyErr_SetString(PyExc_ValueError, "a backend is of its service's family");
        return -1;
    }
    if (address.family == HS_IPV6 && hs_check_forwardable(&address.v6))
        return -1;
    *backend = (struct hs_backend){.server_id = server_id, .address = address.v4, .port = htons(port),
                                   .weight = weight, .address6 = address.v6};
    return 0;
}

PyObject *hs_engine_set_balance(PyObject *self, PyObject *arguments)
{
    static const char *const keys[] = {"tuple", "source", "source-port"};
    unsigned int index, load_limit_percent;
    struct hs_service *service;
    const char *key;

    if (!PyArg_ParseTuple(arguments, "IsI", &index, &key, &load_limit_percent) ||
        !(service = find_service(self, index)))
        return NULL;
    for (int i = HS_KEY_TUPLE; i <= HS_KEY_SOURCE_PORT; i++) {
        if (strcmp(key, keys[i]) == 0 && (!load_limit_percent || load_limit_percent > 100)) {
            service->key = (enum hs_balance_key)i;
            service->load_limit_percent = load_limit_percent;
            Py_RETURN_NONE;
        }
    }
    PyErr_SetString(PyExc_ValueError, "no such key, or a limit below the fair share");
    return NULL;
}

PyObject *hs_engine_publish(PyObject *self, PyObject *arguments)
{
    static struct hs_backend backends[HS_BACKENDS_MAX];
    struct hs_backend_table *table, *unused = NULL;
    unsigned long long grace_until_ns = 0;
    struct hs_service *service;
    PyObject *list, *wrapped;
    unsigned int index;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "IOO|K", &index, &list, &wrapped, &grace_until_ns) ||
        !(table = hs_parse_backend_table(wrapped)) ||
        !(service = find_service(self, index)) ||
        (count = hs_checked_size(list, HS_BACKENDS_MAX, "backends")) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        if (parse_backend(list, i, service, &backends[i]))
            return NULL;
    table->references++;
    if (hs_service_publish(service, backends, (uint32_t)count, table, grace_until_ns, &unused)) {
        hs_release_backend_table(table);
        PyErr_SetString(PyExc_ValueError, "a member that is no backend, or more backends than one service can hold");
        return NULL;
    }
    hs_release_backend_table(unused);
    Py_RETURN_NONE;
}

/* How many flows of a service, from a slot on, have another backend than their key has in a table. */
PyObject *hs_engine_count_moving(PyObject *self, PyObject *arguments)
{
    const struct hs_gateway *g = gateway_of(self);
    const struct hs_flow_table *t = g->table;
    struct hs_backend_table *table;
    struct hs_service *service;
    unsigned int index, count;
    uint32_t flows = 0, moving = 0;
    PyObject *wrapped;
    long long slot;

    if (!PyArg_ParseTuple(arguments, "IOLI", &index, &wrapped, &slot, &count) ||
        !(table = hs_parse_backend_table(wrapped)) || !(service = find_service(self, index)))
        return NULL;
    for (; slot >= 0 && slot < t->capacity && count; slot++, count--) {
        const struct hs_flow *flow = &t->flows[slot];
        const struct hs_backend *backend;
        int member;

        if (!hs_flow_table_holds(t, (uint32_t)slot) || flow->rule != (int)index ||
            !(backend = hs_gateway_backend_of(g, flow)))
            continue;
        member = hs_backend_table_find(table, hs_service_key(service, t->seed, &flow->tuple[HS_ORIGINAL]));
        flows++;
        moving += member < 0 || table->members[member].server_id != backend->server_id;
    }
    return Py_BuildValue("LII", slot < t->capacity ? slot : -1, flows, moving);
}
