#include <arpa/inet.h>
#include <string.h>

#include "binding/engine.h"
#include "core/backend_flows.h"

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
    int state;

    if (hs_parse_item(list, index, "IOHHi", &server_id, &value, &port, &weight, &state) ||
        hs_parse_either(value, &address))
        return -1;
    if (state < HS_BACKEND_UP || state > HS_BACKEND_DOWN) {
        PyErr_SetString(PyExc_ValueError, "a backend is up (0), draining (1) or down (2)");
        return -1;
    }
    if (address.family != service->family) {
        PyErr_SetString(PyExc_ValueError, "a backend is of its service's family");
        return -1;
    }
    if (address.family == HS_IPV6 && hs_check_forwardable(&address.v6))
        return -1;
    *backend = (struct hs_backend){.server_id = server_id, .address = address.v4, .port = htons(port),
                                   .weight = weight, .state = (uint8_t)state, .address6 = address.v6};
    return 0;
}

PyObject *hs_engine_set_balance(PyObject *self, PyObject *arguments)
{
    static const char *const keys[] = {"tuple", "source", "source-port"};
    unsigned int index, load_limit_percent;
    const char *key, *when_empty = "drop";
    struct hs_service *service;
    bool refuses;

    if (!PyArg_ParseTuple(arguments, "IsI|s", &index, &key, &load_limit_percent, &when_empty) ||
        !(service = find_service(self, index)))
        return NULL;
    refuses = strcmp(when_empty, "reject") == 0;
    if (!refuses && strcmp(when_empty, "drop") != 0) {
        PyErr_SetString(PyExc_ValueError, "an empty pool drops or rejects");
        return NULL;
    }
    for (int i = HS_KEY_TUPLE; i <= HS_KEY_SOURCE_PORT; i++) {
        if (strcmp(key, keys[i]) == 0 && (!load_limit_percent || load_limit_percent > 100)) {
            service->key = (enum hs_balance_key)i;
            service->load_limit_percent = load_limit_percent;
            service->refuses = refuses;
            Py_RETURN_NONE;
        }
    }
    PyErr_SetString(PyExc_ValueError, "no such key, or a limit below the fair share");
    return NULL;
}

static const char *const refusals[] = {
    [HS_NO_PLACES] = "more backends than one service can hold, those that left and have flows included",
    [HS_LISTED_TWICE] = "an id or an address that is listed twice",
    [HS_NOT_LISTED] = "a member that is no backend",
    [HS_DRAINING_USED] = "a member that is draining",
};

/* Only the exchange itself is under the lock: nothing of Python's, nothing that is freed. */
PyObject *hs_engine_publish(PyObject *self, PyObject *arguments)
{
    static struct hs_backend backends[HS_BACKENDS_MAX];
    struct hs_packet_io *io = ((struct engine *)self)->io;
    struct hs_backend_table *table, *unused = NULL;
    unsigned long long grace_until_ns = 0;
    enum hs_publish_result result;
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
    hs_packet_io_lock(io);
    result = hs_service_publish(service, backends, (uint32_t)count, table, grace_until_ns, &unused);
    hs_offload_judge_backends(gateway_of(self));
    hs_packet_io_unlock(io);
    hs_release_backend_table(result ? table : unused);
    if (!result)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, refusals[result]);
    return NULL;
}

PyObject *hs_engine_end_backend_flows(PyObject *self, PyObject *arguments)
{
    unsigned int index, server_id, count;
    long long slot;
    int64_t next;
    uint32_t ended;
    int how;

    if (!PyArg_ParseTuple(arguments, "IIiLI", &index, &server_id, &how, &slot, &count) || !find_service(self, index))
        return NULL;
    if (how < 0 || how >= HS_ENDS) {
        PyErr_SetString(PyExc_ValueError, "flows end silently (0), by resets (1) or reselected (2)");
        return NULL;
    }
    next = slot;
    ended = hs_gateway_end_backend_flows(gateway_of(self), index, server_id, (enum hs_backend_end)how, &next, count,
                                         hs_boottime_ns());
    return Py_BuildValue("LI", (long long)next, ended);
}

PyObject *hs_engine_backend_counters(PyObject *self, PyObject *arguments)
{
    struct hs_service *service;
    unsigned int index;
    PyObject *list;

    if (!PyArg_ParseTuple(arguments, "I", &index) || !(service = find_service(self, index)))
        return NULL;
    list = PyList_New(0);
    for (uint32_t i = 0; list && i < service->backend_count; i++) {
        const struct hs_backend *b = &service->backends[i];
        const struct hs_backend_counts *c = &b->counts;
        PyObject *row;

        if (b->state >= HS_BACKEND_REMOVED && !b->flows)
            continue;
        row = Py_BuildValue("IiIKKKKKK", b->server_id, b->state, b->flows, (unsigned long long)c->new_flows,
                            (unsigned long long)c->packets, (unsigned long long)c->bytes,
                            (unsigned long long)c->syn_unanswered, (unsigned long long)c->resets,
                            (unsigned long long)c->refused);
        if (!row || PyList_Append(list, row))
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
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
